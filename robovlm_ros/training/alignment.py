"""Action latents that resemble their instruction: a contrastive loss beside the policy's own.

What an action latent is compared with is the mean of the instruction's word embeddings, as they were before training.
The other choice, hidden states of the text tower without images, costs a forward a sample and moves with the tower
that learns: both sides could then agree on anything. A mean of words is a target that stands still, and free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy

_WIDTH = 256
"""Width of what both sides are projected to."""
_TEMPERATURE, _SHARPEST = 0.07, 100.0
"""Temperature at first, and the largest value of its inverse, as in CLIP."""


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """The contrastive loss between action latents and instructions."""

    alignment_weight: float = 0.0
    """Weight of the loss that makes action latents resemble their instruction; 0: none (RoboVLMs: 0.05)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alignment_weight) and self.alignment_weight >= 0):
            raise UserError(f"alignment_weight must be at least 0, not {self.alignment_weight:g}")


class Alignment(nn.Module):
    """Two projections and a temperature. They serve training alone: no checkpoint holds them, running needs none."""

    def __init__(self, policy: ActionTokenPolicy, processor: Any, seed: int) -> None:
        """``processor``: the backbone's own, for its words; ``seed``: that of the projections."""
        super().__init__()
        embedding: Any = policy.backbone.text_embedding
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of_action = nn.Linear(policy.backbone.hidden_size, _WIDTH, bias=False)
            self.of_text = nn.Linear(embedding.weight.shape[1], _WIDTH, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))
        """Logarithm of the inverse temperature."""
        self._policy, self._tokenizer = [policy], processor.tokenizer  # in a list: it is no part of this module
        self._words: dict[str, torch.Tensor] = {}

    def forward(
        self, latents: torch.Tensor, instructions: Sequence[str], valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Scalar loss of a batch.

        Args:
            latents: (B, latent_num, D) of one observation each, or (B, W, latent_num, D) of a window.
            instructions: B of them.
            valid: (B, C) or (B, W, C) 1 for target steps that count; observations of a window without one are left out.
        """
        return self.compare(self.pool(latents, valid), instructions)

    @staticmethod
    def pool(latents: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """(B, D) what is compared of each sample; arguments as in `forward`."""
        pooled = latents.mean(-2)  # (B, D) or (B, W, D)
        if pooled.ndim == 3:
            counts = torch.ones_like(pooled[..., :1]) if valid is None else valid.amax(-1, keepdim=True).to(pooled)
            # those without a target may hold anything, even what is no number
            pooled = torch.where(counts > 0, pooled, 0.0).sum(1) / counts.sum(1).clamp(min=1.0)  # (B, D)
        return pooled

    def compare(self, pooled: torch.Tensor, instructions: Sequence[str]) -> torch.Tensor:
        """Scalar loss of what `pool` gave (B, D), and B instructions; 0 for none."""
        if not instructions:
            return pooled.sum() + sum(0.0 * parameter.sum() for parameter in self.parameters())
        words = torch.stack([self.words(text) for text in instructions]).to(pooled)  # (B, D')
        numbers = {text: number for number, text in enumerate(dict.fromkeys(instructions))}
        same = torch.tensor([numbers[text] for text in instructions], device=pooled.device)  # (B,)
        return contrast(self.of_action(pooled), self.of_text(words), same, self.sharpness.exp().clamp(max=_SHARPEST))

    @torch.no_grad()
    def words(self, instruction: str) -> torch.Tensor:
        """(D',) mean of the instruction's word embeddings, as it was when it was first asked for."""
        if instruction not in self._words:
            embedding: Any = self._policy[0].backbone.text_embedding
            ids = self._tokenizer(instruction, add_special_tokens=False, return_tensors="pt")["input_ids"].long()
            vectors: torch.Tensor = embedding(ids.to(embedding.weight.device))[0].float()  # (words, D')
            self._words[instruction] = vectors.sum(0) / max(len(vectors), 1)
        return self._words[instruction]


def contrast(actions: torch.Tensor, texts: torch.Tensor, same: torch.Tensor, sharpness: torch.Tensor) -> torch.Tensor:
    """Symmetric contrastive loss (Radford et al. 2021, "CLIP", figure 3), where the same text is no negative.

    With u = a / |a|, v = t / |t| and s_ij = sharpness u_i v_j, the mean over i of

        -1/2 [ log (exp s_ii / sum_j exp s_ij) + log (exp s_ii / sum_j exp s_ji) ],

    j running over i itself and all samples with another text; 0 for a sample that has no others.

    Args:
        actions, texts: (B, P) projections.
        same: (B,) a number for each text, the same where texts are.
        sharpness: scalar, the inverse temperature.
    """
    scores = sharpness * functional.normalize(actions, dim=-1) @ functional.normalize(texts, dim=-1).T  # (B, B)
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill((same[:, None] == same[None]) & ~itself, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2
