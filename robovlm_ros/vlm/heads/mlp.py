"""The `mlp` head: all action latents of one observation to the whole chunk at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.regression import RegressionHead, RegressionOptions


@dataclass(frozen=True, kw_only=True)
class MLPOptions(RegressionOptions):
    """Options of the `mlp` head."""


class MLPHead(RegressionHead):
    """Each observation for itself."""

    def __init__(self, shape: HeadShape, options: MLPOptions) -> None:
        super().__init__(shape, options, joined=shape.latent_num * shape.hidden_size)

    def join(self, flat: torch.Tensor) -> torch.Tensor:
        return flat
