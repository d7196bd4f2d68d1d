"""What a policy head is: from action latents to a chunk of actions, with its own loss."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """What every head is told: the sizes that the contract and the backbone dictate."""

    hidden_size: int
    """Width of an action latent."""
    latent_num: int
    """Action latents per observation."""
    chunk_size: int
    """Actions of a chunk [steps]."""
    binary: tuple[bool, ...]
    """(action_dim,) True where the action is binary."""
    window: int = 1
    """Observations that a decision may rest on, its own among them."""


class PolicyHead(nn.Module):
    """Action latents (B, W, latent_num, hidden_size) of a window to action chunks (B, W, chunk_size, action_dim).

    A window is observations in their order, as many as there are and at most ``shape.window``: one observation
    alone is a window of 1. A head is causal, the chunk of an observation rests on it and on those before it, and
    keeps nothing from one call to the next: whoever runs it hands it the window.

    A head is one file that registers itself in `robovlm_ros.vlm.heads.HEADS` under its name, with a
    dataclass of its options.
    """

    fuses_history: ClassVar[bool] = False
    """Whether it looks at observations before the newest; without, only windows of 1 make sense."""
    words: int = 0
    """Words of the end of the vocabulary whose vectors it begins with; see `inherit`."""
    answers: bool = False
    """Whether the VLM reads each value before it says the next; see `robovlm_ros.vlm.answering`."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape

    @property
    def binary(self) -> torch.Tensor:
        """(action_dim,) True where the action is binary. No buffer: loading leaves buffers that are not saved empty."""
        return torch.tensor(self.shape.binary, dtype=torch.bool, device=next(self.parameters()).device)

    def inherit(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        """Begin with what the VLM knows of `words`: their vectors (words, D) in its head and in its word embedding."""

    def loss(self, latents: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Scalar training loss against normalised actions (B, W, C, A), 0/1 where binary; valid (B, W, C)."""
        raise NotImplementedError

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A) normalised actions; where binary, the probability of 1."""
        raise NotImplementedError


def options_of(cls: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Options with all defaults filled in, as plain values for the configuration file."""
    plain = dataclasses.asdict(cls(**values))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
