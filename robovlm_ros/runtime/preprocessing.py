"""Image preparation in one pass, where that is what a family's own processor comes down to.

A processor resizes an image, and then each number that it gives is one value of that image, times a factor, plus a
summand. Which value, which factor and which summand is found by asking it; whether that is all is checked with noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from robovlm_ros.vlm.processor import ActionTokenProcessor

TOLERANCE = 1e-5
"""Largest difference to the family's own processor, in units of its output (about 1 is a standard deviation)."""
_DIGITS = 256


class NotFusedError(Exception):
    """Why images must go through the family's own processor."""


@dataclass(frozen=True)
class Plan:
    """What becomes of the image of one camera."""

    sizes: tuple[tuple[int, int], ...]
    """Heights and widths that it is resized to, one behind the other; none: it has the size that the model takes."""
    resample: int
    """PIL's number of the filter."""
    shape: tuple[int, ...]
    """Of the result."""
    order: torch.Tensor | None
    """Of each number of the result the place of its value in the image (H, W, 3); None: channels first."""
    scale: torch.Tensor
    """Factor: one for each channel (3, 1, 1) without an order, else one for each number."""
    shift: torch.Tensor
    """Summand, likewise."""

    def resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) at the size that the model takes."""
        if not self.sizes:
            return image
        made = Image.fromarray(image)
        for height, width in self.sizes:
            made = made.resize((width, height), resample=Image.Resampling(self.resample))
        return np.asarray(made)

    def write(self, values: torch.Tensor, out: torch.Tensor) -> None:
        """The numbers ``out`` of a resized image (H, W, 3)."""
        if self.order is None:
            out.view(self.shape[-3:]).copy_(values.permute(2, 0, 1))  # (3, H, W)
        else:
            out.view(-1).copy_(values.reshape(-1)[self.order])
        out.view(-1 if self.order is not None else self.shape[-3:]).mul_(self.scale).add_(self.shift)


class FusedImages:
    """The image tensors of all cameras of a policy, as its processor makes them, for images of the contract's sizes."""

    def __init__(self, processor: ActionTokenProcessor) -> None:
        """NotFusedError says why this processor does more than one pass can."""
        self.cameras = processor.cameras
        sizes = [processor.contract.camera(name) for name in self.cameras]
        self.shapes = [(camera.height, camera.width, 3) for camera in sizes]
        known: dict[tuple[int, ...], Plan] = {}
        for shape in self.shapes:
            if shape not in known:
                known[shape] = _plan(processor, shape)
        self.plans = [known[shape] for shape in self.shapes]
        rng = np.random.default_rng(0)
        noise = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in self.shapes]
        whole = processor.images(noise)
        self.rest = {key: value for key, value in whole.items() if key != "pixel_values"}
        """What else the processor says of images of these sizes."""
        pixels = whole["pixel_values"]
        if sum(plan.shape[0] for plan in self.plans) != len(pixels) or pixels.dtype != torch.float32:
            raise NotFusedError("the images of several cameras do not stand behind one another")
        self.pixels = torch.empty_like(pixels)
        self.parts = torch.split(self.pixels, [plan.shape[0] for plan in self.plans])
        error = (self(noise) - pixels).abs().max().item()
        if not error <= TOLERANCE:
            raise NotFusedError(f"the family's own processor gives other numbers (by {error:.2g})")
        other = processor.images([255 - image for image in noise])
        if any(not torch.equal(other[key], value) for key, value in self.rest.items()):
            raise NotFusedError("what the family's processor says beside the pixels depends on the image")

    def fits(self, images: Sequence[NDArray[np.uint8]]) -> bool:
        """Whether these are of the contract's sizes."""
        return [image.shape for image in images] == self.shapes and all(image.dtype == np.uint8 for image in images)

    def __call__(self, images: Sequence[NDArray[np.uint8]], changed: Sequence[int] | None = None) -> torch.Tensor:
        """pixel_values of the images (H, W, 3) of all cameras; the same tensor each time.

        With ``changed`` only those of these cameras are made anew.
        """
        for index in range(len(images)) if changed is None else changed:
            plan = self.plans[index]
            values = torch.from_numpy(np.require(plan.resized(images[index]), requirements=["C", "W"]))  # (H, W, 3)
            plan.write(values, self.parts[index])
        return self.pixels


