"""Losses over action chunks, masked over time; binary dimensions apart from continuous ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from robovlm_ros.errors import UserError

CONTINUOUS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": lambda a, b: (a - b) ** 2,
    "l1": lambda a, b: (a - b).abs(),
    # Huber 1964: e²/2 within |e| <= 1, |e| - 1/2 beyond
    "huber": lambda a, b: functional.huber_loss(a, b, reduction="none", delta=1.0),
}
"""Name → error per element of continuous dimensions."""


def chunk_loss(
    predicted: torch.Tensor,
    actions: torch.Tensor,
    valid: torch.Tensor,
    binary: torch.Tensor,
    *,
    kind: str,
    binary_weight: float,
) -> torch.Tensor:
    """Masked mean error of a chunk: continuous(predicted, actions) + binary_weight x BCE(logits, 0/1).

    Each of the two is the mean over its dimensions and over the valid steps; the binary one is
    -[y·log σ(z) + (1-y)·log(1-σ(z))] of the logit z.

    Args:
        predicted: (..., C, A) normalised values, logits where binary.
        actions: (..., C, A) normalised targets, 0 or 1 where binary.
        valid: (..., C) 1 for steps that count.
        binary: (A,) True where the dimension is binary.
        kind: a key of `CONTINUOUS`.
        binary_weight: weight of the binary part.
    """
    if kind not in CONTINUOUS:
        raise UserError(f"loss '{kind}' is not one of: {', '.join(CONTINUOUS)}")
    total = predicted.new_zeros(())
    if bool((~binary).any()):
        error = CONTINUOUS[kind](predicted[..., ~binary], actions[..., ~binary])  # (..., C, continuous)
        total = total + masked_mean(error, valid)
    if bool(binary.any()):
        logits, labels = predicted[..., binary], actions[..., binary]  # (..., C, binary)
        error = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        total = total + binary_weight * masked_mean(error, valid)
    return total


def masked_mean(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Scalar mean of an error (..., C, n) over its dimensions and the steps where valid (..., C) is 1; 0 for none."""
    weight = valid.to(error.dtype)[..., None]  # (..., C, 1)
    return (error * weight).sum() / (weight.sum().clamp(min=1.0) * error.shape[-1])
