"""From tool poses to joint positions of an arm, with the inverse kinematics of `mink`.

mink solves a damped least-squares problem for joint velocities, as a quadratic programme within the joints' limits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError
from robovlm_ros.sim.model import ARM_JOINTS, TOOL_BODY, URDF, arm_model
from robovlm_ros.urdf import MOVING, Urdf, rotation_of

HOME = np.array([0.0, 0.2, 0.4, -0.6, 0.0, 0.0])
"""(6,) joint positions in the middle of the workspace, fingers down: where a search starts [rad]."""
_DAMPING = 1e-6
_MARQUARDT = 0.5  # of arms whose targets may lie anywhere
_SOLVER = "daqp"


@functools.lru_cache(maxsize=1)
def _own_urdf() -> Urdf:
    return Urdf.load(URDF)


def joint_velocity_limits() -> dict[str, float]:
    """Largest speed of each arm joint by the URDF [rad/s]; MuJoCo does not read these."""
    return {name: _own_urdf().joints[name].velocity for name in ARM_JOINTS}


def chain_model(urdf: Urdf, base: str, tool: str) -> mujoco.MjModel:
    """The moving frames from link `base` to link `tool` of any URDF, without shapes and masses, for kinematics.

    UserError if there is no such way, or a joint on it that does not move about or along one axis by itself.
    """
    chain = urdf.chain(base, tool)
    if not any(joint.moves for joint in chain):
        raise UserError(f"no joint moves between the links '{base}' and '{tool}' of '{urdf.name}'")
    spec = mujoco.MjSpec()
    spec.modelname = urdf.name
    body = spec.worldbody.add_body(name=base)
    for joint in chain:
        x, y, z, w = rotation_of(joint.rpy)
        body = body.add_body(name=joint.child, pos=joint.xyz, quat=[w, x, y, z])
        if joint.kind == "fixed":
            continue
        if not joint.moves:
            kinds = ", ".join(MOVING)
            raise UserError(f"joint '{joint.name}' of '{urdf.name}' does not move by itself about one axis ({kinds})")
        body.mass, body.inertia = 1.0, [1.0, 1.0, 1.0]  # MuJoCo insists; kinematics do not ask
        body.explicitinertial = True
        slides = joint.kind == "prismatic"
        moving = body.add_joint(
            name=joint.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE if slides else mujoco.mjtJoint.mjJNT_HINGE,
            axis=joint.axis,
        )
        moving.limited = int(math.isfinite(joint.upper))
        if moving.limited:
            moving.range = [joint.lower, joint.upper]
    spec.compiler.degree = False
    return spec.compile()


class ArmKinematics:
    """Differential inverse kinematics within the joints' position and velocity limits.

    Of the tabletop arm, unless another one is given.
    """

    def __init__(
        self,
        model: mujoco.MjModel | None = None,
        tool: str = TOOL_BODY,
        velocity_limits: Mapping[str, float] | None = None,
        *,
        damping: float = 0.0,
    ) -> None:
        """`velocity_limits`: joint → largest speed [rad/s or m/s]; those not named have none.

        `damping`: of Levenberg and Marquardt, in proportion to what is missing to the target, for targets that may lie
        anywhere: an arm that is stretched out towards something out of its reach comes to rest. Gauss-Newton steps are
        off by the error times the curvature of the kinematics, and swing where damping is less than that.
        """
        if model is None:
            model, velocity_limits = arm_model(), joint_velocity_limits()
        self._configuration = mink.Configuration(model)
        self._tool = tool
        self._task = mink.FrameTask(tool, "body", position_cost=1.0, orientation_cost=0.3)
        self._damping = damping
        self._position_limit = mink.ConfigurationLimit(model, gain=0.95)
        self.joint_names: tuple[str, ...] = tuple(model.joint(i).name for i in range(model.njnt))
        """The joints, in the order of every array of positions."""
        speeds = [(velocity_limits or {}).get(name, math.inf) for name in self.joint_names]
        bounded = {name: speed for name, speed in zip(self.joint_names, speeds, strict=True) if math.isfinite(speed)}
        self._velocity_limit = mink.VelocityLimit(model, bounded)
        self.speeds: NDArray[np.float64] = np.array(speeds)
        """(n,) largest speed of each joint [rad/s or m/s]; infinite where none is known."""
        limited = model.jnt_limited.astype(np.bool_)[:, None]
        self.limits: NDArray[np.float64] = np.where(limited, model.jnt_range, [-np.inf, np.inf])
        """(n, 2) smallest and largest position of each joint [rad or m]."""

    @classmethod
    def of_urdf(cls, urdf: Urdf, base: str, tool: str) -> ArmKinematics:
        """Of the joints from link `base` to link `tool`; see `chain_model` for errors."""
        speeds = {name: joint.velocity for name, joint in urdf.joints.items()}
        return cls(chain_model(urdf, base, tool), tool, speeds, damping=_MARQUARDT)

    def position(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3,) tool point in base_link for joint positions (n,)."""
        self._configuration.update(joints)
        point: NDArray[np.float64] = self._configuration.get_transform_frame_to_world(self._tool, "body").translation()
        return point

    def pose(self, joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and orientation (4,) as (x, y, z, w) of the tool in the base, for joint positions (n,)."""
        self._configuration.update(joints)
        found = self._configuration.get_transform_frame_to_world(self._tool, "body")
        w, x, y, z = found.rotation().wxyz
        return found.translation(), np.array([x, y, z, w])

    def step(
        self, joints: NDArray[np.float64], position: NDArray[np.float64], orientation: NDArray[np.float64], dt: float
    ) -> NDArray[np.float64]:
        """(n,) joint positions after ``dt`` seconds on the way from ``joints`` to a tool pose.

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
        if self._damping:  # mink's own is in proportion to the square
            missing = float(np.linalg.norm(self._task.compute_error(self._configuration) * self._task.cost))
            self._task.lm_damping = self._damping / max(missing, 1e-6)
        velocity = mink.solve_ik(self._configuration, [self._task], dt, _SOLVER, damping=_DAMPING, limits=limits)
        moved: NDArray[np.float64] = joints + velocity * dt
        return moved
