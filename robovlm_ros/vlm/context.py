"""Reading on: several frames as one sequence in the text tower, at once or one behind the other.

The frames of a window stand behind one another, [images][instruction][state][action tokens] each. Attention is
causal from frame to frame and the family's own within a frame; positions go on where the frame before ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import DynamicCache

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import Tokens


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a text tower has read so far. A value: to read on gives a new one and leaves this one as it was."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Keys and values (B, heads, L, d) of each layer."""
    mask: torch.Tensor
    """(B, L) 1 for real tokens, 0 for padding."""
    blocks: torch.Tensor | None
    """(B, L) as `Backbone.blocks` gave them, numbers that no two frames share."""
    end: torch.Tensor
    """(B,) the position that comes next."""
    frames: int
    """Frames that were read."""


def read(backbone: Backbone, tokens: Tokens, context: Context | None = None) -> tuple[torch.Tensor, Context]:
    """(B, L, D) last hidden states of one frame behind those in ``context``, and the context with this frame."""
    positions, blocks = backbone.positions(tokens), backbone.blocks(tokens)
    first, end = _extent(positions, tokens.mask)  # (B,) each
    mask = tokens.mask
    cache = DynamicCache()
    if context is not None:
        positions = positions + (context.end - first)[:, None]
        end = end + context.end - first
        if blocks is not None and context.blocks is not None:
            behind = torch.where(blocks >= 0, blocks + context.mask.shape[1], blocks)
            blocks = torch.cat([context.blocks, behind], dim=1)  # (B, L' + L)
        mask = torch.cat([context.mask, mask], dim=1)  # (B, L' + L)
        cache = DynamicCache(context.layers)
    hidden = backbone.attend(tokens, positions, mask, blocks, cache)
    return hidden, Context(
        layers=tuple((layer.keys, layer.values) for layer in cache.layers),
        mask=mask,
        blocks=blocks,
        end=end,
        frames=1 if context is None else context.frames + 1,
    )


def read_window(backbone: Backbone, tokens: Tokens, window: int) -> torch.Tensor:
    """(B * W, L, D) last hidden states of frames (B * W, L) that are read as B sequences of W frames each."""
    count, length = tokens.ids.shape
    positions, blocks = backbone.positions(tokens), backbone.blocks(tokens)
    first, end = _extent(positions, tokens.mask)  # (B W,) each
    span = (end - first).view(-1, window)
    positions = positions + (span.cumsum(1) - span).view(-1, 1)  # (..., B W, L)
    if blocks is not None:
        frame = torch.arange(count, device=blocks.device)[:, None] % window
        blocks = torch.where(blocks >= 0, blocks + frame * length, blocks).view(-1, window * length)  # (B, W L)

    # padding inside a sequence would count as distance where attention is local: all of it goes to the front
    joined = tokens.mask.view(-1, window * length)  # (B, W L)
    order = (joined != 0).int().argsort(dim=1, stable=True)

    def packed(values: torch.Tensor) -> torch.Tensor:
        flat = values.reshape(*values.shape[:-2], -1, window * length)  # (..., B, W L)
        return flat.gather(-1, order.expand_as(flat))

    wide = order[..., None].expand(-1, -1, tokens.embeddings.shape[-1])  # (B, W L, D)
    sequence = replace(
        tokens,
        ids=packed(tokens.ids),
        mask=packed(tokens.mask),
        embeddings=tokens.embeddings.reshape(-1, window * length, wide.shape[-1]).gather(1, wide),
        images=tokens.images.reshape(-1, window * tokens.images.shape[1], *tokens.images.shape[2:]),  # (B, W N, ...)
        layout={},
    )
    if blocks is not None:
        blocks = blocks.gather(1, order)
    hidden = backbone.attend(sequence, packed(positions), sequence.mask, blocks)  # (B, W L, D)
    return torch.empty_like(hidden).scatter(1, wide, hidden).view(count, length, -1)


def _extent(positions: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) first position of each sample's real tokens, and the one behind its last, of (B, L) or (3, B, L)."""
    real = (mask != 0).expand_as(positions)
    outside = torch.iinfo(positions.dtype).max
    first, last = positions.masked_fill(~real, outside).amin(-1), positions.masked_fill(~real, -1).amax(-1)
    return (first, last + 1) if positions.ndim == 2 else (first.amin(0), last.amax(0) + 1)
