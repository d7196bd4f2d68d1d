"""Images that vary from one look to the next, so that a policy learns what does not depend on the exact picture.

Training images alone: what is measured, and what runs, sees them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from robovlm_ros.errors import UserError

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images vary; all of it is off by default, and needs images instead of cached features."""

    augment_shift: tuple[int, ...] = ()
    """Largest random shift of an image, across and down [px]: one for each camera in their order, or one for all."""
    augment_crop: float = 1.0
    """Side of a random part of the image, as a share of the whole side, that is scaled up to the whole; 1: off."""
    augment_colour: float = 0.0
    """Largest random change of brightness, contrast and saturation, as a share of each; 0: off."""

    def __post_init__(self) -> None:
        if any(shift < 0 for shift in self.augment_shift):
            raise UserError(f"augment_shift must be at least 0 px, not {', '.join(map(str, self.augment_shift))}")
        if not 0 < self.augment_crop <= 1:
            raise UserError(f"augment_crop must be above 0 and at most 1, not {self.augment_crop:g}")
        if not 0 <= self.augment_colour < 1:
            raise UserError(f"augment_colour must be at least 0 and less than 1, not {self.augment_colour:g}")

    @property
    def augments(self) -> bool:
        """Whether anything varies."""
        return any(self.augment_shift) or self.augment_crop < 1 or self.augment_colour > 0

    def shift_of(self, camera: int, cameras: int) -> int:
        """Largest shift [px] of one of so many cameras; UserError where the option names another number of them."""
        shifts = self.augment_shift or (0,)
        if len(shifts) not in (1, cameras):
            raise UserError(f"augment_shift names {len(shifts)} cameras, but the policy looks at {cameras}")
        return shifts[camera % len(shifts)]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is done to an image."""

    shift: tuple[int, int] = (0, 0)
    """Down and to the right [px]; the edge fills what comes free."""
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Upper and left edge of the part that stays, as shares of the room that there is, and its side as a share."""
    brightness: float = 1.0
    """Factor of all values."""
    contrast: float = 1.0
    """Factor of the distance from the image's mean brightness."""
    saturation: float = 1.0
    """Factor of the distance from grey of the same brightness."""


class Augmenter:
    """Draws changes, the same ones for the same seed. All images that a camera gave to one window change alike."""

    def __init__(self, options: Augmentation, cameras: int, seed: int) -> None:
        self.options = options
        self.shifts = [options.shift_of(camera, cameras) for camera in range(cameras)]
        self.seed = seed
        self.generator = np.random.default_rng(seed)

    def begin(self, number: int) -> None:
        """Let the next draw be that of one look of a training run: it depends on nothing that was drawn before."""
        self.generator = np.random.default_rng([self.seed, number])

    def draw(self) -> list[Change]:
        """One change for each camera."""
        rng, colour = self.generator, self.options.augment_colour
        changes = []
        for shift in self.shifts:
            down, right = rng.integers(-shift, shift + 1, 2)
            top, left = rng.random(2)
            brightness, contrast, saturation = rng.uniform(1 - colour, 1 + colour, 3)
            changes.append(
                Change(
                    shift=(int(down), int(right)), crop=(top, left, self.options.augment_crop),
                    brightness=brightness, contrast=contrast, saturation=saturation,
                )
            )  # fmt: skip
        return changes


def change_images(images: Sequence[NDArray[np.uint8]], changes: Sequence[Change]) -> list[NDArray[np.uint8]]:
    """The images (H, W, 3) of all cameras, each with its change."""
    return [change_image(image, change) for image, change in zip(images, changes, strict=True)]


def change_image(image: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """(H, W, 3) an image of the same size, after shift, crop and colours in this order; itself for no change."""
    height, width = image.shape[:2]
    moved = _shifted(image, *change.shift)
    top, left, share = change.crop
    tall, wide = max(1, round(share * height)), max(1, round(share * width))
    if (tall, wide) != (height, width):
        first, start = round(top * (height - tall)), round(left * (width - wide))
        part = torch.from_numpy(moved[first : first + tall, start : start + wide]).permute(2, 0, 1)[None]
        scaled = functional.interpolate(part, (height, width), mode="bilinear", align_corners=False)  # (1, 3, H, W)
        moved = scaled[0].permute(1, 2, 0).numpy()  # (H, W, 3)
    return _coloured(moved, change)


def _shifted(image: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """(H, W, 3) moved so far [px]; the edge fills what comes free."""
    if not (down or right):
        return image
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    right = min(max(right, -width), width)
    moved = np.empty_like(image)
    kept = image[rows]  # (H, W, 3)
    if right >= 0:
        moved[:, right:] = kept[:, : width - right]
        moved[:, :right] = kept[:, :1]
    else:
        moved[:, :right] = kept[:, -right:]
        moved[:, right:] = kept[:, -1:]
    return moved


def _coloured(image: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """(H, W, 3) with other brightness b, contrast c and saturation s.

    One after the other they are v = b x; v = m + c (v - m) with m the mean of v's brightness; g + s (v - g) with g the
    brightness of v. Together that is linear, s c b x + (1 - s) c b (grey . x) + (1 - c) m: one product with a 3x3
    matrix, which is several times as fast.
    """
    b, c, s = change.brightness, change.contrast, change.saturation
    if b == c == s == 1:
        return image
    height, width = image.shape[:2]
    planes = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32).reshape(3, -1)  # (3, H x W)
    grey = torch.from_numpy(_GREY)
    matrix = c * b * (s * torch.eye(3) + (1 - s) * grey.expand(3, 3))
    shade = (1 - c) * b * (grey @ planes.mean(1))
    changed = torch.addmm(shade.expand(3, 1), matrix, planes).round_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(changed.reshape(3, height, width).permute(1, 2, 0).numpy())
