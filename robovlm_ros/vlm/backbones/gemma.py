"""PaliGemma and Gemma 3: image tokens, and in PaliGemma the whole prompt, attend in both directions.

A text tower that is given a padding mask alone would be causal throughout, which these models never saw in
training. Their own `forward` makes the right masks from token types, so it is called with ready embeddings.
"""

from __future__ import annotations

from typing import Any

import torch

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.prompts import QUESTION
from robovlm_ros.vlm.sequence import NEW, Tokens, position_ids


class PaliGemmaBackbone(Backbone):
    """PaliGemma and PaliGemma 2: images and prompt are a bidirectional prefix, what the policy adds a causal suffix."""

    sees_ahead = True

    @classmethod
    def template(cls, processor: Any) -> str:
        """A task in the words of pre-training: "answer", language, question (PaliGemma, Beyer et al. 2024)."""
        return "{images}answer en " + QUESTION

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D) last hidden states; positions count from one, as the class does."""
        types = (tokens.ids == NEW).long()  # (B, L) 0 in the prefix, 1 in the suffix
        return self.hidden_states(
            self.model.base_model, tokens, position_ids(tokens.mask) + 1, token_type_ids=types
        )  # (B, L, D)


class Gemma3Backbone(Backbone):
    """Gemma 3: the tokens of one image see each other; the rest is causal."""

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Begin, inside and end of an image: the prompt's placeholder and the model's are two words here."""
        tokenizer = processor.tokenizer
        return (str(tokenizer.boi_token), str(tokenizer.image_token), str(tokenizer.eoi_token))

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D) last hidden states."""
        types = (tokens.ids == self.image_token_id).long()  # (B, L) 1 for image tokens
        return self.hidden_states(
            self.model.base_model, tokens, position_ids(tokens.mask), token_type_ids=types
        )  # (B, L, D)
