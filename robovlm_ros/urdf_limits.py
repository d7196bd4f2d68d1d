"""Limits of joint commands from a URDF: taken over where a contract is silent, and never exceeded where it speaks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.urdf import Joint, Urdf

JOINT_COMMANDS = (
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "control_msgs/msg/GripperCommand",
)
"""Types of commands whose actions may be joints."""


def take_limits(commands: Any, urdf: Urdf, where: str) -> None:
    """Give each action that has the name of a joint its ``limits`` and ``max_velocity``, where they are missing.

    `commands`: as in a contract's YAML; actions change in place. Of an action whose unit ends in ``/s`` the joint's
    speed is the limit. UserError where there is nothing to take, or where the contract allows what the URDF does not.
    """
    for command in _each(commands):
        if command.get("type") not in JOINT_COMMANDS:
            continue
        for name, dim in _named(command.get("dims", ())):
            joint = urdf.joints.get(name)
            if joint is not None:
                _take(dim, joint, f"{where}: action '{name}'")
            elif "limits" not in dim:
                known = ", ".join(joint.name for joint in urdf.joints.values() if joint.moves) or "none"
                raise UserError(
                    f"{where}: action '{name}' has no limits, and is no joint of the URDF (joints: {known})"
                )


def _take(dim: dict[str, Any], joint: Joint, place: str) -> None:
    is_rate = str(dim.get("unit", "")).replace(" ", "").endswith("/s")
    low, high = (-joint.velocity, joint.velocity) if is_rate else (joint.lower, joint.upper)
    limits = dim.get("limits")
    if limits is None:
        if not math.isfinite(low) or not math.isfinite(high):
            raise UserError(f"{place}: the URDF limits neither end of this {joint.kind} joint: write its limits")
        dim["limits"] = [low, high]
    elif _are_numbers(limits) and not low <= min(limits) <= max(limits) <= high:
        raise UserError(f"{place}: limits {list(limits)} exceed those of the URDF, [{low:g}, {high:g}]")
    if is_rate or dim.get("kind") == "binary" or not math.isfinite(joint.velocity):
        return
    fastest = dim.get("max_velocity")
    if fastest is None:
        dim["max_velocity"] = joint.velocity
    elif isinstance(fastest, (int, float)) and fastest > joint.velocity:
        raise UserError(f"{place}: max_velocity {fastest:g} exceeds that of the URDF, {joint.velocity:g}")


def _are_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and bool(values) and all(isinstance(v, (int, float)) for v in values)


def _each(items: Any) -> Iterable[dict[str, Any]]:
    """The mappings of a list, or of a mapping; whatever else stands there is for the contract to refuse."""
    values = items.values() if isinstance(items, Mapping) else items
    return [item for item in values if isinstance(item, dict)] if isinstance(values, Iterable) else []


def _named(dims: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    if isinstance(dims, Mapping):
        return [(str(name), dim) for name, dim in dims.items() if isinstance(dim, dict)]
    return [(str(dim.get("name")), dim) for dim in _each(dims)]
