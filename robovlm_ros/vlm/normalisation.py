"""Normalisation as a value: statistics per dimension, an affine map (companded, if asked) and its exact inverse.

The statistics travel in the checkpoint. Binary dimensions are never mixed in: they stay 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

METHODS = ("quantile", "min_max", "mean_std", "mu_law", "identity")
MU = 255.0
"""Strength of the companding, as in ITU-T G.711."""


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """normalised = f((value - offset) / scale), per dimension.

    f(x) = x, or with mu > 0 the mu-law of ITU-T G.711, f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu), which gives small
    values a large share of [-1, 1]. It is not clipped at 1: the inverse sign(y) ((1 + mu)^|y| - 1) / mu is exact.
    """

    method: str
    """One of METHODS, kept to say how offset and scale were found."""
    offset: NDArray[np.float64]
    """(dims,) [unit of the dimension]."""
    scale: NDArray[np.float64]
    """(dims,) [unit of the dimension], never 0."""
    mu: NDArray[np.float64] | None = None
    """(dims,) strength of the companding, 0 for a dimension without; None: none at all."""

    def normalise(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values (..., dims) in their units to about [-1, 1] (or unit deviation)."""
        linear: NDArray[np.float64] = (np.asarray(values, np.float64) - self.offset) / self.scale
        if self.mu is None:
            return linear
        mu = np.where(self.mu > 0, self.mu, 1.0)
        companded = np.sign(linear) * np.log1p(mu * np.abs(linear)) / np.log1p(mu)
        return np.where(self.mu > 0, companded, linear)

    def restore(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inverse of `normalise`."""
        linear = np.asarray(values, np.float64)
        if self.mu is not None:
            mu = np.where(self.mu > 0, self.mu, 1.0)
            with np.errstate(over="ignore"):  # what is beyond all numbers is for safety to refuse
                expanded = np.sign(linear) * np.expm1(np.abs(linear) * np.log1p(mu)) / mu
            linear = np.where(self.mu > 0, expanded, linear)
        return linear * self.scale + self.offset

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the inverse of `from_dict`."""
        plain: dict[str, Any] = {"method": self.method, "offset": self.offset.tolist(), "scale": self.scale.tolist()}
        return plain if self.mu is None else {**plain, "mu": self.mu.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normaliser:
        """Build from plain values; UserError when they are no statistics."""
        try:
            offset = np.array(values["offset"], np.float64)
            scale = np.array(values["scale"], np.float64)
            mu = None if values.get("mu") is None else np.array(values["mu"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the normalisation statistics are damaged: {error}") from error
        if offset.shape != scale.shape or offset.ndim != 1 or not np.all(np.isfinite(scale) & (scale != 0)):
            raise UserError("the normalisation statistics are damaged: offset and scale do not fit each other")
        if mu is not None and (mu.shape != scale.shape or not np.all(np.isfinite(mu) & (mu >= 0))):
            raise UserError("the normalisation statistics are damaged: mu does not fit scale")
        return cls(method=str(values.get("method", "identity")), offset=offset, scale=scale, mu=mu)

    @classmethod
    def identity(cls, dims: int) -> Normaliser:
        """Change nothing."""
        return cls(method="identity", offset=np.zeros(dims), scale=np.ones(dims))


def fit(method: str, values: NDArray[np.floating], binary: NDArray[np.bool_] | None = None) -> Normaliser:
    """Statistics of values (n, dims).

    - ``quantile``: the 1 % and 99 % quantiles to -1 and 1;
    - ``min_max``: the extremes to -1 and 1;
    - ``mean_std``: zero mean, unit deviation;
    - ``mu_law``: 0 stays 0 and 99 % of the magnitudes lie within 1, companded: for values that are small most of the
      time and matter when they are, such as relative actions;
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
    elif method == "mu_law":
        offset, scale = np.zeros(dims), np.quantile(np.abs(values), 0.99, axis=0)
    else:
        low, high = (
            np.quantile(values, [0.01, 0.99], axis=0) if method == "quantile" else (values.min(0), values.max(0))
        )
        offset, scale = (low + high) / 2, (high - low) / 2
    mu = np.where(scale > 1e-9, MU, 0.0) if method == "mu_law" else None
    scale = np.where(scale > 1e-9, scale, 1.0)
    if binary is not None:
        offset, scale = np.where(binary, 0.0, offset), np.where(binary, 1.0, scale)
        mu = None if mu is None else np.where(binary, 0.0, mu)
    return Normaliser(method=method, offset=offset, scale=scale, mu=mu)
