"""PaliGemma and Gemma 3: image tokens, and in PaliGemma the whole prompt, attend in both directions.

A text tower that is given a padding mask alone would be causal throughout, which these models never saw in
training. The masks are made here as their own `forward` makes them, for it knows of one prompt only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers.masking_utils import (
    blockwise_overlay,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sliding_window_overlay,
)

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.prompts import QUESTION
from robovlm_ros.vlm.sequence import NEW, Tokens, position_ids


class PaliGemmaBackbone(Backbone):
    """PaliGemma and PaliGemma 2: images and prompt are a bidirectional prefix, what the policy adds a causal suffix."""

    sees_ahead = True

    @classmethod
    def template(cls, processor: Any, cameras: int = 1) -> str:
        """A task in the words of pre-training: "answer", language, question (PaliGemma, Beyer et al. 2024)."""
        return "{images}answer en " + QUESTION

    def positions(self, tokens: Tokens) -> torch.Tensor:
        """(B, L); they count from one, as the class does."""
        return position_ids(tokens.mask) + 1

    def blocks(self, tokens: Tokens) -> torch.Tensor:
        """(B, L) 0 in the prefix, -1 in the suffix."""
        return torch.where(tokens.ids == NEW, -1, 0)

    def attention_mask(self, tokens: Tokens, mask: torch.Tensor, blocks: torch.Tensor | None, cache: Any) -> Any:
        """Of all layers, or of each kind of layer; a block is seen as a whole in layers of local attention, too."""
        config: Any = self.decoder.config
        known = {"config": config, "inputs_embeds": tokens.embeddings, "attention_mask": mask, "past_key_values": cache}
        whole = create_causal_mask(**known, block_sequence_ids=blocks)
        if getattr(config, "sliding_window", None) is None:
            return whole
        local = create_sliding_window_causal_mask(**known, block_sequence_ids=blocks)
        return {"full_attention": whole, "sliding_attention": local}

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., V) scores of all words; those of Gemma 2 stay within a cap c, as c tanh(score / c)."""
        scores = super().logits(hidden)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return scores if cap is None else cap * torch.tanh(scores / cap)


class Gemma3Backbone(Backbone):
    """Gemma 3: the tokens of one image see each other; the rest is causal."""

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Begin, inside and end of an image: the prompt's placeholder and the model's are two words here."""
        tokenizer = processor.tokenizer
        return (str(tokenizer.boi_token), str(tokenizer.image_token), str(tokenizer.eoi_token))

    def blocks(self, tokens: Tokens) -> torch.Tensor:
        """(B, L) number of the image of which a token is, -1 for words."""
        is_image = tokens.ids == self.image_token_id
        begins = is_image & ~functional.pad(is_image, (1, 0))[:, :-1]
        return torch.where(is_image, begins.cumsum(1) - 1, -1)

    def attention_mask(self, tokens: Tokens, mask: torch.Tensor, blocks: torch.Tensor | None, cache: Any) -> Any:
        """Of each kind of layer; layers of local attention see of an image no more than is near."""
        config: Any = self.decoder.config
        known = {"config": config, "inputs_embeds": tokens.embeddings, "attention_mask": mask, "past_key_values": cache}
        near = sliding_window_overlay(config.sliding_window)
        return {
            "full_attention": create_causal_mask(**known, block_sequence_ids=blocks),
            "sliding_attention": create_causal_mask(
                **known, or_mask_function=blockwise_overlay(blocks), and_mask_function=near
            ),
        }
