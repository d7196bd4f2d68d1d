"""Florence-2: images and prompt go into an encoder; what the policy adds goes into a decoder that looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import NEW, Tokens


class Florence2Backbone(Backbone):
    """The decoder was trained to go on from one start word, so that is what stands in front of the policy's tokens.

    They then are where the first words of an answer would be. The layers of the text tower are the decoder's: the
    switch for the last N of them leaves the encoder as it is, which trains only when all layers do.
    """

    not_pooled = "it is an encoder-decoder: the prompt is its encoder's, and the decoder would be left out"
    not_interleaved = (
        "it is an encoder-decoder: its encoder sees all of a prompt at once, so that earlier frames would change"
    )

    @classmethod
    def placeholder(cls, processor: Any) -> str:
        """Nothing: the processor puts the image before the text by itself."""
        return ""

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """The image token, and the names of tasks: words that the processor puts whole sentences for."""
        return (str(processor.image_token), *processor.task_prompts_without_inputs, *processor.task_prompts_with_input)

    @classmethod
    def prompt_tensors(cls, processor: Any, text: str, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """Ids and mask (L,); further cameras stand behind the first."""
        encoded = processor(text=[text], images=[images[0]], return_tensors="pt")
        ids = encoded["input_ids"][0]
        is_image = ids == processor.image_token_id  # (L,)
        ids = torch.cat([*[ids[is_image]] * len(images), ids[~is_image]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """Layers of the decoder, first to last."""
        layers: nn.ModuleList = self.decoder.decoder.layers  # type: ignore[union-attr, assignment]
        return layers

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D) last hidden states: of the decoder for what the policy added, of the encoder for the prompt.

        Positions count from the first token whatever the mask says, so both get their tokens without gaps.
        """
        is_new = tokens.ids == NEW  # (B, L)
        count = int(is_new[0].sum())  # K, the same for all samples
        prompt = (tokens.mask != 0) & ~is_new
        length = tokens.ids.shape[1] - count
        index = torch.argsort(~prompt, dim=1, stable=True)[:, :length]  # (B, L - K) real ones first
        mask = tokens.mask.gather(1, index) * prompt.gather(1, index)
        towers: Any = self.decoder
        config = self.model.config.get_text_config()
        most = config.max_position_embeddings
        if length > most:
            raise UserError(
                f"images and prompt make {length} tokens, and this model's encoder has {most} places: choose fewer "
                "cameras, or a resampler"
            )
        encoded = towers.encoder(
            inputs_embeds=_take(tokens.embeddings, index), attention_mask=mask
        ).last_hidden_state  # (B, L - K, D)
        hidden = _put(torch.zeros_like(tokens.embeddings), index, encoded)
        if count == 0:
            return hidden
        added = torch.argsort(~is_new, dim=1, stable=True)[:, :count]  # (B, K)
        start = torch.full_like(added[:, :1], int(config.decoder_start_token_id))  # (B, 1)
        decoded = towers.decoder(
            inputs_embeds=torch.cat([self.text_embedding(start), _take(tokens.embeddings, added)], dim=1),
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state  # (B, 1 + K, D)
        return _put(hidden, added, decoded[:, 1:])


def _take(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(B, K, D) of values (B, L, D) at places (B, K)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _put(values: torch.Tensor, index: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """(B, L, D) values with others (B, K, D) at places (B, K)."""
    return values.scatter(1, index[..., None].expand(-1, -1, values.shape[-1]), new.to(values.dtype))
