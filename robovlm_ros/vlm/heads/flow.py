"""The `flow` head: flow matching, a straight way from noise to the chunk in a few steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robovlm_ros.vlm.heads.generative import GenerativeHead, GenerativeOptions
from robovlm_ros.vlm.heads.losses import masked_mean


@dataclass(frozen=True, kw_only=True)
class FlowOptions(GenerativeOptions):
    """Options of the `flow` head."""


class FlowHead(GenerativeHead):
    """Conditional flow matching along straight lines (Lipman et al. 2023, eq. 23 with sigma_min = 0; Liu et al. 2023).

    With noise e, chunk a and time t: x_t = (1 - t) e + t a, and the network learns the velocity a - e.
    """

    def generative_loss(
        self,
        latents: torch.Tensor,
        chunk: torch.Tensor,
        valid: torch.Tensor,
        noise: torch.Tensor,
        time: torch.Tensor,
    ) -> torch.Tensor:
        """Masked mean of (velocity(x_t, t) - (a - e))^2; steps that do not count are noise at all times."""
        assert self.network is not None
        share = time[..., None, None]  # (B, W, 1, 1)
        mixed = torch.where(valid[..., None] > 0, (1 - share) * noise + share * chunk, noise)  # (B, W, C, n)
        return masked_mean((self.network(mixed, time, latents) - (chunk - noise)) ** 2, valid)

    def generate(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Euler steps of dx/dt = velocity(x, t) from t = 0 to 1."""
        assert self.network is not None
        chunk = noise
        for step in range(self.options.steps):
            time = noise.new_full(noise.shape[:2], step / self.options.steps)
            chunk = chunk + self.network(chunk, time, latents) / self.options.steps
        return chunk

    def ladder(self) -> list[tuple[float, float]]:
        count = self.options.steps
        return [(step / count, (step + 1) / count) for step in range(count)]

    def estimate(self, mixed: torch.Tensor, step: int, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.network is not None
        share = step / self.options.steps
        velocity = self.network(mixed, mixed.new_full(mixed.shape[:2], share), latents)
        return mixed + (1 - share) * velocity, mixed - share * velocity
