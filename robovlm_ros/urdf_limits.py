"""Limits of joint commands from a URDF: taken over where a contract is silent, and never exceeded where it speaks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from robovlm_ros.contract_parts import ActionDimension, is_rate
from robovlm_ros.errors import UserError
from robovlm_ros.urdf import Joint, Urdf

if TYPE_CHECKING:
    from robovlm_ros.contract import Contract

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


def tightened(contract: Contract, urdf: Urdf, where: str) -> tuple[Contract, tuple[str, ...]]:
    """The contract with no limit beyond those of the URDF, and what has changed, in words.

    UserError, beginning with `where`, where the URDF has none of the joints that are commanded, or allows no position
    that the contract allows.
    """
    joints = [d for command in contract.commands if command.type in JOINT_COMMANDS for d in command.dims]
    if not any(dim.name in urdf.joints for dim in joints):
        known = ", ".join(joint.name for joint in urdf.joints.values() if joint.moves) or "none"
        names = ", ".join(dim.name for dim in joints) or "none"
        raise UserError(
            f"{where}: it has none of the joints that '{contract.name}' commands ({names}; it has: {known})"
        )
    changes: list[str] = []

    def within(dim: ActionDimension) -> ActionDimension:
        joint = urdf.joints.get(dim.name)
        if joint is None:
            return dim
        low, high = _range(joint, is_rate(dim.unit))
        limits = max(dim.limits[0], low), min(dim.limits[1], high)
        if not limits[0] < limits[1]:
            raise UserError(
                f"{where}: action '{dim.name}': the contract's {list(dim.limits)} is outside of [{low:g}, {high:g}]"
            )
        if limits != dim.limits:
            changes.append(f"{dim.name} [{limits[0]:g}, {limits[1]:g}] {dim.unit}")
        fastest = dim.max_velocity
        if not is_rate(dim.unit) and dim.kind != "binary" and joint.velocity < (fastest or math.inf):
            fastest = joint.velocity
            changes.append(f"{dim.name} at most {fastest:g} {dim.unit}/s")
        return dataclasses.replace(dim, limits=limits, max_velocity=fastest)

    commands = tuple(
        dataclasses.replace(command, dims=tuple(within(dim) for dim in command.dims))
        if command.type in JOINT_COMMANDS
        else command
        for command in contract.commands
    )
    return dataclasses.replace(contract, commands=commands), tuple(changes)


def _range(joint: Joint, rate: bool) -> tuple[float, float]:
    """Smallest and largest position of a joint, or velocity."""
    return (-joint.velocity, joint.velocity) if rate else (joint.lower, joint.upper)


def _take(dim: dict[str, Any], joint: Joint, place: str) -> None:
    rate = is_rate(str(dim.get("unit", "")))
    low, high = _range(joint, rate)
    limits = dim.get("limits")
    if limits is None:
        if not math.isfinite(low) or not math.isfinite(high):
            raise UserError(f"{place}: the URDF limits neither end of this {joint.kind} joint: write its limits")
        dim["limits"] = [low, high]
    elif _are_numbers(limits) and not low <= min(limits) <= max(limits) <= high:
        raise UserError(f"{place}: limits {list(limits)} exceed those of the URDF, [{low:g}, {high:g}]")
    if rate or dim.get("kind") == "binary" or not math.isfinite(joint.velocity):
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
