"""Image encodings (sensor_msgs/image_encodings.hpp): element type, channels and colour order."""

from __future__ import annotations

import re

COLORS = {
    "mono8": ("uint8", 1), "mono16": ("uint16", 1), "bgr8": ("uint8", 3), "rgb8": ("uint8", 3),
    "bgra8": ("uint8", 4), "rgba8": ("uint8", 4), "bgr16": ("uint16", 3), "rgb16": ("uint16", 3),
    "bgra16": ("uint16", 4), "rgba16": ("uint16", 4),
}  # fmt: skip
BAYER = {f"bayer_{order}{bits}": (f"uint{bits}", 1) for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}
YUV = dict.fromkeys(("uyvy", "yuyv", "yuv422", "yuv422_yuy2"), ("uint8", 2))
_OPENCV = {
    "8U": "uint8", "8S": "int8", "16U": "uint16", "16S": "int16", "32S": "int32", "32F": "float32", "64F": "float64",
}  # fmt: skip
_OPENCV_NAME = re.compile(r"^(8U|8S|16U|16S|32S|32F|64F)(?:C(\d+))?$")


def parse(encoding: str) -> tuple[str, int]:
    """(NumPy type, channels) of an encoding; KeyError for one that is unknown."""
    for table in (COLORS, BAYER, YUV):
        if encoding in table:
            return table[encoding]
    match = _OPENCV_NAME.match(encoding)
    if match is None:
        raise KeyError(encoding)
    return _OPENCV[match[1]], int(match[2] or 1)


def opencv_name(dtype: str, channels: int) -> str:
    """``("uint8", 3)`` → ``8UC3``."""
    for name, kind in _OPENCV.items():
        if kind == dtype:
            return f"{name}C{channels}"
    raise KeyError(dtype)


def names() -> list[str]:
    """The encodings with names of their own, for messages to users."""
    return [*COLORS, *BAYER, *YUV]
