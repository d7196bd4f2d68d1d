"""What heads that draw the chunk from noise have in common: `flow` and `diffusion`.

Noise is for continuous dimensions only. Whether a binary one is 0 or 1 is decided from the latents at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead
from robovlm_ros.vlm.heads.losses import check_binary_weight, masked_mean
from robovlm_ros.vlm.heads.regression import perceptron

_TIME_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class GenerativeOptions:
    """Options of every head that draws the chunk from noise."""

    width: int = 256
    """Width of the network that turns noise into a chunk."""
    depth: int = 3
    """Residual blocks of that network."""
    steps: int = 10
    """Steps from noise to a chunk when running; each costs one pass through that network."""
    draws: int = 8
    """Noises and times that training draws for each observation: cheap beside the VLM, and a steadier gradient."""
    binary_weight: float = 0.01
    """Weight of the binary dimensions' cross entropy."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "steps", "draws"):
            if getattr(self, name) < 1:
                raise UserError(f"the head's {name} must be at least 1, not {getattr(self, name)}")
        check_binary_weight(self.binary_weight)


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a chunk is drawn towards: the decision before it, where it reaches."""

    chunk: torch.Tensor
    """(C, A) normalised actions; where their weight is 0 they are of no account."""
    weights: torch.Tensor
    """(C,) how much each of them counts, 1 for those that are committed."""
    limit: float = 5.0
    """Largest factor of the guidance, beta."""


class ChunkNetwork(nn.Module):
    """(noisy chunk, time, latents) → what to change: a residual MLP."""

    def __init__(self, chunk: int, latent: int, options: GenerativeOptions) -> None:
        """``chunk``: values of a chunk, C x n; ``latent``: values of an observation's latents, K x D."""
        super().__init__()
        width = options.width
        self.entrance = nn.Linear(chunk + _TIME_WIDTH + latent, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(options.depth)
        )
        self.exit = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, chunk))

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """(B, W, C, n) for a noisy chunk (B, W, C, n), its time (B, W) in [0, 1] and latents (B, W, K, D).

        The chunk keeps its own precision from step to step, whatever that of the network.
        """
        inputs = torch.cat([noisy.flatten(2), time_code(time), latents.flatten(2)], dim=2)  # (B, W, C n + T + K D)
        hidden = self.entrance(inputs.to(self.entrance.weight.dtype))  # (B, W, width)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: torch.Tensor = self.exit(hidden)
        return out.view_as(noisy).to(noisy.dtype)


def time_code(time: torch.Tensor) -> torch.Tensor:
    """(..., 32) sines and cosines of a time (...) in [0, 1], with periods from 1/100 of the unit to all of it and more.

    The encoding of "Attention Is All You Need" (2017), section 3.5, with its frequencies fit to the unit interval.
    """
    half = _TIME_WIDTH // 2
    frequencies = torch.logspace(0, math.log10(200 * math.pi), half, device=time.device, dtype=torch.float32)
    angles = time[..., None].float() * frequencies  # (..., half)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(time.dtype)


