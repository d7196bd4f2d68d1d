"""Image tensors as bytes, exactly: what a processor makes of 8-bit images has few values, so they can be numbered.

An image processor resizes 8-bit images to 8-bit images and then scales them, channel by channel. However it does that,
a channel of what comes out has at most 256 values, so that a table of them and a byte for each number say the same as
the 32-bit numbers themselves, in a quarter of the space. Nothing here knows how it scales: the table is collected from
the numbers, and compared bit by bit. Where there are more values than a code can number, the numbers are kept as they
are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TooManyValuesError(Exception):
    """There are more values than codes."""


class Codebook:
    """Numbers ↔ codes; the table grows while samples are encoded, and codes given before stay what they are."""

    def __init__(self, sample: Array) -> None:
        """For samples like this one: (..., 3, H, W) has a table of 256 values for each channel, others one of 65536."""
        self.dtype = sample.dtype
        self.bits = np.dtype(f"u{sample.dtype.itemsize}")
        self.planes = 3 if sample.ndim >= 3 and sample.shape[-3] == 3 else 1
        self.code = np.dtype(np.uint8 if self.planes == 3 else np.uint16)
        self._tables: list[Array] = [np.zeros(0, self.bits) for _ in range(self.planes)]

    @staticmethod
    def serves(sample: Array) -> bool:
        """Whether codes take less space than samples like this one."""
        return bool(np.issubdtype(sample.dtype, np.floating)) and sample.dtype.itemsize > 2

    def encode(self, values: Array) -> Array:
        """Codes of the same shape; TooManyValuesError if the tables cannot take what is new."""
        bits = np.ascontiguousarray(values).view(self.bits)  # as bits, -0.0 is not 0.0 and a NaN is itself
        codes = np.empty(bits.shape, self.code)
        for found, out, plane in self._by_plane(bits, codes):
            out[...] = self._number(found, plane)
        return codes

    @property
    def table(self) -> Array:
        """(planes, codes) values, padded with zeros where a plane has fewer."""
        table = np.zeros((self.planes, max(len(own) for own in self._tables)), self.bits)
        for row, own in zip(table, self._tables, strict=True):
            row[: len(own)] = own
        return table.view(self.dtype)

    def _by_plane(self, bits: Array, codes: Array) -> list[tuple[Array, Array, int]]:
        if self.planes == 1:
            return [(bits, codes, 0)]
        return [(bits[..., plane, :, :], codes[..., plane, :, :], plane) for plane in range(self.planes)]

    def _number(self, bits: Array, plane: int) -> Array:
        table = self._tables[plane]
        for _ in range(2):
            order = np.argsort(table)
            place = np.searchsorted(table, bits, sorter=order) if len(table) else np.zeros(bits.shape, np.intp)
            codes = order[np.minimum(place, len(table) - 1)] if len(table) else place
            if len(table) and np.array_equal(table[codes], bits):
                break
            new = np.setdiff1d(bits, table)
            if len(table) + len(new) > 256**self.code.itemsize:
                raise TooManyValuesError
            table = self._tables[plane] = np.concatenate([table, new])
        return codes


def decode(codes: Array, table: Array) -> Array:
    """The numbers (...) of codes (...), by a table (planes, codes) as `Codebook` makes it."""
    values = np.empty(codes.shape, table.dtype)
    if len(table) == 1:
        np.take(table[0], codes, out=values, mode="clip")  # clip: no check of each code, for all are in the table
        return values
    planes = values.shape[-2:]
    for some, out in zip(codes.reshape(-1, len(table), *planes), values.reshape(-1, len(table), *planes), strict=True):
        for plane, row in enumerate(table):
            np.take(row, some[plane], out=out[plane], mode="clip")
    return values
