"""Where tokens stand: insertion behind the last real token, by the attention mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

NEW = -1
"""Id of a token that is no word: a vector that the policy put into the sequence."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What goes into a text tower."""

    ids: torch.Tensor
    """(B, L) word ids, image placeholders among them; `NEW` where there is no word."""
    mask: torch.Tensor
    """(B, L) 1 for real tokens, 0 for padding."""
    embeddings: torch.Tensor
    """(B, L, D) input embeddings."""
    images: torch.Tensor
    """(B, N, ...) image features as `Backbone.image_embeddings` gave them."""
    layout: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What else the family's processor says of where things lie, such as image_grid_thw (B, images, 3)."""

    def insert(self, extra: torch.Tensor) -> tuple[Tokens, torch.Tensor]:
        """With vectors (B, K, D) behind the last real token of each sample, and their positions (B, K)."""
        embeddings, mask, positions = insert_behind(self.embeddings, self.mask, extra)  # (B, L + K, D)
        new = extra.new_full((*extra.shape[:2], 1), NEW, dtype=self.ids.dtype)  # (B, K, 1)
        ids, _, _ = insert_behind(self.ids[..., None], self.mask, new)  # (B, L + K, 1)
        return replace(self, ids=ids[..., 0], mask=mask, embeddings=embeddings), positions


def insert_behind(
    embeddings: torch.Tensor, attention_mask: torch.Tensor, extra: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put extra vectors behind the last real token of each sample, before any padding on the right.

    Batch composition and padding on either side therefore change nothing for a sample.

    Args:
        embeddings: (B, L, D) input embeddings.
        attention_mask: (B, L) 1 for real tokens, 0 for padding.
        extra: (B, K, D) vectors to insert.

    Returns:
        (B, L + K, D) embeddings, (B, L + K) attention mask, (B, K) positions of the inserted vectors.
    """
    batch, length, width = embeddings.shape
    count = extra.shape[1]
    index = torch.arange(length, device=embeddings.device)
    end = ((index + 1) * (attention_mask != 0)).amax(1)  # (B,) one behind the last real token
    positions = end[:, None] + torch.arange(count, device=embeddings.device)  # (B, K)
    target = index + (index >= end[:, None]) * count  # (B, L) where each old token goes
    joined = embeddings.new_zeros(batch, length + count, width)
    joined = joined.scatter(1, target[..., None].expand(-1, -1, width), embeddings)  # (B, L + K, D)
    joined = joined.scatter(1, positions[..., None].expand(-1, -1, width), extra.to(embeddings.dtype))
    mask = attention_mask.new_zeros(batch, length + count).scatter(1, target, attention_mask)
    mask = mask.scatter(1, positions, torch.ones_like(positions, dtype=mask.dtype))  # (B, L + K)
    return joined, mask, positions


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, L) positions that count real tokens only, so that padding on the left shifts nothing."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def gather(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(B, K, D) hidden states (B, L, D) at positions (B, K)."""
    return hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))
