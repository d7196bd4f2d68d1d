"""The `lstm` head: an LSTM reads the window's latents in their order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.regression import RegressionHead, RegressionOptions


@dataclass(frozen=True, kw_only=True)
class LSTMOptions(RegressionOptions):
    """Options of the `lstm` head."""

    width: int = 256
    """Width of the LSTM."""
    depth: int = 2
    """Layers of the LSTM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise UserError(f"head 'lstm': {name} must be at least 1, not {getattr(self, name)}")


class LSTMHead(RegressionHead):
    """Begins each window with an empty memory, in training and at run time alike."""

    fuses_history = True

    def __init__(self, shape: HeadShape, options: LSTMOptions) -> None:
        super().__init__(shape, options, joined=options.width)
        self.memory = nn.LSTM(
            shape.latent_num * shape.hidden_size, options.width, num_layers=options.depth, batch_first=True
        )

    def join(self, flat: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.memory(flat)[0]
        return joined
