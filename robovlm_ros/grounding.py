"""Scenes, questions about them, and how a language model says where something is.

A location is spoken as two words of the vocabulary, ``<x07> <y21>``: the bin of the column and of the
row. The simulator asks such questions, the pre-training learns to answer them; both meet here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOCATION_BINS = 32
X_WORDS = tuple(f"<x{index:02d}>" for index in range(LOCATION_BINS))
Y_WORDS = tuple(f"<y{index:02d}>" for index in range(LOCATION_BINS))


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one image."""

    text: str
    """The question, in words."""
    answer: tuple[str, ...] = ()
    """The words of the answer; empty for a location."""
    point: tuple[float, float] | None = None
    """(column, row) of the thing asked for, each in [0, 1] of the image; None: answered in words."""


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Rendered scenes and what is in them."""

    images: NDArray[np.uint8]
    """(n, height, width, 3) RGB images."""
    points: NDArray[np.float32]
    """(n, labels, 2) (column, row) of each labelled thing in [0, 1] of the image; NaN where it is absent."""
    labels: tuple[str, ...]
    """What the points are of, for example colours of blocks."""

    def __len__(self) -> int:
        return len(self.images)


def bin_weights(coordinate: float) -> NDArray[np.float32]:
    """(LOCATION_BINS,) weights of the two bins around a coordinate in [0, 1]; they sum to 1.

    Their expectation over bin centres is the coordinate itself, so that an answer can be finer than a bin.
    """
    position = float(np.clip(coordinate * LOCATION_BINS - 0.5, 0.0, LOCATION_BINS - 1))
    low = int(position)
    high = min(low + 1, LOCATION_BINS - 1)
    weights = np.zeros(LOCATION_BINS, dtype=np.float32)
    weights[low] += 1.0 - (position - low)
    weights[high] += position - low
    return weights


def expected_coordinate(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """(...,) coordinates in [0, 1] that bin weights (..., LOCATION_BINS) stand for; inverse of `bin_weights`."""
    centres = (np.arange(LOCATION_BINS) + 0.5) / LOCATION_BINS
    weights = np.asarray(weights, np.float64)
    coordinates: NDArray[np.float64] = weights @ centres / weights.sum(-1)
    return coordinates


def nearest_bin(coordinate: float) -> int:
    """Index of the bin that holds a coordinate in [0, 1]."""
    return int(np.clip(coordinate * LOCATION_BINS, 0, LOCATION_BINS - 1))