def _plan(processor: ActionTokenProcessor, shape: tuple[int, ...]) -> Plan:
    """What the family's processor does to an image of this shape."""
    image_processor: Any = processor.backbone.image_processor
    given = getattr(image_processor, "resample", None)
    resample = int(Image.Resampling.BILINEAR if given is None else given)
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    made = processor.images([noise])
    wanted = made["pixel_values"]
    plans: dict[tuple[int, int], Plan] = {}
    why = "no size was found at which its processor leaves an image as large as it is"
    for sizes in _chains(image_processor, shape, made):
        size = sizes[-1] if sizes else (shape[0], shape[1])
        if size not in plans:
            try:
                plans[size] = _pointwise(processor, size, resample, wanted.shape)
            except NotFusedError as error:
                why = str(error)
                continue
        plan = replace(plans[size], sizes=sizes)
        out = torch.empty_like(wanted)
        plan.write(torch.from_numpy(plan.resized(noise).copy()), out)
        if (out - wanted).abs().max().item() <= TOLERANCE:
            return plan
        why = "its processor resizes in another way"
    raise NotFusedError(why)


def _chains(
    image_processor: Any, shape: tuple[int, ...], made: dict[str, torch.Tensor]
) -> list[tuple[tuple[int, int], ...]]:
    """Sizes that a processor may resize an image to, one behind the other, by what it gives and how it is set."""
    pixels, size = made["pixel_values"], dict(getattr(image_processor, "size", None) or {})
    if "image_grid_thw" in made:  # patches as rows
        patch = int(image_processor.patch_size)
        ends = {(height * patch, width * patch) for _, height, width in made["image_grid_thw"].tolist()}
    else:
        ends = {(int(pixels.shape[-2]), int(pixels.shape[-1]))}
    if size.get("height") and size.get("width"):
        ends.add((int(size["height"]), int(size["width"])))
    alike = set()
    for name, edge in (("shortest_edge", min(shape[:2])), ("longest_edge", max(shape[:2]))):
        if size.get(name) and "image_grid_thw" not in made:
            sides = [side * size[name] / edge for side in shape[:2]]
            for rounded in (int, round, lambda side: int(side) + int(side) % 2):
                alike.add((rounded(sides[0]), rounded(sides[1])))
    singles = [(item,) for item in sorted(ends | alike)]
    return [(), *singles, *((first, end) for first in sorted(alike) for end in sorted(ends) if first != end)]


def _pointwise(processor: ActionTokenProcessor, size: tuple[int, int], resample: int, shape: torch.Size) -> Plan:
    """How each number comes of one value of an image of this size; NotFusedError when it does not."""
    count = size[0] * size[1] * 3

    def ask(values: NDArray[np.integer[Any]]) -> torch.Tensor:
        made: torch.Tensor = processor.images([values.astype(np.uint8).reshape(*size, 3)])["pixel_values"]
        return made.double()

    low, high = ask(np.zeros(count, np.int64)), ask(np.full(count, 255))
    if low.shape != shape or count > _DIGITS**3:
        raise NotFusedError("its processor makes another number of values of an image of this size")
    scale = (high - low) / 255
    if not bool((scale >= 0).all()):
        raise NotFusedError("its processor turns values around")
    places, digits = torch.zeros(shape, dtype=torch.int64), np.arange(count)
    for power in range(3):
        found = ((ask(digits // _DIGITS**power % _DIGITS) - low) / scale.clamp(min=1e-9)).round().long()
        places += found.clamp(0, _DIGITS - 1) * _DIGITS**power  # 0 in a margin, where the factor is 0, too
    if int(places.max()) >= count:
        raise NotFusedError("its numbers are no single values of the image")
    first = torch.arange(count).view(*size, 3).permute(2, 0, 1)  # (3, H, W)
    flat_scale, flat_low = scale.float(), low.float()
    if places.numel() == count and torch.equal(places.view(-1), first.reshape(-1)):
        scales, shifts = flat_scale.view(3, *size), flat_low.view(3, *size)
        if all(bool((item == item[:, :1, :1]).all()) for item in (scales, shifts)):
            return Plan((), resample, shape, None, scales[:, :1, :1].contiguous(), shifts[:, :1, :1].contiguous())
    return Plan((), resample, shape, places.view(-1), flat_scale.view(-1), flat_low.view(-1))
