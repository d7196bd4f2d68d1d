"""From tool poses to joint positions of the arm, with the inverse kinematics of `mink`."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import mink
import numpy as np
from numpy.typing import NDArray

from robovlm_ros.sim.model import ARM_JOINTS, TOOL_BODY, URDF, arm_model

HOME = np.array([0.0, 0.2, 0.4, -0.6, 0.0, 0.0])
"""(6,) joint positions in the middle of the workspace, fingers down: where a search starts [rad]."""
_DAMPING = 1e-6
_SOLVER = "daqp"


def joint_velocity_limits() -> dict[str, float]:
    """Largest speed of each arm joint by the URDF [rad/s]; MuJoCo does not read these."""
    root = ElementTree.parse(URDF).getroot()
    limits = {joint.get("name", ""): joint.find("limit") for joint in root.findall("joint")}
    return {name: float(limit.get("velocity", "inf")) for name in ARM_JOINTS if (limit := limits[name]) is not None}


class ArmKinematics:
    """Differential inverse kinematics within the joints' position and velocity limits."""

    def __init__(self) -> None:
        model = arm_model()
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask(TOOL_BODY, "body", position_cost=1.0, orientation_cost=0.3)
        self._position_limit = mink.ConfigurationLimit(model, gain=0.95)
        self._velocity_limit = mink.VelocityLimit(model, joint_velocity_limits())

    def position(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3,) tool point in base_link for joint positions (6,)."""
        self._configuration.update(joints)
        point: NDArray[np.float64] = self._configuration.get_transform_frame_to_world(TOOL_BODY, "body").translation()
        return point

    def step(
        self, joints: NDArray[np.float64], position: NDArray[np.float64], orientation: NDArray[np.float64], dt: float
    ) -> NDArray[np.float64]:
        """(6,) joint positions after ``dt`` seconds on the way from ``joints`` to a tool pose.

        ``position`` (3,) [m] and ``orientation`` (4,) as (x, y, z, w) are in base_link.
        """
        self._aim(position, orientation)
        return self._solve(joints, dt, [self._position_limit, self._velocity_limit])

    def reach(self, position: NDArray[np.float64], orientation: NDArray[np.float64]) -> NDArray[np.float64]:
        """(6,) joint positions for a tool pose, searched from HOME whatever the distance.

        The nearest reachable posture when the pose is out of reach; deterministic.
        """
        self._aim(position, orientation)
        joints = HOME.copy()
        joints[0] = math.atan2(position[1], position[0])
        for _ in range(60):
            moved = self._solve(joints, 1.0, [self._position_limit])
            if np.abs(moved - joints).max() < 1e-6:
                return moved
            joints = moved
        return joints

    def _aim(self, position: NDArray[np.float64], orientation: NDArray[np.float64]) -> None:
        x, y, z, w = orientation
        self._task.set_target(mink.SE3(np.array([w, x, y, z, *position])))

    def _solve(self, joints: NDArray[np.float64], dt: float, limits: list[mink.Limit]) -> NDArray[np.float64]:
        self._configuration.update(joints)
        velocity = mink.solve_ik(self._configuration, [self._task], dt, _SOLVER, damping=_DAMPING, limits=limits)
        moved: NDArray[np.float64] = joints + velocity * dt
        return moved
