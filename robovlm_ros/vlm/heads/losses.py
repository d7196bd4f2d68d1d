"""Losses over action chunks, masked over time; binary dimensions apart from continuous ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from robovlm_ros.errors import UserError

CONTINUOUS: dict[str, Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]] = {
    "mse": lambda a, b, _: (a - b) ** 2,
    "l1": lambda a, b, _: (a - b).abs(),
    # Huber 1964: e²/2 within |e| <= delta, delta (|e| - delta / 2) beyond
    "huber": lambda a, b, delta: functional.huber_loss(a, b, reduction="none", delta=delta),
}
"""Name → error per element of continuous dimensions; the last argument is Huber's delta."""


def chunk_loss(
    predicted: torch.Tensor,
    actions: torch.Tensor,
    valid: torch.Tensor,
    binary: torch.Tensor,
    *,
    kind: str,
    binary_weight: float,
    huber_delta: float = 1.0,
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
        huber_delta: error at which `huber` goes from squared to linear.
    """
    total = predicted.new_zeros(())
    if bool((~binary).any()):
        error = CONTINUOUS[kind](predicted[..., ~binary], actions[..., ~binary], huber_delta)  # (..., C, continuous)
        total = total + masked_mean(error, valid)
    if bool(binary.any()):
        logits, labels = predicted[..., binary], actions[..., binary]  # (..., C, binary)
        error = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        total = total + binary_weight * masked_mean(error, valid)
    return total


def check_binary_weight(weight: float) -> None:
    """UserError unless a head's weight of the binary dimensions is a number from 0."""
    if not (math.isfinite(weight) and weight >= 0):
        raise UserError(f"the head's binary_weight must be at least 0, not {weight:g}")


def masked_mean(error: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Scalar mean of an error (..., C, n) over its dimensions and the steps where valid (..., C) is 1; 0 for none.

    Steps that do not count have a gradient of exactly 0.
    """
    weight = valid.to(error.dtype)[..., None]  # (..., C, 1)
    return (error * weight).sum() / (weight.sum().clamp(min=1.0) * error.shape[-1])
