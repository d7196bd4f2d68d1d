"""Actions as an answer: each value of a chunk is a word behind the action tokens, and knows those before it."""

from __future__ import annotations

import torch

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.context import read, read_words
from robovlm_ros.vlm.heads.discrete import DiscreteHead
from robovlm_ros.vlm.sequence import Tokens, gather


def read_answer(
    backbone: Backbone, head: DiscreteHead, tokens: Tokens, places: torch.Tensor, actions: torch.Tensor
) -> torch.Tensor:
    """(B, K + n - 1, D) last hidden states at the action tokens and at the values that a chunk of n values begins with.

    One forward for all values, each of which sees the true ones before it. The last n states each say the next value.

    Args:
        tokens: (B, L) what the text tower reads of one observation.
        places: (B, K) where the action tokens are.
        actions: (B, C, A) normalised values, 0 or 1 where binary.
    """
    tokens, following = tokens.insert(head.embed(actions)[:, :-1])  # embeddings (B, L + n - 1, D)
    return gather(backbone.decode(tokens), torch.cat([places, following], dim=1))


def answer(
    backbone: Backbone, head: DiscreteHead, tokens: Tokens, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, K, D) last hidden states at the action tokens, and (B, C, A) the chunk that is decided value by value.

    Keys and values of what was read are kept from one value to the next; a family that cannot read on reads all of it
    again.
    """
    reads_on = not backbone.not_interleaved
    if reads_on:
        hidden, context = read(backbone, tokens)
    else:
        hidden = backbone.decode(tokens)
    states = gather(hidden, places)  # (B, K, D)
    newest, logits = states[:, -1], []
    for value in range(head.values):
        logits.append(head.logits(newest.to(head.logits.weight.dtype)))  # (B, bins)
        if value + 1 == head.values:
            break
        word = head.word(logits[-1], value)[:, None]  # (B, 1, D)
        if reads_on:
            hidden, context = read_words(backbone, word.to(hidden.dtype), context)
            newest = hidden[:, -1]
        else:
            tokens, place = tokens.insert(word)
            newest = gather(backbone.decode(tokens), place)[:, -1]
    return states, head.chunk(torch.stack(logits, dim=1)[:, None])[:, 0]
