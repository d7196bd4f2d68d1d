"""Projections of the text tower in eight bits: faster, and a little off; how much is said, not hidden.

Weights have a scale for each output, inputs one for each token, found as they come (dynamic) or from recorded frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from robovlm_ros.runtime.text_tower import Project, UnknownTowerError

_FEW = 17
"""Below so many tokens a product reads more than it computes, and kernels in eight bits refuse: it stays whole."""
_FLOAT8 = torch.float8_e4m3fn
_LARGEST = {"int8": 127.0, "float8": float(torch.finfo(_FLOAT8).max)}


class Quantised:
    """x W^T + b with x and W in eight bits: (s_x s_w) * (round(x / s_x) round(W / s_w)^T) + b."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, precision: str) -> None:
        """Weight (N, K) and bias (N,); precision int8 or float8."""
        self.weight, self.bias, self.precision = weight.detach(), None if bias is None else bias.detach(), precision
        self.largest = _LARGEST[precision]
        if self.weight.is_cuda:
            _check_device(self.weight, precision)
        values = self.weight.float()
        self.weight_scale = (values.abs().amax(1) / self.largest).clamp(min=1e-12)  # (N,)
        self.quantised = self._rounded(values / self.weight_scale[:, None])  # (N, K)
        self.scale: torch.Tensor | None = None
        """Of all inputs, by calibration; None: of each token."""
        self.seen: torch.Tensor | None = None
        """Largest input while calibrating."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(1, L, K) → (1, L, N) in the type of x."""
        if self.seen is not None:
            self.seen = torch.maximum(self.seen, x.abs().amax().float())
        if self.seen is not None or x.shape[1] < _FEW:
            return functional.linear(x, self.weight, self.bias)
        flat = x[0].float()  # (L, K)
        scale = (flat.abs().amax(1, keepdim=True) / self.largest).clamp(min=1e-12) if self.scale is None else self.scale
        values = self._rounded(flat / scale)  # (L, K)
        if self.precision == "int8":
            found = torch._int_mm(values, self.quantised.t()).float() * scale * self.weight_scale  # (L, N)
        elif x.is_cuda:
            whole = scale.expand(len(values), 1).contiguous()
            found = torch._scaled_mm(
                values, self.quantised.t(), scale_a=whole, scale_b=self.weight_scale[None], out_dtype=torch.bfloat16
            ).float()
        else:  # the same numbers, without a kernel for them
            found = values.float() @ self.quantised.float().t() * scale * self.weight_scale
        if self.bias is not None:
            found = found + self.bias.float()
        return found[None].to(x.dtype)

    def _rounded(self, values: torch.Tensor) -> torch.Tensor:
        bounded = values.clamp(-self.largest, self.largest)
        return bounded.round().to(torch.int8) if self.precision == "int8" else bounded.to(_FLOAT8)


def _check_device(weight: torch.Tensor, precision: str) -> None:
    """UnknownTowerError where the GPU's kernels cannot multiply this weight."""
    if any(size % 16 for size in weight.shape):
        raise UnknownTowerError(f"{precision} on a GPU needs widths in multiples of 16, not {tuple(weight.shape)}")
    if precision == "float8" and torch.cuda.get_device_capability(weight.device) < (8, 9):
        raise UnknownTowerError("float8 needs a GPU of compute capability 8.9 or later")


class Quantiser:
    """Makes projections of a precision, and remembers them to calibrate them."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.made: list[Quantised] = []

    def __call__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Project:
        made = Quantised(weight, bias, self.precision)
        self.made.append(made)
        return made

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Within, inputs are looked at and products are whole; behind it inputs have the scale of the largest."""
        for item in self.made:
            item.seen = torch.zeros((), device=item.weight.device)
        yield
        for item in self.made:
            assert item.seen is not None
            item.scale = (item.seen / item.largest).clamp(min=1e-12) if float(item.seen) > 0 else None
            item.seen = None
