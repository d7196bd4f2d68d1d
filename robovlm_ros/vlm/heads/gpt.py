"""The `gpt` head: a causal transformer over the window's latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.regression import RegressionHead, RegressionOptions


@dataclass(frozen=True, kw_only=True)
class GPTOptions(RegressionOptions):
    """Options of the `gpt` head."""

    width: int = 256
    """Width of the transformer, a multiple of heads."""
    depth: int = 4
    """Layers of the transformer."""
    heads: int = 4
    """Attention heads of a layer."""
    dropout: float = 0.0
    """Share of values that training drops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise UserError(f"head 'gpt': {name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise UserError(f"head 'gpt': width {self.width} must be a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"head 'gpt': dropout must be at least 0 and less than 1, not {self.dropout}")


class GPTHead(RegressionHead):
    """GPT-2's block order (Radford et al. 2019): normalisation first, learned positions in the window."""

    fuses_history = True

    def __init__(self, shape: HeadShape, options: GPTOptions) -> None:
        super().__init__(shape, options, joined=options.width)
        self.entrance = nn.Linear(shape.latent_num * shape.hidden_size, options.width)
        self.place = nn.Embedding(shape.window, options.width)
        layer = nn.TransformerEncoderLayer(
            options.width, options.heads, 4 * options.width, options.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            layer, options.depth, norm=nn.LayerNorm(options.width), enable_nested_tensor=False
        )
        for block in self.blocks.layers:  # they are copies of one layer: let each begin with weights of its own
            for weight in block.parameters():
                if weight.ndim > 1:
                    nn.init.xavier_uniform_(weight)
        nn.init.normal_(self.place.weight, std=0.02)

    def join(self, flat: torch.Tensor) -> torch.Tensor:
        length = flat.shape[1]
        entered = self.entrance(flat) + self.place.weight[:length]  # (B, W, width)
        later = torch.ones(length, length, dtype=torch.bool, device=flat.device).triu(1)  # (W, W) True: not seen
        joined: torch.Tensor = self.blocks(entered, mask=later, is_causal=True)
        return joined
