"""Attention drawn over camera images: what is looked at stays lit, the rest goes dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PANEL = 240
"""Width of a panel [px], unless told."""
MARGIN, TITLE = 6, 20
BACKGROUND = (24, 24, 28)
FAINT = 0.01
"""An image that gets less than this share of the attention stays dark."""
_DARK = 0.22
_GLOW = np.array([255.0, 170.0, 40.0])

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a sheet."""

    title: str
    image: NDArray[np.uint8]
    """(height, width, 3) of a camera."""
    weights: NDArray[np.floating] | None = None
    """(rows, columns) attention on the image's tokens; None: the image as it is."""
    box: Box = WHOLE
    """What the tokens cover: left, top, right, bottom as shares of width and height."""
    width: int = PANEL
    """When drawn [px]."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) when drawn [px], both even."""
        height, width = self.image.shape[:2]
        return self.width, 2 * round(self.width * height / width / 2)


def spread(weights: NDArray[np.floating], size: tuple[int, int], box: Box = WHOLE) -> NDArray[np.float64]:
    """(height, width) weights (rows, columns) over an image of this (width, height), the largest of them 1.

    Smooth between the middles of the cells, 0 outside of the box.
    """
    width, height = size
    largest = float(weights.max())
    scaled = Image.fromarray((weights / (largest or 1.0)).astype(np.float32))
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (width, height) * 2, strict=True))
    page = Image.new("F", size, 0.0)
    page.paste(scaled.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(page, np.float64).clip(0, 1)


def draw(panel: Panel) -> Image.Image:
    """The panel's picture, without its title."""
    image = Image.fromarray(panel.image).resize(panel.size, Image.Resampling.BICUBIC)
    if panel.weights is None:
        return image
    if panel.weights.sum() < FAINT:
        return Image.fromarray((np.asarray(image, np.float64) * _DARK).astype(np.uint8))
    light = spread(panel.weights, panel.size, panel.box)[..., None]  # (height, width, 1)
    lit = np.asarray(image, np.float64) * (_DARK + (1 - _DARK) * light) + 0.18 * light * _GLOW
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def strip(panels: Sequence[Panel]) -> Image.Image:
    """Panels beside one another under their titles; width and height are even."""
    width = sum(panel.size[0] + MARGIN for panel in panels) + MARGIN
    height = max(panel.size[1] for panel in panels) + TITLE + MARGIN
    page = Image.new("RGB", (width + width % 2, height + height % 2), BACKGROUND)
    pen, x = ImageDraw.Draw(page), MARGIN
    for panel in panels:
        page.paste(draw(panel), (x, TITLE))
        pen.text((x, 3), panel.title, fill="white", font=ImageFont.load_default(12))
        x += panel.size[0] + MARGIN
    return page


def sheet(caption: str, rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Strips below one another under a caption; 256 colours, to make a small file."""
    strips = [strip(row) for row in rows]
    head = 30
    page = Image.new("RGB", (max(s.width for s in strips), head + sum(s.height for s in strips)), BACKGROUND)
    ImageDraw.Draw(page).text((MARGIN, 6), caption, fill="white", font=ImageFont.load_default(16))
    y = head
    for part in strips:
        page.paste(part, (0, y))
        y += part.height
    return page.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.FLOYDSTEINBERG)


def save_sheet(path: Path, caption: str, rows: Sequence[Sequence[Panel]]) -> None:
    """Write a sheet, with its folder, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(caption, rows).save(path, optimize=True)
    print(f"inspect: picture in {path}")


def instants(count: int, wanted: int) -> list[int]:
    """Up to so many of ``count`` observations, evenly spread from the first to the last."""
    return sorted({round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)})
