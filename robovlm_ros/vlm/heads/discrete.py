"""The `discrete` head: actions as bins, each a word of the language model's own vocabulary to begin with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead
from robovlm_ros.vlm.heads.losses import masked_mean

DECODINGS = ("parallel", "autoregressive")
CHOICES = ("argmax", "expectation")


@dataclass(frozen=True, kw_only=True)
class DiscreteOptions:
    """Options of the `discrete` head."""

    bins: int = 256
    """Bins of [-1, 1] in normalised units, and as many words of the end of the vocabulary that stand for them."""
    decoding: str = "parallel"
    """parallel: every value of a chunk has an action token of its own, and one forward decides them all.
    autoregressive: values are words behind the action tokens, each of which knows those before it."""
    choice: str = "argmax"
    """What a continuous value becomes: argmax (centre of the likeliest bin) or expectation (mean over all bins)."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise UserError(f"head 'discrete': bins must be at least 2, not {self.bins}")
        for name, known in (("decoding", DECODINGS), ("choice", CHOICES)):
            if getattr(self, name) not in known:
                raise UserError(f"head 'discrete': {name} '{getattr(self, name)}' is not one of: {', '.join(known)}")


class DiscreteHead(PolicyHead):
    """Each value of a chunk is one of ``bins`` words, as in RT-2 (Brohan et al. 2023): an answer, not a regression.

    The words are the last ones of the vocabulary. Their vectors in the language model's head (and in its word
    embedding, where they are read again) are copied into this one when a policy is made, and learn here: whatever is
    tied or frozen in the VLM stays as it is, and logits are computed for bins alone. A continuous value is clipped to
    [-1, 1], so that a normalisation should leave little outside. A binary one is a choice between the first bin and
    the last.
    """

    def __init__(self, shape: HeadShape, options: DiscreteOptions) -> None:
        super().__init__(shape)
        self.options = options
        self.values = shape.chunk_size * len(shape.binary)
        """Values of a chunk."""
        self.answers = options.decoding == "autoregressive"
        if not self.answers and shape.latent_num != self.values:
            raise UserError(
                "head 'discrete' decodes in parallel, one action token for each value: latent_num must be chunk_size x "
                f"actions = {shape.chunk_size} x {len(shape.binary)} = {self.values}, not {shape.latent_num}; "
                "or choose decoding: autoregressive"
            )
        self.words = options.bins
        self.logits = nn.Linear(shape.hidden_size, options.bins, bias=False)
        self.inputs = nn.Embedding(options.bins, shape.hidden_size) if self.answers else None

    def inherit(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        self.logits.weight.copy_(outputs)
        if self.inputs is not None:
            self.inputs.weight.copy_(inputs)

    def embed(self, actions: torch.Tensor) -> torch.Tensor:
        """(B, C A, D) input embeddings of normalised values (B, C, A), 0 or 1 where binary, as words."""
        assert self.inputs is not None
        bins = torch.where(self.binary, (actions > 0.5) * (self.options.bins - 1), self.bins_of(actions))  # (B, C, A)
        embedded: torch.Tensor = self.inputs(bins.flatten(1))
        return embedded

    def word(self, logits: torch.Tensor, value: int) -> torch.Tensor:
        """(B, D) input embedding of the likeliest word, by logits (B, bins), of a value by its place in the chunk."""
        assert self.inputs is not None
        last = self.options.bins - 1
        is_binary = self.shape.binary[value % len(self.shape.binary)]
        likeliest: torch.Tensor = self.inputs((_odds(logits) > 0) * last if is_binary else logits.argmax(-1))
        return likeliest

    def bins_of(self, actions: torch.Tensor) -> torch.Tensor:
        """(...) index of the bin whose centre is nearest to normalised values (...); centres are evenly spread."""
        last = self.options.bins - 1
        return ((actions.float().clamp(-1, 1) + 1) / 2 * last).round().long()

    def centres(self, like: torch.Tensor) -> torch.Tensor:
        """(bins,) normalised values that the bins mean, -1 and 1 the outermost."""
        return torch.linspace(-1, 1, self.options.bins, dtype=torch.float32, device=like.device)

    def raw(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A, bins) logits of all values, each from one of the last C A latents."""
        logits: torch.Tensor = self.logits(latents[:, :, -self.values :])  # (B, W, C A, bins)
        return self._in_chunk(logits)

    def _in_chunk(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A, bins) of (B, W, C A, bins)."""
        return logits.view(*logits.shape[:2], self.shape.chunk_size, len(self.shape.binary), -1)

    def loss(self, latents: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Masked mean over all values of -log p(bin), where p is the softmax over the bins that the value may have."""
        logits, binary = self.raw(latents).float(), self.binary
        exact = functional.cross_entropy(
            logits[..., ~binary, :].movedim(-1, 1), self.bins_of(actions[..., ~binary]), reduction="none"
        )  # (B, W, C, continuous)
        either = functional.binary_cross_entropy_with_logits(
            _odds(logits[..., binary, :]), actions[..., binary].float(), reduction="none"
        )  # (B, W, C, binary); of two bins it is the cross entropy
        return masked_mean(torch.cat([exact, either], dim=-1), valid)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decided(self.raw(latents)).to(latents.dtype)

    def chunk(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A) as `forward` gives it, for logits (B, W, C A, bins)."""
        return self.decided(self._in_chunk(logits)).to(logits.dtype)

    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, W, C, A) normalised values, probabilities of 1 where binary, for logits (B, W, C, A, bins)."""
        centres, logits = self.centres(logits), logits.float()
        values = centres[logits.argmax(-1)] if self.options.choice == "argmax" else logits.softmax(-1) @ centres
        values = torch.where(logits.isfinite().all(-1), values, torch.nan)  # argmax would make a number of any
        return torch.where(self.binary, _odds(logits).sigmoid(), values)


def _odds(logits: torch.Tensor) -> torch.Tensor:
    """(...) logit of the last of two bins, the first and the last of (..., bins)."""
    return logits[..., -1] - logits[..., 0]
