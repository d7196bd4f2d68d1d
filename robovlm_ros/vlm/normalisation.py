"""Normalisation as a value: statistics per dimension, an affine map and its exact inverse.

The statistics travel in the checkpoint. Binary dimensions are never mixed in: they stay 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

METHODS = ("quantile", "min_max", "mean_std", "identity")


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """normalised = (value - offset) / scale, per dimension."""

    method: str
    """One of METHODS, kept to say how offset and scale were found."""
    offset: NDArray[np.float64]
    """(dims,) [unit of the dimension]."""
    scale: NDArray[np.float64]
    """(dims,) [unit of the dimension], never 0."""

    def normalise(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values (..., dims) in their units to about [-1, 1] (or unit deviation)."""
        return (np.asarray(values, np.float64) - self.offset) / self.scale

    def restore(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inverse of `normalise`."""
        return np.asarray(values, np.float64) * self.scale + self.offset

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the inverse of `from_dict`."""
        return {"method": self.method, "offset": self.offset.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normaliser:
        """Build from plain values; UserError when they are no statistics."""
        try:
            offset = np.array(values["offset"], np.float64)
            scale = np.array(values["scale"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the normalisation statistics are damaged: {error}") from error
        if offset.shape != scale.shape or offset.ndim != 1 or not np.all(np.isfinite(scale) & (scale != 0)):
            raise UserError("the normalisation statistics are damaged: offset and scale do not fit each other")
        return cls(method=str(values.get("method", "identity")), offset=offset, scale=scale)

    @classmethod
    def identity(cls, dims: int) -> Normaliser:
        """Change nothing."""
        return cls(method="identity", offset=np.zeros(dims), scale=np.ones(dims))


def fit(method: str, values: NDArray[np.floating], binary: NDArray[np.bool_] | None = None) -> Normaliser:
    """Statistics of values (n, dims).

    - ``quantile``: the 1 % and 99 % quantiles to -1 and 1;
    - ``min_max``: the extremes to -1 and 1;
    - ``mean_std``: zero mean, unit deviation;
    - ``identity``: nothing.

    A dimension that does not vary, and every binary one, keeps scale 1 (binary: also offset 0).
    """
    if method not in METHODS:
        raise UserError(f"normalisation '{method}' is not one of: {', '.join(METHODS)}")
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not len(values):
        raise UserError("normalisation needs at least one sample")
    if not np.all(np.isfinite(values)):
        raise UserError("the data hold a value that is no finite number: look at the recorded state and commands")
    dims = values.shape[1]
    if method == "identity":
        return Normaliser.identity(dims)
    if method == "mean_std":
        offset, scale = values.mean(0), values.std(0)
    else:
        low, high = (
            np.quantile(values, [0.01, 0.99], axis=0) if method == "quantile" else (values.min(0), values.max(0))
        )
        offset, scale = (low + high) / 2, (high - low) / 2
    scale = np.where(scale > 1e-9, scale, 1.0)
    if binary is not None:
        offset, scale = np.where(binary, 0.0, offset), np.where(binary, 1.0, scale)
    return Normaliser(method=method, offset=offset, scale=scale)
