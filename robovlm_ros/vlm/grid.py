"""Where the image tokens of a camera lie in its image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from robovlm_ros.errors import UserError

WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class ImageGrid:
    """Image tokens in rows and columns, row by row, over a part of a camera's image."""

    first: int
    """Place of the first of them among all image tokens of the sample."""
    rows: int
    columns: int
    box: tuple[float, float, float, float] = WHOLE
    """What they cover: left, top, right, bottom as shares of the image's width and height; below 0 or above 1
    where the processor put a margin around the image."""

    @property
    def tokens(self) -> slice:
        """Their places among all image tokens of the sample."""
        return slice(self.first, self.first + self.rows * self.columns)


def square_side(tokens: int, family: str) -> int:
    """Side of a square of so many tokens; UserError when they make none."""
    side = math.isqrt(tokens)
    if side == 0 or side * side != tokens:
        raise UserError(
            f"how the {tokens} image tokens of a camera lie in its image is not known for the backbone '{family}': "
            "they are no square"
        )
    return side


def centred(width: float, height: float) -> tuple[float, float, float, float]:
    """A box of these shares of the image's width and height around its middle."""
    return (0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2)


def seen_box(image_processor: Any, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The part of an image (height, width, 3) that an image processor's resizing and cropping lets through."""
    height, width = shape[:2]
    size = image_processor.size or {}
    crop = getattr(image_processor, "crop_size", None) or {}
    if not getattr(image_processor, "do_center_crop", False) or not crop.get("height"):
        return WHOLE
    if size.get("shortest_edge"):
        scale = size["shortest_edge"] / min(height, width)
        resized = (width * scale, height * scale)
    else:
        resized = (size["width"], size["height"])
    return centred(crop["width"] / resized[0], crop["height"] / resized[1])
