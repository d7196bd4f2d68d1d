"""Normalisation as a value: a method per dimension, an affine map (companded, if asked) and its exact inverse.

The contract may say which method a dimension has; others have that of the training's options. The statistics travel
in the checkpoint. Binary dimensions are never mixed in: they stay 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import NORMALISATIONS, Contract
from robovlm_ros.errors import UserError

MU = 255.0
"""Strength of the companding, as in ITU-T G.711."""


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """normalised = f((value - offset) / scale), per dimension.

    f(x) = x, or with mu > 0 the mu-law of ITU-T G.711, f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu), which gives small
    values a large share of [-1, 1]. It is not clipped at 1: the inverse sign(y) ((1 + mu)^|y| - 1) / mu is exact.
    """

    methods: tuple[str, ...]
    """(dims,) of NORMALISATIONS each, kept to say how offset and scale were found."""
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
        plain: dict[str, Any] = {
            "method": list(self.methods), "offset": self.offset.tolist(), "scale": self.scale.tolist(),
        }  # fmt: skip
        return plain if self.mu is None else {**plain, "mu": self.mu.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normaliser:
        """Build from plain values; UserError when they are no statistics."""
        try:
            offset = np.array(values["offset"], np.float64)
            scale = np.array(values["scale"], np.float64)
            mu = None if values.get("mu") is None else np.array(values["mu"], np.float64)
            method = values.get("method", "identity")  # older folders have one word for all dimensions
            methods = (method,) * len(scale) if isinstance(method, str) else tuple(map(str, method))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the normalisation statistics are damaged: {error}") from error
        finite = np.isfinite(offset).all() and np.isfinite(scale).all()
        if offset.shape != scale.shape or offset.ndim != 1 or not finite or not scale.all():
            raise UserError("the normalisation statistics are damaged: offset and scale do not fit each other")
        if mu is not None and (mu.shape != scale.shape or not np.all(np.isfinite(mu) & (mu >= 0))):
            raise UserError("the normalisation statistics are damaged: mu does not fit scale")
        if len(methods) != len(scale):
            raise UserError("the normalisation statistics are damaged: method does not fit scale")
        return cls(methods=methods, offset=offset, scale=scale, mu=mu)

    @classmethod
    def identity(cls, dims: int) -> Normaliser:
        """Change nothing."""
        return cls(methods=("identity",) * dims, offset=np.zeros(dims), scale=np.ones(dims))


def methods_of(said: Sequence[str | None], default: str) -> tuple[str, ...]:
    """(dims,) the method of each dimension: what the contract says of it, else the training's default."""
    return tuple(default if method is None else method for method in said)


def relative_limits(contract: Contract) -> NDArray[np.float64]:
    """(action_dim, 2) smallest and largest number that a policy can mean by an action.

    These are the contract's limits. Where an action is relative to a state they are plus and minus the width of the
    limits, for the difference of two values within them cannot be larger. Relative to a tool frame, a position can
    differ by the diagonal of the limits along any axis, and a quaternion lies within 1, its real part within 0 and 1.
    """
    width = np.diff(contract.limits, axis=1)  # (action_dim, 1)
    relative = contract.reference_index[:, None] >= 0  # (action_dim, 1)
    limits = np.where(relative, np.concatenate([-width, width], axis=1), contract.limits)  # (action_dim, 2)
    for frame in contract.tool_frames:
        diagonal = float(np.linalg.norm(width[frame.position]))
        limits[frame.position] = (-diagonal, diagonal)
        limits[frame.orientation] = (-1.0, 1.0)
        limits[frame.orientation[3:]] = (0.0, 1.0)
    return limits


def fit(
    method: str | Sequence[str],
    values: NDArray[np.floating],
    binary: NDArray[np.bool_] | None = None,
    limits: NDArray[np.float64] | None = None,
) -> Normaliser:
    """Statistics of values (n, dims), by one method or by one for each dimension.

    - ``quantile``: the 1 % and 99 % quantiles to -1 and 1;
    - ``min_max``: the extremes to -1 and 1;
    - ``mean_std``: zero mean, unit deviation;
    - ``mu_law``: 0 stays 0 and 99 % of the magnitudes lie within 1, companded: for values that are small most of the
      time and matter when they are, such as relative actions;
    - ``limits``: ``limits`` (dims, 2) to -1 and 1, a range that does not depend on the data;
    - ``identity``: nothing.

    A dimension that does not vary, and every binary one, keeps scale 1 (binary: also offset 0).
    """
    data: NDArray[np.float64] = np.asarray(values, np.float64)
    if data.ndim != 2 or not len(data):
        raise UserError("normalisation needs at least one sample")
    if not np.all(np.isfinite(data)):
        raise UserError("the data hold a value that is no finite number: look at the recorded state and commands")
    dims = data.shape[1]
    methods = (method,) * dims if isinstance(method, str) else tuple(method)
    binary = np.zeros(dims, np.bool_) if binary is None else binary
    methods = tuple("identity" if is_binary else name for name, is_binary in zip(methods, binary, strict=True))
    offset, scale, mu = (np.full(dims, start) for start in (0.0, 1.0, 0.0))
    for name in dict.fromkeys((method,) if isinstance(method, str) else methods):
        if name not in NORMALISATIONS:
            raise UserError(f"normalisation '{name}' is not one of: {', '.join(NORMALISATIONS)}")
        if name == "limits" and limits is None:
            raise UserError("normalisation 'limits' is for actions alone: the contract has no limits of the state")
        own = np.array([other == name for other in methods])  # (dims,)
        found_offset, found_scale = _affine(name, data, limits)
        offset[own], scale[own] = found_offset[own], found_scale[own]
        mu[own & (scale > 1e-9)] = MU if name == "mu_law" else 0.0
    scale[~(scale > 1e-9)] = 1.0
    return Normaliser(methods=methods, offset=offset, scale=scale, mu=mu if mu.any() else None)


def _affine(
    method: str, values: NDArray[np.float64], limits: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(dims,) offset and scale of every dimension by one method."""
    if method == "identity":
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    if method == "mean_std":
        return values.mean(0), values.std(0)
    if method == "mu_law":
        return np.zeros(values.shape[1]), np.quantile(np.abs(values), 0.99, axis=0)
    if method == "quantile":
        low, high = np.quantile(values, [0.01, 0.99], axis=0)
    elif method == "min_max":
        low, high = values.min(0), values.max(0)
    else:
        assert limits is not None
        low, high = limits.T
    return (low + high) / 2, (high - low) / 2
