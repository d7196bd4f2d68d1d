"""Kosmos-2: the processor puts the image before the text by itself, and the model wants to know where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.grid import ImageGrid
from robovlm_ros.vlm.sequence import Tokens, position_ids

_IMAGE = -2
"""Our id of an image's places: the class itself fills them with the ids of words, and a mask tells them apart."""


class Kosmos2Backbone(Backbone):
    """Images come first whatever the prompt says; further cameras follow the first as it does the begin of text."""

    images_lead = True
    not_resampled = "Kosmos-2 has a resampler of its own, which gives 64 tokens an image"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        # The queries of an image see all of it. transformers 5.20 says otherwise to all implementations but
        # "eager", which is how the model was trained.
        model.image_to_text_projection.x_attn.is_causal = False

    @classmethod
    def placeholder(cls, processor: Any) -> str:
        """Nothing: the processor inserts an image's places."""
        return ""

    @classmethod
    def template(cls, processor: Any, cameras: int = 1) -> str:
        """A caption with its things located, as the model was trained to go on from."""
        return "{images}<grounding>An image of a robot {instruction}"

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Begin and end of an image."""
        return (str(processor.boi_token), str(processor.eoi_token))

    @classmethod
    def prompt_tensors(cls, processor: Any, text: str, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """Ids and mask (L,)."""
        encoded = processor(text=[text], images=[images[0]], return_tensors="pt")
        is_image = encoded["image_embeds_position_mask"][0] != 0  # (L,)
        ids = encoded["input_ids"][0].masked_fill(is_image, _IMAGE)
        places = is_image.nonzero()[:, 0]
        first, end = int(places[0]) - 1, int(places[-1]) + 2  # with the marks of begin and end
        ids = torch.cat([ids[:first], *[ids[first:end]] * len(images), ids[end:]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    @property
    def image_token_id(self) -> int:
        """Id that `prompt_tensors` gives to an image's places."""
        return _IMAGE

    @property
    def decoder(self) -> nn.Module:
        """The text tower, without the language model's head."""
        decoder: nn.Module = self.model.text_model.model
        return decoder

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of (B, images, 3, H, W), resampled to the same number of places for each image."""
        model = self.model  # its class with a head lacks `get_image_features`
        pixels = pixel_values.flatten(0, 1).to(model.dtype)  # (B * images, 3, H, W)
        seen = model.vision_model.model.post_layernorm(model.vision_model(pixel_values=pixels).last_hidden_state)
        features: torch.Tensor = model.image_to_text_projection(nn.functional.normalize(seen, dim=-1))[0]
        return features.reshape(len(pixel_values), -1, features.shape[-1])  # (B, N, D)

    def positions(self, tokens: Tokens) -> torch.Tensor:
        """(B, L); they begin behind the index of padding."""
        return position_ids(tokens.mask) + int(self.model.config.text_config.pad_token_id) + 1

    def image_grids(
        self, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[ImageGrid]:
        """UserError: each token is drawn from all of the image."""
        raise UserError("the image tokens of 'kosmos-2' have no place in the image: learned queries draw each of all")
