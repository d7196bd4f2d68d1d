"""Image preparation as tensor operations, for the device that the model is on: from bytes to the model's input.

Resizing gives the very bytes that Pillow gives, on any device, and waits for nothing: it can stand in a CUDA graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from robovlm_ros.runtime.preprocessing import FusedImages, NotFusedError, Plan

_BITS = 22
"""Fraction bits of Pillow's coefficients."""
_PART = 8
"""Bits of a coefficient that one product takes: 8 + 8 bits and up to 256 summands are exact in float32."""
_TAPS = 256


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def _bicubic(x: float) -> float:
    """Keys 1981, eq. 4 with a = -1/2, as Pillow has it."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _hamming(x: float) -> float:
    return _sinc(x) * (0.54 + 0.46 * math.cos(math.pi * x)) if abs(x) < 1 else 0.0


_FILTERS: dict[int, tuple[float, Callable[[float], float]]] = {
    int(Image.Resampling.LANCZOS): (3.0, lambda x: _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0),
    int(Image.Resampling.BILINEAR): (1.0, lambda x: max(0.0, 1 - abs(x))),
    int(Image.Resampling.BICUBIC): (2.0, _bicubic),
    int(Image.Resampling.BOX): (0.5, lambda x: 1.0 if -0.5 < x <= 0.5 else 0.0),
    int(Image.Resampling.HAMMING): (1.0, _hamming),
}
"""Pillow's number of a filter → its support, and itself."""


def coefficients(before: int, after: int, resample: int) -> torch.Tensor:
    """(after, before) int64 weights of Pillow's resampling along one side, in units of 2^-22."""
    support, kernel = _FILTERS[resample]
    scale = before / after
    stretch = max(scale, 1.0)
    found = torch.zeros(after, before, dtype=torch.int64)
    for place in range(after):
        centre = (place + 0.5) * scale
        first = max(int(centre - support * stretch + 0.5), 0)
        end = min(int(centre + support * stretch + 0.5), before)
        weights = [kernel((x - centre + 0.5) / stretch) for x in range(first, end)]
        total = sum(weights)
        for x, weight in zip(range(first, end), weights, strict=True):
            share = weight / total * (1 << _BITS)
            found[place, x] = int(share + (0.5 if share >= 0 else -0.5))
    return found


class _Side:
    """Resampling of the last dimension but one, exact."""

    def __init__(self, before: int, after: int, resample: int, device: torch.device) -> None:
        whole = coefficients(before, after, resample)
        if int((whole != 0).sum(1).max()) > _TAPS:
            raise NotFusedError("an image is made smaller by more than is exact on a device")
        self.parts = []
        for power in range(3):
            part = whole if power == 2 else whole % (1 << _PART)  # the last one has the sign
            self.parts.append(part.float().to(device))
            whole = (whole - whole % (1 << _PART)) >> _PART

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """(..., before, n) whole numbers as float32 → (..., after, n)."""
        total = torch.full((), 1 << (_BITS - 1), dtype=torch.int64, device=values.device)  # one half, to round
        for power, part in enumerate(self.parts):
            total = total + ((part @ values).long() << (_PART * power))
        return (total >> _BITS).clamp(0, 255).float()


def _resizing(
    before: tuple[int, int], after: tuple[int, int], resample: int, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """(H, W, 3) → (H', W', 3), bytes as float32, as the Pillow at hand does it; NotFusedError when it is another way.

    Pillow rounds between the two sides, and its versions differ in which they take first.
    """
    if resample not in _FILTERS:
        raise NotFusedError(f"filter {resample} is not known on a device")
    down, across = (_Side(old, new, resample, device) for old, new in zip(before, after, strict=True))

    def height(values: torch.Tensor) -> torch.Tensor:
        return down(values.flatten(1)).view(after[0], -1, 3)

    ways: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda values: height(across(values)),
        lambda values: across(height(values)),
    )
    noise = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    wanted = Image.fromarray(noise).resize((after[1], after[0]), resample=Image.Resampling(resample))
    for way in ways:
        if np.array_equal(way(torch.from_numpy(noise).to(device).float()).cpu().numpy(), np.asarray(wanted)):
            return way
    raise NotFusedError("Pillow resizes in another way")


class DeviceImages:
    """(1, ...) pixel_values of the raw images (H, W, 3) of all cameras, on the device."""

    def __init__(self, fused: FusedImages, device: torch.device) -> None:
        """NotFusedError for a filter that is not known here."""
        self.shape = fused.pixels.shape
        self._ways = [self._way(plan, shape, device) for plan, shape in zip(fused.plans, fused.shapes, strict=True)]

    @staticmethod
    def _way(plan: Plan, shape: tuple[int, ...], device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        scale, shift = plan.scale.to(device), plan.shift.to(device)
        order = None if plan.order is None else plan.order.to(device)
        steps = [
            _resizing(before, after, plan.resample, device)
            for before, after in itertools.pairwise([(shape[0], shape[1]), *plan.sizes])
        ]

        def way(image: torch.Tensor) -> torch.Tensor:
            """(n, ...) numbers of an image (H, W, 3) uint8."""
            values = image.float()
            for step in steps:
                values = step(values)  # (H', W', 3)
            if order is None:
                return (values.permute(2, 0, 1) * scale + shift).reshape(plan.shape)
            return (values.reshape(-1).index_select(0, order) * scale + shift).reshape(plan.shape)

        return way

    def __call__(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        made = [way(image) for way, image in zip(self._ways, images, strict=True)]
        return torch.cat(made).view(1, *self.shape)
