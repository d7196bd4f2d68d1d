"""From the bytes of an image message to an RGB array: the one exact function, live and from bags."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

# encoding -> (channels, which of them are red, green and blue)
_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
ENCODINGS = tuple(_ENCODINGS)
COMPRESSED_FORMATS = ("jpeg", "png")


def decode_image(encoding: str, width: int, height: int, step: int, is_bigendian: int, data: Any) -> NDArray[np.uint8]:
    """Fields of a ``sensor_msgs/Image`` to a (height, width, 3) RGB array that owns its memory.

    ``step`` is the length of a row [bytes], padding included. ``is_bigendian`` means nothing to 8-bit encodings.
    UserError if the encoding is unknown or the data are shorter than the fields say.
    """
    del is_bigendian
    if encoding not in _ENCODINGS:
        raise UserError(f"image encoding '{encoding}' is not one of: {', '.join(ENCODINGS)}")
    channels, order = _ENCODINGS[encoding]
    raw = _bytes(data)
    if width <= 0 or height <= 0 or step < width * channels or raw.size < step * (height - 1) + width * channels:
        raise UserError(
            f"image of {width}x{height} {encoding} with step {step} cannot be read from {raw.size} bytes of data"
        )
    if raw.size < step * height:  # the padding of the last row may be missing
        raw = np.pad(raw, (0, step * height - raw.size))
    rows = raw[: step * height].reshape(height, step)[:, : width * channels]  # (height, width * channels)
    pixels = rows.reshape(height, width, channels)
    if order == (0, 1, 2) and channels == 3:
        return pixels.copy()
    return np.ascontiguousarray(pixels[:, :, list(order)])  # (height, width, 3)


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
