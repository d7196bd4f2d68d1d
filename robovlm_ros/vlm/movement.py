"""How far action tokens have come from zero, and what they resemble among the words that the backbone knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy

_ROWS = 8192
_RANDOM = 64


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Action tokens, which began as zeros, beside the word embedding."""

    norms: tuple[float, ...]
    """Euclidean norm of each action token: how far it has come."""
    distances: tuple[tuple[float, ...], ...]
    """Euclidean distance of each action token to each other."""
    nearest: tuple[tuple[tuple[str, float], ...], ...]
    """For each action token the words most like it, with their cosine; none for a token at zero."""
    word_norm: float
    """Median norm of the words' embeddings, of those that are not zero."""
    chance: float
    """Cosine that a random direction has with the word most like it, on average."""

    @property
    def at_zero(self) -> bool:
        """Whether no action token has moved at all: they were frozen, or never trained."""
        return not any(self.norms)


@torch.inference_mode()
def movement(policy: ActionTokenPolicy, tokenizer: Any, words: int = 5) -> Movement:
    """Measure a policy's action tokens; ``words`` is how many of the nearest words to name.

    The words are taken as they enter the text tower, with the scale that some families' embedding puts on them.
    UserError for a policy that has no action token.
    """
    if policy.action_token is None:
        raise UserError("this policy has no action token: its latents are means of hidden states")
    embedding = policy.backbone.text_embedding
    tokens = policy.action_token.detach().float()  # (K, D)
    count = min(len(tokenizer), int(policy.vlm.config.get_text_config().vocab_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = torch.randn(_RANDOM, tokens.shape[1]).to(tokens.device)
    directions = torch.nn.functional.normalize(torch.cat([tokens, random]), dim=-1)  # (K + R, D)
    norms, cosines = [], []
    for begin in range(0, count, _ROWS):
        ids = torch.arange(begin, min(begin + _ROWS, count), device=tokens.device)
        rows = embedding(ids).float()  # (rows, D)
        norms.append(rows.norm(dim=-1))
        cosines.append(directions @ torch.nn.functional.normalize(rows, dim=-1).T)  # (K + R, rows)
    norm, cosine = torch.cat(norms), torch.cat(cosines, dim=1)  # (V,), (K + R, V)
    best = cosine[: len(tokens)].topk(min(words, count), dim=1)  # (K, words)
    length = tokens.norm(dim=-1)  # (K,)
    named = [
        tuple(zip(tokenizer.convert_ids_to_tokens(ids.tolist()), values.tolist(), strict=True)) if far > 0 else ()
        for ids, values, far in zip(best.indices, best.values, length.tolist(), strict=True)
    ]
    return Movement(
        norms=tuple(length.tolist()),
        distances=tuple(map(tuple, torch.cdist(tokens, tokens).tolist())),
        nearest=tuple(named),
        word_norm=float(norm[norm > 0].median()),
        chance=float(cosine[len(tokens) :].amax(1).mean()),
    )
