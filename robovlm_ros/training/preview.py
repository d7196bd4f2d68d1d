"""What would learn, before anything is loaded: a policy without memory under the switches of a fine-tuning."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from robovlm_ros.contract import Contract
from robovlm_ros.training.finetuning import FinetuneOptions, configure
from robovlm_ros.training.optimisation import build_optimizer
from robovlm_ros.training.switches import Trainable, apply_switches, parts, trainable
from robovlm_ros.vlm.adapters import adapted
from robovlm_ros.vlm.folders import check_known, vlm_config
from robovlm_ros.vlm.policy import ActionTokenPolicy


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What learns under some options."""

    rows: list[Trainable]
    """Part by part, as `finetune` writes it into measured.json."""
    modules: dict[str, str]
    """Part → name of its module in the policy; empty for the policy itself."""
    rates: dict[str, tuple[float, ...]]
    """Part → the largest learning rates of what learns in it; empty where nothing does."""
    adapted: list[str]
    """Names of the backbone's layers that get adapters."""


def preview(options: FinetuneOptions, base: str | os.PathLike[str], contract: Contract) -> Preview:
    """Apply the switches to a model that has shapes but no weights; the configuration of the base is enough."""
    config = vlm_config(base)
    check_known(base, config.model_type, "it is")
    settings = configure(options, config, contract)
    with torch.device("meta"):
        vlm: Any = AutoModelForImageTextToText.from_config(config)
        policy = ActionTokenPolicy.from_vlm(vlm, settings)
        apply_switches(policy, options, options.seed)
        groups = build_optimizer(policy, options).param_groups
    rates = {id(parameter): float(group["lr"]) for group in groups for parameter in group["params"]}
    names = {id(module): name for name, module in policy.named_modules()}
    found = parts(policy)
    return Preview(
        rows=trainable(policy),
        modules={part: names.get(id(module), "") for part, (module, _) in found.items()},
        rates={part: tuple(sorted({rates[id(p)] for p in own if id(p) in rates})) for part, (_, own) in found.items()},
        adapted=adapted(policy),
    )
