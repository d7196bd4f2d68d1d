"""Leading a tool to where it is wanted, smoothly and within limits: for the simulated arm and `servo_node` alike."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.sim.kinematics import ArmKinematics

TIME_CONSTANT_S = 0.04
"""Of the approach to a target [s]; the arm's own lag comes on top."""


class ToolServo:
    """Follows a tool pose with a first-order approach, and its joints by inverse kinematics.

    Pure: joint positions in, joint positions out. Wherever the target lies, every step stays within the joints' limits
    of position and velocity; of a target that cannot be reached the tool comes as near as it can.
    """

    def __init__(
        self, kinematics: ArmKinematics, *, speed: float, turn_speed: float = math.inf, leash: float = math.inf
    ) -> None:
        """`speed` [m/s] and `turn_speed` [rad/s] of the tool are never exceeded.

        `leash`: where the tool is led to is never further than this from where the joints bring it [m]: an arm that
        could not follow turns at once when another target comes.
        """
        self._kinematics = kinematics
        self._speed, self._turn_speed, self._leash = speed, turn_speed, leash
        self._joints: NDArray[np.float64] = np.zeros(len(kinematics.joint_names))
        self._tool: NDArray[np.float64] = np.zeros(3)
        self._turn: NDArray[np.float64] = rotation.IDENTITY
        self._goal: NDArray[np.float64] = self._tool
        self._goal_turn: NDArray[np.float64] = self._turn

    def rest(self, joints: NDArray[np.float64], orientation: NDArray[np.float64] | None = None) -> None:
        """Be at joint positions (n,) and stay; `orientation` (4,): the one to keep, None: what the tool has there."""
        self._joints = joints.copy()
        self._tool, turn = self._kinematics.pose(joints)
        self._turn = turn if orientation is None else orientation
        self._goal, self._goal_turn = self._tool, self._turn

    def aim(self, position: NDArray[np.float64], orientation: NDArray[np.float64] | None = None) -> None:
        """Lead the tool there: (3,) [m] and (4,) as (x, y, z, w) in the base; None: keep the orientation."""
        self._goal = position
        self._goal_turn = self._goal_turn if orientation is None else rotation.unit(orientation)

    def step(self, dt: float) -> NDArray[np.float64]:
        """(n,) joint positions for the next ``dt`` seconds."""
        share = 1.0 - math.exp(-dt / TIME_CONSTANT_S)
        way: NDArray[np.float64] = share * (self._goal - self._tool)  # (3,)
        longest = self._speed * dt
        self._tool = self._tool + way * min(1.0, longest / max(float(np.linalg.norm(way)), 1e-12))
        if not np.array_equal(self._turn, self._goal_turn):
            self._turn = self._turned(share, self._turn_speed * dt)
        joints = self._kinematics.step(self._joints, self._tool, self._turn, dt)
        self._joints = np.clip(joints, *self._kinematics.limits.T)  # what the solver's tolerance leaves
        if math.isfinite(self._leash):
            there = self._kinematics.position(self._joints)
            lead = self._tool - there  # (3,)
            self._tool = there + lead * min(1.0, self._leash / max(float(np.linalg.norm(lead)), 1e-12))
        return self._joints.copy()

    def _turned(self, share: float, most: float) -> NDArray[np.float64]:
        """(4,) the orientation, turned by a share of what is left, at most by an angle [rad]."""
        left = rotation.short_way(rotation.multiply(self._goal_turn, rotation.conjugate(self._turn)))
        sine = float(np.linalg.norm(left[:3]))
        angle = 2.0 * math.atan2(sine, float(left[3]))
        if angle < 1e-6:
            return self._goal_turn
        half = min(share * angle, most) / 2
        step = np.append(left[:3] / sine * math.sin(half), math.cos(half))  # (4,)
        return rotation.unit(rotation.multiply(step, self._turn))

    @property
    def joints(self) -> NDArray[np.float64]:
        """(n,) where the joints are led to now."""
        return self._joints.copy()

    @property
    def tool(self) -> NDArray[np.float64]:
        """(3,) where the tool is led to now [m]."""
        return self._tool.copy()

    @property
    def miss(self) -> tuple[float, float]:
        """How far the joints leave the tool from its target: [m] and [rad]."""
        position, turn = self._kinematics.pose(self._joints)
        way = rotation.multiply(self._goal_turn, rotation.conjugate(turn))
        angle = 2.0 * math.atan2(float(np.linalg.norm(way[:3])), abs(float(way[3])))
        return float(np.linalg.norm(self._goal - position)), angle
