"""In which type a model's weights are, and with which implementation its attention is computed."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from robovlm_ros.checkpoints import ATTENTIONS, check_computing
from robovlm_ros.errors import UserError

_FLASH = "flash_attention_2"
_OTHERS = ", ".join(name for name in ATTENTIONS if name != _FLASH)


def from_pretrained_options(dtype: Any, attention: str) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained`; UserError for a choice that cannot be had on this machine.

    Args:
        dtype: one of `robovlm_ros.checkpoints.DTYPES`, or a type of torch.
        attention: one of `robovlm_ros.checkpoints.ATTENTIONS`.
    """
    check_computing(dtype if isinstance(dtype, str) else "auto", attention)
    if attention == _FLASH and not any(importlib.util.find_spec(name) for name in ("flash_attn", "kernels")):
        raise UserError(f"attention '{_FLASH}' needs the package flash-attn or kernels; without: {_OTHERS}")
    return {"dtype": dtype, **({} if attention == "auto" else {"attn_implementation": attention})}


def check_device(attention: str, device: torch.device) -> None:
    """UserError for an attention that this device cannot compute."""
    if attention == _FLASH and device.type != "cuda":
        raise UserError(f"attention '{_FLASH}' needs a CUDA device, not '{device}'; without: {_OTHERS}")


def check_model(model: Any, attention: str) -> None:
    """UserError for a loaded model whose weights the attention cannot take."""
    if attention == _FLASH and model.dtype not in (torch.float16, torch.bfloat16):
        raise UserError(f"attention '{_FLASH}' computes in halves, and these weights are whole: set dtype to bfloat16")


def check_trained_types(model: torch.nn.Module) -> None:
    """UserError for weights that would learn in float16.

    There the squares of most gradients, and AdamW's smallest divisor (1e-8), are 0: the first step makes NaN.
    """
    if any(p.requires_grad and p.dtype == torch.float16 for p in model.parameters()):
        raise UserError(
            "weights in float16 cannot be trained, for the first step makes NaN: set dtype to bfloat16 or float32, "
            "or train adapters beside them (lora_rank)"
        )
