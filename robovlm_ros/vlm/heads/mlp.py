"""The `mlp` head: all action latents of one observation to the whole chunk at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead
from robovlm_ros.vlm.heads.losses import chunk_loss


@dataclass(frozen=True, kw_only=True)
class MLPOptions:
    """Options of the `mlp` head."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    loss: str = "l1"
    """Error of continuous dimensions: l1, huber or mse."""
    binary_weight: float = 0.01
    """Weight of the binary dimensions' cross entropy."""


class MLPHead(PolicyHead):
    """Flatten, hidden layers with GELU, one linear layer to chunk_size x action_dim."""

    def __init__(self, shape: HeadShape, options: MLPOptions) -> None:
        super().__init__(shape)
        self.options = options
        widths = [shape.latent_num * shape.hidden_size, *options.hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        layers.append(nn.Linear(widths[-1], shape.chunk_size * len(shape.binary)))
        self.layers = nn.Sequential(*layers)

    def raw(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, A) normalised values, logits where binary."""
        flat: torch.Tensor = self.layers(latents.flatten(1))  # (B, C * A)
        return flat.view(-1, self.shape.chunk_size, len(self.shape.binary))  # (B, C, A)

    def loss(self, latents: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return chunk_loss(
            self.raw(latents), actions, valid, self.binary,
            kind=self.options.loss, binary_weight=self.options.binary_weight,
        )  # fmt: skip

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        raw = self.raw(latents)
        return torch.where(self.binary, raw.sigmoid(), raw)
