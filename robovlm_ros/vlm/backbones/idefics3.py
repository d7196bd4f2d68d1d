"""Idefics3 and SmolVLM: the images of a sample stay together, and image features come as one entry per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.grid import ImageGrid, square_side


class Idefics3Backbone(Backbone):
    """The class drops images that are padding and then gives the features of each sample apart."""

    image_keys = ("pixel_values", "pixel_attention_mask")

    @classmethod
    def image_tensors(cls, processor: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """pixel_values (images, 3, H, W), with pixel_attention_mask (images, H, W) where it masks anything."""
        encoded = processor.image_processor([list(images)], return_tensors="pt")
        found = {key: encoded[key][0] for key in cls.image_keys if key in encoded}
        if "pixel_attention_mask" in found and bool(found["pixel_attention_mask"].all()):
            del found["pixel_attention_mask"]  # a mask that masks nothing is the model's default and costs time
        return found

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of (B, images, 3, H, W), the images of a sample behind one another."""
        return torch.stack(list(self.model.get_image_features(pixel_values, **images).pooler_output))

    def steady_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of (B, images, 3, H, W); the class would look at each for one that is padding."""
        if images:
            return self.image_embeddings(pixel_values, **images)
        model: Any = self.model.base_model
        pixels = pixel_values.flatten(0, 1).to(self.model.dtype)  # (B * images, 3, H, W)
        side = int(self.model.config.vision_config.patch_size)
        patches = (len(pixels), pixels.shape[2] // side, pixels.shape[3] // side)
        whole = torch.ones(patches, dtype=torch.bool, device=pixels.device)
        seen = model.vision_model(pixel_values=pixels, patch_attention_mask=whole).last_hidden_state
        features: torch.Tensor = model.connector(seen)  # (B * images, N / images, D)
        return features.reshape(len(pixel_values), -1, features.shape[-1])  # (B, N, D)

    def image_grids(
        self, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[ImageGrid]:
        """That of each image as a whole; the tiles that a processor may cut beside it are left out."""
        ids = inputs["input_ids"]
        each = int(processor.image_seq_len)
        side = square_side(each, self.model.config.model_type)
        whole = processor.tokenizer.convert_tokens_to_ids(processor.global_image_tag)
        before = (ids == self.image_token_id).cumsum(0)  # (L,)
        return [ImageGrid(first=int(first), rows=side, columns=side) for first in before[ids == whole]]
