"""Real-time chunking: a decision goes on from what the one before it has committed the robot to.

Black, Galliker and Levine 2025, "Real-Time Execution of Action Chunking Flow Policies". While a policy thinks, the
robot goes on by the chunk before. What that chunk says until the decision comes is frozen; what it says of later times
draws the new chunk towards itself, less and less (`vlm.heads.generative.GenerativeHead.generate_guided`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What the decision in execution says of the steps of the next one."""

    actions: NDArray[np.float64]
    """(n, action_dim) absolute values at the next decision's first n due times, as far as this one reaches."""
    frozen: int
    """The first so many are executed before the next decision can come, or on their way to be."""
    guidance: float = 5.0
    """Largest factor of the guidance, beta."""


def soft_mask(size: int, overlap: int, frozen: int) -> NDArray[np.float64]:
    """(size,) weights of a new chunk's steps (eq. 5): 1 for those that are frozen, then falling to 0 where the chunk
    before has nothing more to say, behind `overlap` steps."""
    overlap = min(overlap, size)
    frozen = min(frozen, overlap)
    place = np.arange(size)
    left = np.clip((overlap - place) / (overlap - frozen + 1), 0.0, 1.0)  # c_i
    soft = left * np.expm1(left) / np.expm1(1.0)
    return np.where(place < frozen, 1.0, np.where(place < overlap, soft, 0.0))
