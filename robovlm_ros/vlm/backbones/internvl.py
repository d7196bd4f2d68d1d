"""InternVL: the processor cuts large images into tiles unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros.vlm.backbone import Backbone


class InternVLBackbone(Backbone):
    """One tile an image, in the prompt and in the pixels alike: control needs the scene, not the small print."""

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Marks and placeholders of images and videos."""
        return tuple(
            str(word)
            for word in (
                processor.image_token,
                processor.video_token,
                processor.start_image_token,
                processor.end_image_token,
            )
        )

    @classmethod
    def prompt_tensors(cls, processor: Any, text: str, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """Ids and mask (L,)."""
        encoded = processor(text=[text], images=[list(images)], crop_to_patches=False, return_tensors="pt")
        return {key: encoded[key][0] for key in cls.text_keys}

    @classmethod
    def image_tensors(cls, processor: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """pixel_values (images, 3, H, W)."""
        encoded = processor.image_processor(list(images), crop_to_patches=False, return_tensors="pt")
        return {key: encoded[key] for key in cls.image_keys}
