"""``stats.json``: for each column its smallest, largest and mean value, its deviation, count and quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
EVERY = 5
"""Of a video every so many frames count, as LeRobot, too, takes a part of them."""
SPARSE = 4
"""... and of these every so many rows and columns."""


def of_numbers(values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Of (n,) or (n, d) values: statistics of shape (1,) or (d,)."""
    columns = values.reshape(len(values), -1).astype(np.float64)  # (n, d)
    quantiles = np.quantile(columns, list(QUANTILES.values()), axis=0)  # (5, d)
    return {
        "min": columns.min(axis=0),
        "max": columns.max(axis=0),
        "mean": columns.mean(axis=0),
        "std": columns.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PixelStatistics:
    """Counts the values of red, green and blue, so that any statistic of them can be told exactly, and summed."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        """How often each value occurred, of red, green and blue."""
        self.images = 0
        """Images that were looked at."""
        self._seen = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """A (height, width, 3) image, of which only every so many are looked at."""
        if self._seen % EVERY == 0:
            pixels = image[::SPARSE, ::SPARSE]  # (height / 4, width / 4, 3)
            for channel in range(3):
                self.counts[channel] += np.bincount(pixels[:, :, channel].ravel(), minlength=256)
            self.images += 1
        self._seen += 1


def of_pixels(counts: NDArray[np.int64], images: int) -> dict[str, NDArray[Any]]:
    """Of (3, 256) counts: statistics of shape (3, 1, 1), of values from 0 to 1."""
    values = np.arange(256) / 255.0  # (256,)
    total = counts.sum(axis=1)  # (3,)
    mean = counts @ values / total
    squares = counts @ values**2 / total
    below = np.cumsum(counts, axis=1) / total[:, None]  # (3, 256) share of values up to each one
    present = counts > 0
    found = {
        "min": values[present.argmax(axis=1)],
        "max": values[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(squares - mean**2, 0.0)),
        **{name: values[(below >= share).argmax(axis=1)] for name, share in QUANTILES.items()},
    }
    return {**{name: value.reshape(3, 1, 1) for name, value in found.items()}, "count": np.array([images])}
