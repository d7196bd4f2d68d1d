"""What heads that say the chunk outright have in common: an MLP behind whatever joins the window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead
from robovlm_ros.vlm.heads.losses import CONTINUOUS, check_binary_weight, chunk_loss


@dataclass(frozen=True, kw_only=True)
class RegressionOptions:
    """Options of every head that says the chunk outright."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    loss: str = "l1"
    """Error of continuous dimensions: l1, huber or mse."""
    binary_weight: float = 0.01
    """Weight of the binary dimensions' cross entropy."""
    huber_delta: float = 1.0
    """Error at which loss huber goes from squared to linear, in normalised units."""

    def __post_init__(self) -> None:
        if self.loss not in CONTINUOUS:
            raise UserError(f"the head's loss '{self.loss}' is not one of: {', '.join(CONTINUOUS)}")
        if not all(width >= 1 for width in self.hidden):
            raise UserError(f"the head's hidden widths must be at least 1, not {list(self.hidden)}")
        check_binary_weight(self.binary_weight)
        if not (math.isfinite(self.huber_delta) and self.huber_delta > 0):
            raise UserError(f"the head's huber_delta must be above 0, not {self.huber_delta:g}")


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with GELU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class RegressionHead(PolicyHead):
    """Flatten the latents, join the window, then hidden layers and one linear layer to chunk_size x action_dim."""

    def __init__(self, shape: HeadShape, options: RegressionOptions, joined: int) -> None:
        """``joined``: width of what `join` gives."""
        super().__init__(shape)
        self.options = options
        self.layers = perceptron([joined, *options.hidden, shape.chunk_size * len(shape.binary)])

    def join(self, flat: torch.Tensor) -> torch.Tensor:
        """(B, W, joined) of flattened latents (B, W, latent_num * hidden_size), each of its past and itself."""
        raise NotImplementedError

    def raw(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A) normalised values, logits where binary."""
        flat: torch.Tensor = self.layers(self.join(latents.flatten(2)))  # (B, W, C * A)
        return flat.view(*flat.shape[:2], self.shape.chunk_size, len(self.shape.binary))  # (B, W, C, A)

    def loss(self, latents: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return chunk_loss(
            self.raw(latents), actions, valid, self.binary,
            kind=self.options.loss, binary_weight=self.options.binary_weight, huber_delta=self.options.huber_delta,
        )  # fmt: skip

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        raw = self.raw(latents)
        return torch.where(self.binary, raw.sigmoid(), raw)