class GenerativeHead(PolicyHead):
    """Each observation for itself. Running begins at the same noise always: the same latents give the same chunk."""

    def __init__(self, shape: HeadShape, options: GenerativeOptions) -> None:
        super().__init__(shape)
        self.options = options
        binary = sum(shape.binary)
        latent = shape.latent_num * shape.hidden_size
        self.continuous = len(shape.binary) - binary
        """Dimensions that are drawn."""
        self.network = ChunkNetwork(shape.chunk_size * self.continuous, latent, options) if self.continuous else None
        self.decide = perceptron([latent, options.width, shape.chunk_size * binary]) if binary else None

    def generative_loss(
        self,
        latents: torch.Tensor,
        chunk: torch.Tensor,
        valid: torch.Tensor,
        noise: torch.Tensor,
        time: torch.Tensor,
    ) -> torch.Tensor:
        """Scalar loss for given draws.

        Args:
            latents: (B, W, K, D).
            chunk, noise: (B, W, C, n) targets of continuous dimensions, and standard normal noise.
            valid: (B, W, C) 1 for steps that count.
            time: (B, W) uniform in [0, 1).
        """
        raise NotImplementedError

    def generate(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(B, W, C, n) continuous dimensions from standard normal noise (B, W, C, n)."""
        raise NotImplementedError

    def ladder(self) -> list[tuple[float, float]]:
        """Time before and after each step from noise, 0, to a chunk, 1."""
        raise NotImplementedError

    def estimate(self, mixed: torch.Tensor, step: int, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The chunk a and the noise e, (B, W, C, n) each, of which the network takes (1 - t) e + t a to be made."""
        raise NotImplementedError

    def generate_guided(
        self, latents: torch.Tensor, noise: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, limit: float
    ) -> torch.Tensor:
        """(B, W, C, n) continuous dimensions from noise (B, W, C, n), drawn towards (C, n) by weights (C,).

        Real-time chunking (Black, Galliker and Levine 2025, "Real-Time Execution of Action Chunking Flow Policies", eq.
        2 to 4): at each time t the flow a - e is corrected by min(beta, (1 - t) / (t r^2)) J^T W (wanted - a), where a
        is the chunk that the network expects, J its Jacobian and r^2 = (1 - t)^2 / (t^2 + (1 - t)^2). Diffusion takes
        the same way: in these coordinates DDIM is an Euler step along a - e.
        """
        with torch.inference_mode(False), torch.enable_grad():
            latents, wanted = latents.detach().clone(), wanted.detach().clone()  # those of inference know no gradient
            share = weights.detach().clone()[:, None]  # (C, 1)
            mixed = self.begin(noise.detach().clone())
            for step, (time, after) in enumerate(self.ladder()):
                mixed.requires_grad_()
                clean, noisy = self.estimate(mixed, step, latents)
                error = (wanted - clean.detach()) * share  # (B, W, C, n)
                (pull,) = torch.autograd.grad(clean, mixed, grad_outputs=error.to(clean.dtype))
                odds = time * (1 - time)
                factor = min(limit, (time**2 + (1 - time) ** 2) / odds) if odds > 0 else limit
                mixed = (mixed + (after - time) * (clean - noisy + factor * pull)).detach()
        return mixed

    def begin(self, noise: torch.Tensor) -> torch.Tensor:
        """The noise (B, W, C, n) that running begins with, as (1 - t) e + t a at the ladder's first time."""
        return noise

    def loss(self, latents: torch.Tensor, actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        binary = self.binary
        total = latents.new_zeros(())
        if self.network is not None:
            draws = self.options.draws
            chunk = actions[..., ~binary].repeat(draws, 1, 1, 1)  # (draws B, W, C, n)
            repeated = latents.repeat(draws, 1, 1, 1)  # (draws B, W, K, D)
            time = torch.rand(repeated.shape[:2], dtype=chunk.dtype, device=chunk.device)  # (draws B, W)
            noise = torch.randn_like(chunk)
            total = total + self.generative_loss(repeated, chunk, valid.repeat(draws, 1, 1), noise, time)
        if self.decide is not None:
            error = functional.binary_cross_entropy_with_logits(
                self._logits(latents), actions[..., binary], reduction="none"
            )
            total = total + self.options.binary_weight * masked_mean(error, valid)
        return total

    def forward(self, latents: torch.Tensor, guide: Guide | None = None) -> torch.Tensor:
        batch, window = latents.shape[:2]
        actions = latents.new_empty(batch, window, self.shape.chunk_size, len(self.shape.binary))
        if self.network is not None:
            drawn = self.fixed_noise().to(latents.device).expand(batch, window, -1, -1)  # (B, W, C, n)
            if guide is None:
                chunk = self.generate(latents, drawn)  # (B, W, C, n)
            else:
                wanted = guide.chunk[:, ~self.binary]  # (C, n)
                chunk = self.generate_guided(latents, drawn, wanted, guide.weights, guide.limit)
            actions[..., ~self.binary] = chunk.to(actions.dtype)
        if self.decide is not None:
            actions[..., self.binary] = self._logits(latents).sigmoid()
        return actions

    def fixed_noise(self) -> torch.Tensor:
        """(C, n) standard normal noise, the same each time and on every machine."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.shape.chunk_size, self.continuous, generator=generator)

    def _logits(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, W, C, binary) logits of the binary dimensions."""
        assert self.decide is not None
        flat: torch.Tensor = self.decide(latents.flatten(2))  # (B, W, C * binary)
        return flat.view(*flat.shape[:2], self.shape.chunk_size, -1)  # (B, W, C, binary)
