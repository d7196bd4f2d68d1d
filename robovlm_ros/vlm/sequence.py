"""Where tokens stand: insertion behind the last real token, by the attention mask."""

from __future__ import annotations

import torch


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
