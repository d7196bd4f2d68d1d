"""An observation: images, state and instruction at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the robot sees, measures and is told at one instant, aligned by header stamps."""

    stamp_ns: int
    """Header stamp of the first camera's image [ns]."""
    images: Mapping[str, NDArray[np.uint8]]
    """Camera name → (height, width, 3) RGB image."""
    state: NDArray[np.float32]
    """(state_dim,) in the order of the contract's ``state_names`` [SI]."""
    instruction: str
    """What to do, as the person said it."""
