"""Image features computed once for a whole training, where what makes them does not learn."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from robovlm_ros.training.seen import Images
from robovlm_ros.vlm.policy import ActionTokenPolicy


class FeatureEncoder:
    """(T, ...) tensors of the image processor → (T, N, D) features, by the policy's frozen vision tower."""

    def __init__(self, policy: ActionTokenPolicy, batch_size: int, device: torch.device) -> None:
        self.policy, self.batch_size, self.device = policy, batch_size, device

    @torch.inference_mode()
    def __call__(self, images: Images, /) -> Images:
        """``image_embeds`` on the CPU, of so many images at a time."""
        self.policy.eval().to(self.device)
        parts = []
        for start in range(0, len(images["pixel_values"]), self.batch_size):
            batch = {key: value[start : start + self.batch_size].to(self.device) for key, value in images.items()}
            parts.append(self.policy.image_embeddings(**batch).cpu())
        return {"image_embeds": torch.cat(parts).clone()}  # (T, N, D); leaves inference mode as plain data

    @functools.cached_property
    def identity(self) -> Mapping[str, Any]:
        """What decides about the features: weights, configuration, and how they are computed."""
        backbone = self.policy.backbone
        found = hashlib.sha256()
        for part in (backbone.vision, backbone.connector):
            for name, value in part.state_dict().items() if part is not None else ():
                found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                found.update(_bytes(value))
        for value in backbone.image_parameters:
            found.update(_bytes(value))
        config = self.policy.vlm.config.to_dict()
        config.pop("_name_or_path", None)  # where the weights lie says nothing about them
        cuda = self.device.type == "cuda"
        return {
            "weights": found.hexdigest(),
            "config": {key: repr(value) for key, value in config.items()},
            "attention": str(self.policy.vlm.config._attn_implementation),
            "device": torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            "batch_size": self.batch_size,
        }


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
