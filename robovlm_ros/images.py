"""From the bytes of an image message to an RGB array: the one exact function, live and from bags."""

from __future__ import annotations

import io
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError


@dataclass(frozen=True)
class _Plain:
    """Interleaved channels of one brightness each."""

    channels: int
    order: tuple[int, int, int]
    """Which channels are red, green and blue."""
    size: int = 1
    """Bytes of a channel; of two the higher one is the brightness."""


_PLAIN = {
    "rgb8": _Plain(3, (0, 1, 2)),
    "bgr8": _Plain(3, (2, 1, 0)),
    "rgba8": _Plain(4, (0, 1, 2)),
    "bgra8": _Plain(4, (2, 1, 0)),
    "mono8": _Plain(1, (0, 0, 0)),
    "8UC1": _Plain(1, (0, 0, 0)),
    "rgb16": _Plain(3, (0, 1, 2), 2),
    "bgr16": _Plain(3, (2, 1, 0), 2),
    "rgba16": _Plain(4, (0, 1, 2), 2),
    "bgra16": _Plain(4, (2, 1, 0), 2),
    "mono16": _Plain(1, (0, 0, 0), 2),
}
_BAYER = {f"bayer_{tiles}{bits}": (tiles, bits // 8) for tiles in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}
"""Encoding -> colours of the first two pixels and of those below them, and bytes of each."""
_YUV = {"yuv422": "uyvy", "uyvy": "uyvy", "yuv422_yuy2": "yuyv", "yuyv": "yuyv"}
"""Encoding -> order of the bytes of two neighbours: each its luma y, and together u and v."""
_DEPTH = {"16UC1": ("u2", 0.001), "32FC1": ("f4", 1.0)}
"""Encoding -> type and unit [m] (REP 118)."""
ENCODINGS = (*_PLAIN, *_BAYER, *_YUV, *_DEPTH)
COMPRESSED_FORMATS = ("jpeg", "png")


def decode_image(
    encoding: str,
    width: int,
    height: int,
    step: int,
    is_bigendian: int,
    data: Any,
    depth_m: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Fields of a ``sensor_msgs/Image`` to a (height, width, 3) RGB array.

    It has memory of its own, but for ``rgb8`` in an `array.array`, as messages of rclpy hold it: there it looks at the
    message, which is its receiver's and which nobody writes to again.

    ``step`` is the length of a row [bytes], padding included. Depth becomes grey: 255 at the nearest and 0 at the
    farthest of ``depth_m``, and 0 where nothing was measured. UserError if the encoding is unknown, the data are
    shorter than the fields say, or there is depth without ``depth_m``.
    """
    if encoding not in ENCODINGS:
        raise UserError(f"image encoding '{encoding}' is not one of: {', '.join(ENCODINGS)}")
    if encoding in _PLAIN:
        plain = _PLAIN[encoding]
        rows = _rows(encoding, width, height, step, plain.channels * plain.size, data)
        pixels = rows.reshape(height, width, plain.channels, plain.size)[..., _high_byte(plain.size, is_bigendian)]
        if plain.order == (0, 1, 2) and plain.channels == 3:
            return pixels if isinstance(data, array) else pixels.copy()
        return np.ascontiguousarray(pixels[:, :, list(plain.order)])  # (height, width, 3)
    if encoding in _BAYER:
        tiles, size = _BAYER[encoding]
        rows = _rows(encoding, width, height, step, size, data)
        return _demosaic(tiles, rows.reshape(height, width, size)[..., _high_byte(size, is_bigendian)])
    if encoding in _YUV:
        return _from_yuv(_YUV[encoding], _rows(encoding, width, height, step, 2, data))
    kind, unit_m = _DEPTH[encoding]
    if depth_m is None:
        raise UserError(f"image encoding '{encoding}' is depth: give the camera 'depth: [nearest, farthest]' [m]")
    values = np.dtype(kind).newbyteorder(">" if is_bigendian else "<")
    rows = _rows(encoding, width, height, step, values.itemsize, data)
    return _from_depth(np.ascontiguousarray(rows).view(values) * unit_m, depth_m)  # of (height, width) [m]


def _rows(encoding: str, width: int, height: int, step: int, pixel: int, data: Any) -> NDArray[np.uint8]:
    """(height, width * pixel) bytes without padding, of `pixel` bytes each."""
    raw = _bytes(data)
    if width <= 0 or height <= 0 or step < width * pixel or raw.size < step * (height - 1) + width * pixel:
        raise UserError(
            f"image of {width}x{height} {encoding} with step {step} cannot be read from {raw.size} bytes of data"
        )
    if (encoding in _YUV and width % 2) or (encoding in _BAYER and min(width, height) < 2):
        raise UserError(f"an image of {width}x{height} cannot be {encoding}, which shares colours between neighbours")
    if raw.size < step * height:  # the padding of the last row may be missing
        raw = np.pad(raw, (0, step * height - raw.size))
    return raw[: step * height].reshape(height, step)[:, : width * pixel]


def _high_byte(size: int, is_bigendian: int) -> int:
    return 0 if is_bigendian else size - 1


def _demosaic(tiles: str, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) of a mosaic (height, width): each missing colour is the mean of the neighbours with it."""
    height, width = raw.shape
    padded = np.pad(raw, 1, mode="reflect").astype(np.uint16)  # without repeating the edge, which keeps the tiles
    image = np.empty((height, width, 3), np.uint8)
    for channel, colour in enumerate("rgb"):
        known = np.zeros_like(padded)
        for place in (place for place, name in enumerate(tiles) if name == colour):
            # the padding moves a tile's pixel by one
            first = (1 - place // 2, 1 - place % 2)
            known[first[0] :: 2, first[1] :: 2] = padded[first[0] :: 2, first[1] :: 2]
        across = known[:, :-2] + 2 * known[:, 1:-1] + known[:, 2:]  # (height + 2, width)
        if colour == "g":  # a green's neighbours are above, below, left and right; without the corners
            total = across[1:-1] + 2 * known[1:-1, 1:-1] + known[:-2, 1:-1] + known[2:, 1:-1]
        else:
            total = across[:-2] + 2 * across[1:-1] + across[2:]
        image[..., channel] = (total + 2) // 4
    return image


def _from_yuv(order: str, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) of YUV 4:2:2 bytes (height, width * 2), by ITU-R BT.601 in its studio range (16 to 235).

    R = 1.164 (Y - 16) + 1.596 (V - 128), G = 1.164 (Y - 16) - 0.813 (V - 128) - 0.392 (U - 128),
    B = 1.164 (Y - 16) + 2.017 (U - 128); in whole numbers, so that all machines agree.
    """
    height, width = rows.shape[0], rows.shape[1] // 2
    pairs = rows.reshape(height, width // 2, 4)
    luma = pairs[..., order.index("y") :: 2].astype(np.int32) * 76309 + (32768 - 16 * 76309)  # in units of 2^-16
    u, v = (pairs[..., order.index(name)].astype(np.int32) - 128 for name in "uv")  # (height, width / 2) each
    image = np.empty((height, width // 2, 2, 3), np.uint8)
    for channel, tint in enumerate((104597 * v, -53279 * v - 25675 * u, 132201 * u)):
        image[..., channel] = np.clip((luma + tint[..., None]) >> 16, 0, 255)
    return image.reshape(height, width, 3)


def _from_depth(depth: NDArray[np.floating], depth_m: tuple[float, float]) -> NDArray[np.uint8]:
    """(height, width, 3) grey of distances (height, width) [m]."""
    nearest, farthest = depth_m
    measured = np.isfinite(depth) & (depth > 0)
    share = (farthest - np.where(measured, depth, farthest)) / (farthest - nearest)
    grey = np.round(255 * np.clip(share, 0.0, 1.0)).astype(np.uint8)  # (height, width)
    return np.repeat(grey[..., None], 3, axis=2)


def decode_compressed(format: str, data: Any) -> NDArray[np.uint8]:
    """Fields of a ``sensor_msgs/CompressedImage`` (JPEG or PNG) to a (height, width, 3) RGB array.

    ``format`` is ROS's free text (``jpeg``, ``rgb8; png compressed bgr8``): it serves for the message of an error
    only, the data say themselves what they are. UserError if they are neither JPEG nor PNG.
    """
    from PIL import Image, UnidentifiedImageError  # only where compressed images are used

    try:
        with Image.open(io.BytesIO(_bytes(data).tobytes()), formats=COMPRESSED_FORMATS) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"compressed image of format '{format}' cannot be read (formats: {', '.join(COMPRESSED_FORMATS)})"
        ) from error


def _bytes(data: Any) -> NDArray[np.uint8]:
    """Bytes, array, memoryview or list of numbers as a flat uint8 array, without a copy where possible."""
    if isinstance(data, np.ndarray):
        return data.astype(np.uint8, copy=False).ravel()
    if isinstance(data, (list, tuple)):
        return np.array(data, dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8)
