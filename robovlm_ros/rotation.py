"""Rotations as unit quaternions (x, y, z, w), as ROS writes them.

Formulas: Solà 2017, "Quaternion kinematics for the error-state Kalman filter", section 1 (Hamilton's convention; there
the real part comes first). Leading dimensions are free and broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
"""No rotation."""


def unit(q: NDArray[np.floating]) -> NDArray[np.float64]:
    """(..., 4) of length 1; NaN where a quaternion is zero or not finite, for then it is no rotation."""
    given = np.asarray(q, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        found: NDArray[np.float64] = given / np.sqrt((given * given).sum(-1, keepdims=True))
    return found


def conjugate(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) the inverse of unit quaternions."""
    found: NDArray[np.float64] = q * np.array([-1.0, -1.0, -1.0, 1.0])
    return found


def multiply(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) the rotation b followed by a: (w_a v_b + w_b v_a + v_a x v_b, w_a w_b - v_a . v_b)."""
    vector = a[..., 3:] * b[..., :3] + b[..., 3:] * a[..., :3] + np.cross(a[..., :3], b[..., :3])  # (..., 3)
    real = a[..., 3:] * b[..., 3:] - (a[..., :3] * b[..., :3]).sum(-1, keepdims=True)  # (..., 1)
    return np.concatenate([vector, real], axis=-1)


def rotate(q: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) vectors v rotated by unit quaternions: v + 2 w (u x v) + 2 u x (u x v), u the vector part."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is for safety to refuse
        turn = 2.0 * np.cross(q[..., :3], v)  # (..., 3)
        found: NDArray[np.float64] = v + q[..., 3:] * turn + np.cross(q[..., :3], turn)
    return found


def short_way(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) of q and -q, which are one rotation, the one with w >= 0: by at most half a turn."""
    return np.where(q[..., 3:] < 0, -q, q)
