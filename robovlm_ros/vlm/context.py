"""Reading on: several frames as one sequence in the text tower, at once or one behind the other.

The frames of a window stand behind one another, [images][instruction][state][action tokens] each. Attention is
causal from frame to frame and the family's own within a frame; positions go on where the frame before ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import DynamicCache

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import NEW, Tokens


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
    if context is not None:
        positions = positions + (context.end - first)[:, None]
        end = end + context.end - first
    frames = 1 if context is None else context.frames + 1
    packed, positions, blocks, order = _packed(tokens, positions, blocks)
    hidden, after = _read_on(backbone, packed, positions, blocks, context, end, frames)
    return _unpacked(hidden, order), after


def read_words(backbone: Backbone, embeddings: torch.Tensor, context: Context) -> tuple[torch.Tensor, Context]:
    """(B, n, D) last hidden states of words (B, n, D) that go on from a frame, and the context with them."""
    batch, count = embeddings.shape[:2]
    ids = torch.full((batch, count), NEW, device=embeddings.device)
    tokens = Tokens(
        ids=ids, mask=torch.ones_like(ids), embeddings=embeddings, images=embeddings.new_zeros(batch, 0, 0)
    )  # fmt: skip
    positions = context.end[:, None] + torch.arange(count, device=ids.device)  # (B, n)
    blocks = None if context.blocks is None else torch.full_like(ids, -1)
    return _read_on(backbone, tokens, positions, blocks, context, context.end + count, context.frames)


def _read_on(
    backbone: Backbone,
    tokens: Tokens,
    positions: torch.Tensor,
    blocks: torch.Tensor | None,
    context: Context | None,
    end: torch.Tensor,
    frames: int,
) -> tuple[torch.Tensor, Context]:
    """(B, L, D) last hidden states of tokens behind those in ``context``, and the context with them."""
    mask, cache = tokens.mask, DynamicCache()
    if context is not None:
        if blocks is not None and context.blocks is not None:
            behind = torch.where(blocks >= 0, blocks + context.mask.shape[1], blocks)
            blocks = torch.cat([context.blocks, behind], dim=1)  # (B, L' + L)
        mask = torch.cat([context.mask, mask], dim=1)  # (B, L' + L)
        cache = DynamicCache(context.layers)
    hidden = backbone.attend(tokens, positions, mask, blocks, cache)
    layers = tuple((layer.keys, layer.values) for layer in cache.layers)
    return hidden, Context(layers=layers, mask=mask, blocks=blocks, end=end, frames=frames)


def read_window(backbone: Backbone, tokens: Tokens, window: int) -> torch.Tensor:
    """(B * W, L, D) last hidden states of frames (B * W, L) that are read as B sequences of W frames each."""
    count, length = tokens.ids.shape
    positions, blocks = backbone.positions(tokens), backbone.blocks(tokens)
    first, end = _extent(positions, tokens.mask)  # (B W,) each
    span = (end - first).view(-1, window)
    positions = positions + (span.cumsum(1) - span).view(-1, 1)  # (..., B W, L)
    if blocks is not None:
        frame = torch.arange(count, device=blocks.device)[:, None] % window
        blocks = torch.where(blocks >= 0, blocks + frame * length, blocks)

    def joined(values: torch.Tensor) -> torch.Tensor:
        return values.reshape(*values.shape[:-2], -1, window * length)  # (..., B, W L)

    sequence = replace(
        tokens,
        ids=joined(tokens.ids),
        mask=joined(tokens.mask),
        embeddings=tokens.embeddings.reshape(-1, window * length, tokens.embeddings.shape[-1]),  # (B, W L, D)
        images=tokens.images.reshape(-1, window * tokens.images.shape[1], *tokens.images.shape[2:]),  # (B, W N, ...)
        layout={},
    )
    packed, positions, blocks, order = _packed(sequence, joined(positions), None if blocks is None else joined(blocks))
    hidden = backbone.attend(packed, positions, packed.mask, blocks)  # (B, W L, D)
    return _unpacked(hidden, order).view(count, length, -1)


def _packed(
    tokens: Tokens, positions: torch.Tensor, blocks: torch.Tensor | None
) -> tuple[Tokens, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """All of it with padding in front, and where each token was (B, L).

    Padding between tokens would count as distance where attention is local.
    """
    order = (tokens.mask != 0).int().argsort(dim=1, stable=True)  # (B, L)
    wide = order[..., None].expand_as(tokens.embeddings)  # (B, L, D)
    moved = replace(
        tokens,
        ids=tokens.ids.gather(1, order),
        mask=tokens.mask.gather(1, order),
        embeddings=tokens.embeddings.gather(1, wide),
    )
    positions = positions.gather(-1, order.expand_as(positions))  # (..., B, L)
    return moved, positions, None if blocks is None else blocks.gather(1, order), order


def _unpacked(hidden: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """(B, L, D) with each token where it was before `_packed`."""
    return torch.empty_like(hidden).scatter(1, order[..., None].expand_as(hidden), hidden)


def _extent(positions: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) first position of each sample's real tokens, and the one behind its last, of (B, L) or (3, B, L)."""
    real = (mask != 0).expand_as(positions)
    outside = torch.iinfo(positions.dtype).max
    first, last = positions.masked_fill(~real, outside).amin(-1), positions.masked_fill(~real, -1).amax(-1)
    return (first, last + 1) if positions.ndim == 2 else (first.amin(0), last.amax(0) + 1)
