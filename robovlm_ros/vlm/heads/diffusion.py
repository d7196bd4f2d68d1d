"""The `diffusion` head: a chunk is freed of its noise step by step."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.generative import GenerativeHead, GenerativeOptions
from robovlm_ros.vlm.heads.losses import masked_mean


@dataclass(frozen=True, kw_only=True)
class DiffusionOptions(GenerativeOptions):
    """Options of the `diffusion` head."""

    noise_steps: int = 100
    """Steps of noise in training; running takes `steps` of them, evenly spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_steps < self.steps:
            raise UserError(f"the head's noise_steps must be at least its steps, {self.steps}, not {self.noise_steps}")


@functools.cache
def signal_shares(count: int) -> NDArray[np.float64]:
    """(count,) share of the signal's power after 1 to ``count`` steps of noise, falling from about 1 to about 0.

    The squared cosine of Nichol and Dhariwal 2021, eq. 17, with its offset of 0.008 and its noise of at most 0.999.
    """
    place = (np.arange(count + 1) / count + 0.008) / 1.008
    signal = np.cos(place * np.pi / 2) ** 2  # (count + 1,)
    noise = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    return np.cumprod(1 - noise)


class DiffusionHead(GenerativeHead):
    """Denoising diffusion that predicts velocities (Salimans and Ho 2022, appendix D), run by DDIM (Song et al. 2021).

    With noise e, chunk a and the signal's share s_k at step k: x_k = sqrt(s_k) a + sqrt(1 - s_k) e, and the network
    learns v = sqrt(s_k) e - sqrt(1 - s_k) a, which is well scaled at all k; noise alone tells little of a where s_k
    is near 1, and nothing where it is near 0.
    """

    options: DiffusionOptions

    def __init__(self, shape: HeadShape, options: DiffusionOptions) -> None:
        super().__init__(shape, options)

    def generative_loss(
        self,
        latents: torch.Tensor,
        chunk: torch.Tensor,
        valid: torch.Tensor,
        noise: torch.Tensor,
        time: torch.Tensor,
    ) -> torch.Tensor:
        """Masked mean of (predicted - v)^2 at k = floor(time * noise_steps); what does not count is noise at all k."""
        assert self.network is not None
        count = self.options.noise_steps
        step = (time.float() * count).long().clamp(max=count - 1)  # (B, W); 1.0 may come of rounding
        share = torch.from_numpy(signal_shares(count)).to(chunk)[step][..., None, None]  # (B, W, 1, 1)
        mixed = torch.where(valid[..., None] > 0, share.sqrt() * chunk + (1 - share).sqrt() * noise, noise)
        velocity = share.sqrt() * noise - (1 - share).sqrt() * chunk  # (B, W, C, n)
        return masked_mean((self.network(mixed, (step + 1).to(chunk) / count, latents) - velocity) ** 2, valid)

    def generate(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """DDIM without noise of its own (eta = 0): x_j = sqrt(s_j) a + sqrt(1 - s_j) e with the a and e that v says."""
        assert self.network is not None
        count, shares, ladder = self.options.noise_steps, signal_shares(self.options.noise_steps), self.noise_ladder()
        after = [*shares[ladder[1:]], 1.0]
        chunk = noise
        for step, following in zip(ladder, after, strict=True):
            signal, spread = float(shares[step]) ** 0.5, float(1 - shares[step]) ** 0.5
            time = noise.new_full(noise.shape[:2], (int(step) + 1) / count)
            velocity = self.network(chunk, time, latents)
            clean, noisy = signal * chunk - spread * velocity, spread * chunk + signal * velocity
            chunk = float(following) ** 0.5 * clean + float(1 - following) ** 0.5 * noisy
        return chunk

    def noise_ladder(self) -> NDArray[np.int64]:
        """(steps,) the steps of noise that running takes, from the noisiest."""
        count = self.options.noise_steps
        return np.round(np.linspace(count, 0, self.options.steps, endpoint=False)).astype(np.int64) - 1

    def ladder(self) -> list[tuple[float, float]]:
        """But for its scale sqrt(s) a + sqrt(1 - s) e is (1 - t) e + t a, t = sqrt(s) / (sqrt(s) + sqrt(1 - s))."""
        signal = np.sqrt(signal_shares(self.options.noise_steps)[self.noise_ladder()])
        times = [*(signal / (signal + np.sqrt(1 - signal**2))).tolist(), 1.0]
        return list(itertools.pairwise(times))

    def begin(self, noise: torch.Tensor) -> torch.Tensor:
        first = self.ladder()[0][0]
        return noise * float(np.hypot(first, 1 - first))

    def estimate(self, mixed: torch.Tensor, step: int, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.network is not None
        place = int(self.noise_ladder()[step])
        share = float(signal_shares(self.options.noise_steps)[place])
        signal, spread = share**0.5, (1 - share) ** 0.5
        chunk = mixed * (signal + spread)
        time = mixed.new_full(mixed.shape[:2], (place + 1) / self.options.noise_steps)
        velocity = self.network(chunk, time, latents)
        return signal * chunk - spread * velocity, spread * chunk + signal * velocity
