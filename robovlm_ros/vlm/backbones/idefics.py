"""Idefics: Flamingo's architecture. Images have no place in the sequence; gated layers look at them from there.

One word stands for each image, and a word sees, through the gated cross-attention in front of the decoder layers,
the newest image before it, or rather the latents that a perceiver makes of it. What it knows of earlier images it has
from other words. The action tokens stand behind the instruction and so see the last camera directly and the others by
way of their words: as the words of an answer do in the models that users load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import Tokens, position_ids

_IMAGE, _MARK = "<image>", "<fake_token_around_image>"


class IdeficsBackbone(Backbone):
    """A layer of the text tower is a decoder layer with the gated cross-attention in front of it, where it has one.

    So the switch for the last N layers trains both, and the one for vision trains vision tower and perceiver. (The
    seed's RoboFlamingo kept the decoder layers and trained what Flamingo had added to them.)
    """

    text_keys = ("input_ids", "attention_mask", "image_word")
    images_in_sequence = False
    not_resampled = "its images have no place in the sequence, and it has a perceiver of its own"
    not_interleaved = "a word of its text tower sees the newest image only, and images have no place in the sequence"

    @classmethod
    def placeholder(cls, processor: Any) -> str:
        """The word that stands for an image; its marks come with the tokens."""
        return _IMAGE

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """The word and the mark of images, and the end of a text, which hides images from all behind it."""
        return (_IMAGE, _MARK, str(processor.tokenizer.eos_token))

    @classmethod
    def prompt_tensors(cls, processor: Any, text: str, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """Ids and mask (L,) with image_word (1,), the id of the word that stands for an image.

        As the class's own processor makes them; that one would fetch an instruction that is an address.
        """
        parts = re.split(f"((?:{_IMAGE})+)", text)  # text, images, text, ...
        marked = "".join(
            part.replace(_IMAGE, _IMAGE + _MARK) if index % 2 else part.strip(" ") + _MARK * (index + 1 < len(parts))
            for index, part in enumerate(parts)
        )
        encoded = processor.tokenizer(
            processor.tokenizer.bos_token + marked, add_special_tokens=False, return_tensors="pt"
        )
        word = processor.tokenizer.convert_tokens_to_ids(_IMAGE)
        return {
            "input_ids": encoded["input_ids"][0],
            "attention_mask": encoded["attention_mask"][0],
            "image_word": torch.tensor([word]),  # the model's configuration does not know it
        }

    @classmethod
    def image_tensors(cls, processor: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """pixel_values (images, 3, H, W)."""
        return {"pixel_values": processor.image_processor(list(images), return_tensors="pt")}

    @property
    def image_token_id(self) -> int:
        """None: UserError."""
        raise UserError("the images of 'idefics' have no place in the sequence")

    @property
    def decoder(self) -> nn.Module:
        """The class without its head: it has no part for the text tower alone."""
        decoder: nn.Module = self.model.model
        return decoder

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """Layers of the text tower, each with the gated cross-attention in front of it, first to last."""
        model = self.model.model
        gated, every = model.gated_cross_attn_layers, model.cross_layer_interval
        return nn.ModuleList(
            nn.ModuleList([gated[index // every], layer] if index % every == 0 else [layer])
            for index, layer in enumerate(model.layers)
        )

    @property
    def connector(self) -> nn.Module | None:
        """The perceiver, if there is one."""
        perceiver: nn.Module | None = getattr(self.model.model, "perceiver_resampler", None)
        return perceiver

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D') features of (B, images, 3, H, W), in the width of the vision tower: the text tower projects."""
        pixels = pixel_values.flatten(0, 1).to(self.model.dtype)  # (B * images, 3, H, W)
        features = self.vision(pixel_values=pixels).last_hidden_state
        if self.connector is not None:
            features = self.connector(features)
        joined: torch.Tensor = features.reshape(len(pixel_values), -1, features.shape[-1])  # (B, N, D')
        return joined

    def embed(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_embeddings: torch.Tensor,
        **layout: torch.Tensor,
    ) -> Tokens:
        """Word embeddings of a prompt (B, L); the image features (B, N, D') stay beside them."""
        return Tokens(
            ids=input_ids,
            mask=attention_mask,
            embeddings=self.text_embedding(input_ids),
            images=image_embeddings,
            layout=layout,
        )

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D) last hidden states."""
        newest = (tokens.ids == tokens.layout["image_word"]).cumsum(1) - 1  # (B, L) -1 in front of the first image
        count = int(newest[0, -1]) + 1
        if count == 0 or tokens.images.shape[1] % count or bool((newest[:, -1] != count - 1).any()):
            raise UserError(
                f"{count} image words in the text, but {tokens.images.shape[1]} image tokens for each sample: "
                "the prompt and the cameras do not match"
            )
        images = tokens.images.reshape(len(newest), count, -1, tokens.images.shape[-1])  # (B, images, N / images, D')
        images = images.to(tokens.embeddings.dtype)
        name = "image_encoder_embeddings" if self.connector is None else "perceiver_embeddings"
        seen = newest[..., None] == torch.arange(count, device=newest.device)  # (B, L, images)
        return self.hidden_states(
            self.model.model, tokens, position_ids(tokens.mask), image_attention_mask=seen.long(), **{name: images}
        )
