"""How weights are moved: the options of the optimiser, shared by both training stages, and the optimiser itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy

SCHEDULES = {"cosine": "cosine", "constant": "constant_with_warmup"}
"""Name → transformers' name of what the learning rate does behind the warm-up."""

PRECISIONS = ("float32", "bfloat16")
"""What a training computes in."""


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """AdamW (Loshchilov and Hutter 2019) and its learning rate."""

    steps: int = 2000
    """Optimiser steps."""
    batch_size: int = 64
    """Samples per step, of all processes together."""
    learning_rate: float = 1e-3
    """Largest learning rate of AdamW."""
    schedule: str = "cosine"
    """What the learning rate does behind the warm-up: cosine (falls to 0) or constant."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Weight decay of AdamW; none on vectors."""
    clip: float = 1.0
    """Largest gradient norm; of all that learns together."""
    seed: int = 0
    """Seed of weights, data and order."""
    threads: int = 1
    """Torch threads; small models are fastest on one."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            check_positive(name, getattr(self, name))
        for name in ("warmup_steps", "weight_decay", "seed"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be at least 0, not {value:g}")
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule '{self.schedule}' is not one of: {', '.join(SCHEDULES)}")


@dataclass(frozen=True, kw_only=True)
class PolicyOptimisation(Optimisation):
    """The same with rates of their own for what the policy adds to the backbone."""

    new_rate: float = 2.0
    """Learning rate of what is new, as a multiple of learning_rate."""
    token_rate: float | None = None
    """Learning rate of action tokens and state token, as a multiple of learning_rate; None: new_rate."""
    head_rate: float | None = None
    """Learning rate of the policy head, as a multiple of learning_rate; None: new_rate."""
    accumulate: int = 1
    """Parts that a step is computed in, one after the other: as much memory as for batch_size / accumulate
    observations in each process, and the same gradients."""
    gradient_checkpointing: bool = False
    """Keep only what enters each layer of the backbone, and compute the rest again for gradients: less memory, more
    time."""
    precision: str = "float32"
    """What is computed in: float32 (as in the weights' own type), or bfloat16 where it is harmless (mixed precision);
    what learns is in float32 either way."""
    fused: bool = False
    """Move all weights in one kernel of AdamW: the same rule, rounded otherwise; less time where weights are many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accumulate < 1:
            raise UserError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision '{self.precision}' is not one of: {', '.join(PRECISIONS)}")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size {self.batch_size} cannot be computed in {self.accumulate} parts that are alike: choose "
                "an accumulate that divides it"
            )
        for name in ("new_rate", "token_rate", "head_rate"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def multiple(self, name: str) -> float:
        """Of a policy's parameter by its name, the learning rate as a multiple of learning_rate.

        Adapters stand in the backbone and learn at its rate.
        """
        if name.startswith("vlm."):
            return 1.0
        own = {"action_token": self.token_rate, "state_token": self.token_rate, "head": self.head_rate}
        rate = own.get(name.split(".")[0])
        return self.new_rate if rate is None else rate


def check_positive(name: str, value: float) -> None:
    """UserError unless an option is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} must be a number above 0, not {value:g}")


def build_optimizer(policy: ActionTokenPolicy, options: PolicyOptimisation) -> torch.optim.AdamW:
    """AdamW with a group for each learning rate, and no weight decay on vectors."""
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name not in ("action_token", "resampler.queries")
            groups.setdefault((options.multiple(name), decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "lr": options.learning_rate * multiple,
                "weight_decay": options.weight_decay if decays else 0.0,
            }
            for (multiple, decays), members in groups.items()
        ],
        lr=options.learning_rate,
        fused=options.fused or None,  # None: as torch chooses
    )
