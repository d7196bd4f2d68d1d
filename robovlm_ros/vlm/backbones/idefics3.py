"""Idefics3 and SmolVLM: image features come as a list, one entry per sample."""

from __future__ import annotations

import torch

from robovlm_ros.vlm.backbone import Backbone


class Idefics3Backbone(Backbone):
    """The class drops images that are padding and then gives the features of each sample apart."""

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of (B, images, 3, H, W), the images of a sample behind one another."""
        return torch.stack(list(self.model.get_image_features(pixel_values, **images).pooler_output))
