"""From the contract's commands to joint targets: smooth, within speed limits, and held when commands stop."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.kinematics import ArmKinematics, joint_velocity_limits
from robovlm_ros.sim.model import ARM_JOINTS, GRIPPER_JOINT
from robovlm_ros.sim.tool_servo import TIME_CONSTANT_S, ToolServo

POSITION = ("x", "y", "z")
_DEFAULT_SPEED = 1.0  # where the contract gives none [m/s]
_POSE_TYPE = "geometry_msgs/msg/PoseStamped"
_DOWN = (1.0, 0.0, 0.0, 0.0)
_RATES = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")


class Servo:
    """Follows the tool position or the joint positions that the contract commands, with a first-order approach.

    A contract commands this arm by x, y, z of the tool or by joint_1 ... joint_6, and by the gripper.
    """

    def __init__(self, contract: Contract, kinematics: ArmKinematics) -> None:
        """Raises UserError when the contract's actions are not ones this arm understands."""
        self._kinematics = kinematics
        self._names = contract.action_names
        self._limits = contract.limits
        self._binary = contract.binary
        self._by_tool = _check(contract)
        poses = [command for command in contract.commands if command.type == _POSE_TYPE]
        self._orientation = np.array(poses[0].orientation if poses else _DOWN)
        speeds = [dim.max_velocity for dim in contract.action_dims if dim.name in POSITION and dim.max_velocity]
        self._by_pose = ToolServo(kinematics, speed=min(speeds, default=_DEFAULT_SPEED))
        self._joint_speed = np.array([joint_velocity_limits()[name] for name in ARM_JOINTS])
        self._joints: NDArray[np.float64] = np.zeros(len(ARM_JOINTS))
        self._targets: dict[str, float] = {}

    def reset(self, tool: NDArray[np.float64], gripper: float) -> NDArray[np.float64]:
        """(6,) joint positions for the tool position (3,), at which the servo now rests."""
        self._joints = self._kinematics.reach(tool, self._orientation)
        self._by_pose.rest(self._joints, self._orientation)
        self._targets = {
            **dict(zip(ARM_JOINTS, self._joints.tolist(), strict=True)),
            **dict(zip(POSITION, self.tool.tolist(), strict=True)),
            GRIPPER_JOINT: gripper,
        }
        return self._joints.copy()

    def command(self, values: NDArray[np.floating]) -> None:
        """Take new targets (action_dim,), binary ones as 0 or 1; ValueError if unusable, then nothing changes."""
        values = np.asarray(values, np.float64)
        if values.shape != (len(self._names),) or not np.isfinite(values).all():
            raise ValueError(f"a command needs {len(self._names)} finite values ({', '.join(self._names)})")
        low, high = self._limits.T
        sent = np.where(self._binary, np.where(values >= 0.5, high, low), np.clip(values, low, high))
        self._targets.update(zip(self._names, sent.tolist(), strict=True))

    @property
    def tool(self) -> NDArray[np.float64]:
        """(3,) the tool position that the arm is led to now."""
        return self._by_pose.tool

    @property
    def target(self) -> NDArray[np.float64]:
        """(action_dim,) what the servo strives for, in the contract's order; binary dimensions as 0 or 1."""
        sent = self._target(self._names)
        low, high = self._limits.T
        return np.where(self._binary, sent > (low + high) / 2, sent)

    def step(self, dt: float) -> tuple[NDArray[np.float64], float]:
        """Joint targets (6,) [rad] and gripper target [m] for the next ``dt`` seconds."""
        if self._by_tool:
            self._by_pose.aim(self._target(POSITION))
            self._joints = self._by_pose.step(dt)
        else:
            share = 1.0 - math.exp(-dt / TIME_CONSTANT_S)
            way: NDArray[np.float64] = share * (self._target(ARM_JOINTS) - self._joints)  # (6,)
            self._joints = self._joints + np.clip(way, -self._joint_speed * dt, self._joint_speed * dt)
        return self._joints.copy(), self._targets[GRIPPER_JOINT]

    def _target(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """(len(names),) the targets of these actions."""
        return np.array([self._targets[name] for name in names])


def _check(contract: Contract) -> bool:
    """True if the contract commands the tool, False if the joints; UserError if neither."""
    arm = [name for name in contract.action_names if name != GRIPPER_JOINT]
    rates = [command.name for command in contract.commands if command.type in _RATES]
    if rates:
        raise UserError(f"contract '{contract.name}': the simulated arm takes positions, not rates ('{rates[0]}')")
    if sorted(arm) not in (sorted(POSITION), sorted(ARM_JOINTS)):
        raise UserError(
            f"contract '{contract.name}': the simulated arm takes the actions {', '.join(POSITION)} or "
            f"{', '.join(ARM_JOINTS)}, and {GRIPPER_JOINT}, not: {', '.join(contract.action_names)}"
        )
    return set(arm) == set(POSITION)
