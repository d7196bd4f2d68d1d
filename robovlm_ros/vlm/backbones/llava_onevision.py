"""LLaVA-OneVision: one image comes as a whole and in tiles, several come as a whole each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.grid import WHOLE, ImageGrid, centred, square_side


class LlavaOnevisionBackbone(Backbone):
    """The number of image tokens follows from the images' sizes, which a contract keeps the same."""

    image_keys = ("pixel_values", "image_sizes")

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Placeholders of images and videos."""
        return (str(processor.image_token), str(processor.video_token))

    @classmethod
    def image_tensors(cls, processor: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """pixel_values (images, tiles, 3, H, W) and image_sizes (images, 2) [px]."""
        encoded = processor.image_processor([list(images)], return_tensors="pt")
        return {key: encoded[key] for key in cls.image_keys}

    @property
    def image_parameters(self) -> list[nn.Parameter]:
        """The vector that ends a row of an image's tokens."""
        return [self.model.base_model.image_newline]

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of (B, images, tiles, 3, H, W) with image_sizes (B, images, 2) [px]."""
        batch, count = pixel_values.shape[:2]
        found = self.model.get_image_features(
            pixel_values.flatten(0, 1),
            image_sizes=images["image_sizes"].flatten(0, 1),
            batch_num_images=[count] * batch,
        ).pooler_output
        features = torch.cat(list(found))  # (B * N, D)
        return features.reshape(batch, -1, features.shape[-1])  # (B, N, D)

    def image_grids(
        self, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[ImageGrid]:
        """That of each image as a whole: before its tiles if alone, and squared by a margin if there are others."""
        each = int((inputs["input_ids"] == self.image_token_id).sum()) // len(shapes)
        side = square_side(int(processor.num_image_tokens), self.model.config.model_type)
        boxes = [centred(max(h, w) / w, max(h, w) / h) for h, w, *_ in shapes] if len(shapes) > 1 else [WHOLE]
        return [ImageGrid(first=i * each, rows=side, columns=side, box=box) for i, box in enumerate(boxes)]
