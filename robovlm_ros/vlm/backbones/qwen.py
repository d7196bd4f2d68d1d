"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any size, and positions of three coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.grid import ImageGrid
from robovlm_ros.vlm.sequence import Tokens


class QwenBackbone(Backbone):
    """Positions follow time, row and column of image tokens; the class computes them from ids and patch grids."""

    text_keys = ("input_ids", "attention_mask", "image_grid_thw")
    image_keys = ("pixel_values", "image_grid_thw")
    not_resampled = "its positions follow the image's grid of patches, and resampled tokens lie in no grid"

    @classmethod
    def placeholder(cls, processor: Any) -> str:
        """An image between its two marks; without them two images in a row would be one to the positions."""
        return f"<|vision_start|>{processor.image_token}<|vision_end|>"

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Marks and placeholders of images and videos."""
        return ("<|vision_start|>", "<|vision_end|>", str(processor.image_token), str(processor.video_token))

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of patches (B, patches, values) in grids image_grid_thw (B, images, 3)."""
        grid = images["image_grid_thw"].flatten(0, 1)  # (B * images, 3)
        found = self.model.get_image_features(pixel_values.flatten(0, 1), image_grid_thw=grid)
        features = torch.cat(self.levels(found), dim=-1)  # (B * N, D')
        return features.reshape(len(pixel_values), -1, features.shape[-1])  # (B, N, D')

    @staticmethod
    def levels(found: Any) -> list[torch.Tensor]:
        """(B * N, D) features of each vision layer that the text tower gets, the last layer's first."""
        return [torch.cat(list(found.pooler_output))]

    def positions(self, tokens: Tokens) -> torch.Tensor:
        """(3, B, L) time, row and column of each token; what the policy adds counts on behind the prompt."""
        positions: torch.Tensor = self.model.base_model.get_rope_index(
            tokens.ids,
            (tokens.ids == self.image_token_id).int(),
            image_grid_thw=tokens.layout["image_grid_thw"].flatten(0, 1),
            attention_mask=tokens.mask,
        )[0]
        return positions

    def image_grids(
        self, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[ImageGrid]:
        """That which image_grid_thw (images, 3) says: patches, of which the vision tower merges squares."""
        merge = int(self.model.config.vision_config.spatial_merge_size)
        grids: list[ImageGrid] = []
        for _, height, width in inputs["image_grid_thw"].tolist():
            first = grids[-1].tokens.stop if grids else 0
            grids.append(ImageGrid(first=first, rows=height // merge, columns=width // merge))
        return grids


class Qwen3VLBackbone(QwenBackbone):
    """Features of earlier vision layers enter the first layers of the text tower as well ("deepstack").

    They travel behind the image features in the last dimension, so that what makes and what caches features
    needs no second tensor.
    """

    @staticmethod
    def levels(found: Any) -> list[torch.Tensor]:
        """(B * N, D) features of each vision layer that the text tower gets, the last layer's first."""
        return [torch.cat(list(level)) for level in (found.pooler_output, *found.deepstack_features)]

    def extras(self, tokens: Tokens) -> dict[str, Any]:
        """Where image tokens are, and the early features of each, if there are any."""
        if not tokens.images.shape[1]:
            return {}
        width = tokens.embeddings.shape[-1]
        early = tokens.images[..., width:].flatten(0, 1).to(tokens.embeddings.dtype)  # (B * N, layers * D)
        return {
            "visual_pos_masks": tokens.ids == self.image_token_id,
            "deepstack_visual_embeds": list(torch.split(early, width, dim=-1)),
        }
