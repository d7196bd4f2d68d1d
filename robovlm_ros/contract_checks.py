"""What no contract may say: it is refused when it is built, in one line that says what to put right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robovlm_ros.contract_parts import (
    CAMERA_TYPES,
    COMMAND_TYPES,
    GRIPPER_TYPE,
    HIGHEST_HZ,
    INSTRUCTION_TYPES,
    KINDS,
    LOWEST_HZ,
    NORMALISATIONS,
    ORIENTATION,
    POSITION,
    SIMULATORS,
    STATE_TYPES,
    TRAJECTORIES,
    VELOCITY_TYPES,
    Command,
    is_rate,
    is_velocity,
    joint_field,
)
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    from robovlm_ros.contract import Contract

JOINTS_TYPE = "sensor_msgs/msg/JointState"
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
POSITION_TYPES = (POSE_TYPE, "trajectory_msgs/msg/JointTrajectory", GRIPPER_TYPE)
"""Commands that say where to be."""
SI_TYPES = (*POSITION_TYPES, *VELOCITY_TYPES, JOINTS_TYPE)
"""Messages whose units ROS has fixed."""
FOREIGN_UNITS = {
    **dict.fromkeys(("mm", "cm", "km", "in", "inch", "ft"), "metres, 'm'"),
    **dict.fromkeys(("deg", "degree", "degrees", "°", "rev", "rpm", "turn", "turns"), "radians, 'rad'"),
    **dict.fromkeys(("ms", "min", "h"), "seconds, 's'"),
}
"""Unit that no ROS message is in → the one that it is in instead."""
SI_UNITS = ("m", "rad", "m/s", "rad/s")
_TWIST_UNITS = {f"{part}_{axis}": unit for part, unit in (("linear", "m/s"), ("angular", "rad/s")) for axis in POSITION}
KNOWN_UNITS = {POSE_TYPE: dict.fromkeys(POSITION, "m"), **dict.fromkeys(VELOCITY_TYPES, _TWIST_UNITS)}
"""Message type → dimension → the one unit that it has; a unit that nobody has heard of is let pass."""


def check(contract: Contract) -> None:
    """Refuse a contract that cannot work, saying what to put right."""
    where = f"contract '{contract.name}'"

    def one_of(value: str, choices: Sequence[str], what: str) -> None:
        if value not in choices:
            raise UserError(f"{where}: {what} '{value}' is not one of: {', '.join(choices) or 'none'}")

    def unique(names: Sequence[str], what: str) -> None:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise UserError(f"{where}: {what} '{twice[0]}' occurs twice; give each its own name")

    def positive(value: float | None, what: str) -> None:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{where}: {what} must be above 0, not {value:g}")

    for rate_name in ("rate_hz", "command_rate_hz"):
        rate = getattr(contract, rate_name)
        if not LOWEST_HZ <= rate <= HIGHEST_HZ:
            raise UserError(f"{where}: {rate_name} must lie between {LOWEST_HZ:g} and {HIGHEST_HZ:g} Hz, not {rate:g}")
    if not contract.cameras:
        raise UserError(f"{where}: at least one camera is needed")
    if not contract.commands:
        raise UserError(f"{where}: at least one command is needed")
    one_of(contract.instruction_type, INSTRUCTION_TYPES, "instruction_type")
    one_of(contract.simulator, SIMULATORS, "simulator")
    for camera in contract.cameras:
        one_of(camera.type, CAMERA_TYPES, f"camera '{camera.name}': type")
        for name in ("width", "height", "max_age_s", "max_frozen_s"):
            positive(getattr(camera, name), f"camera '{camera.name}': {name}")
        if camera.depth is not None and not 0 <= camera.depth[0] < camera.depth[1] < math.inf:
            raise UserError(f"{where}: camera '{camera.name}': depth must be [nearest, farthest] in metres")
    for source in contract.state:
        one_of(source.type, STATE_TYPES, f"state '{source.name}': type")
        positive(source.max_age_s, f"state '{source.name}': max_age_s")
        if source.frame is not None and source.type != POSE_TYPE:
            raise UserError(f"{where}: state '{source.name}': frame is for {POSE_TYPE} alone, not for {source.type}")
        for name in source.dims:
            _check_unit(source.type, name, source.unit, f"{where}: state '{source.name}'")
        if not source.dims:
            raise UserError(f"{where}: state '{source.name}' has no dims")
        for name, method in (source.normalise or {}).items():
            one_of(name, source.dims, f"state '{source.name}': normalise: dimension")
            methods = [word for word in NORMALISATIONS if word != "limits"]  # only actions have limits
            one_of(method, methods, f"state '{source.name}': normalise: {name}:")
    unique([camera.name for camera in contract.cameras], "camera")
    unique(contract.state_names, "state dimension")
    unique(contract.action_names, "action")
    topics = [
        *(camera.topic for camera in contract.cameras),
        *(source.topic for source in contract.state),
        *(command.topic for command in contract.commands),
        contract.instruction_topic,
        contract.intervention_topic,
        *([] if contract.urdf_topic is None else [contract.urdf_topic]),
    ]
    unique(topics, "topic")
    for topic in topics:
        if not re.fullmatch(r"(~?/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", topic, re.ASCII):
            raise UserError(f"{where}: '{topic}' is no topic name (letters, digits, _ and / only)")
    for command in contract.commands:
        one_of(command.type, COMMAND_TYPES, f"command '{command.name}': type")
        if not command.dims:
            raise UserError(f"{where}: command '{command.name}' has no dims")
        if not math.isclose(math.hypot(*command.orientation), 1.0, abs_tol=0.01):
            raise UserError(f"{where}: command '{command.name}': orientation must be a quaternion of length 1")
        for key, kind in (("trajectory", "trajectory_msgs/msg/JointTrajectory"), ("max_effort", GRIPPER_TYPE)):
            if getattr(command, key) is not None and command.type != kind:
                raise UserError(f"{where}: command '{command.name}': {key} is for {kind} alone, not for {command.type}")
        one_of(command.trajectory or "point", TRAJECTORIES, f"command '{command.name}': trajectory")
        if command.max_effort is not None and not (math.isfinite(command.max_effort) and command.max_effort >= 0):
            raise UserError(f"{where}: command '{command.name}': max_effort must be 0 N or more")
        if command.type == GRIPPER_TYPE and len(command.dims) != 1:
            raise UserError(f"{where}: command '{command.name}': {GRIPPER_TYPE} carries one action, its position")
        if command.type == JOINTS_TYPE and len({joint_field(dim.unit) for dim in command.dims}) > 1:
            raise UserError(
                f"{where}: command '{command.name}' mixes positions and velocities: make two commands of it"
            )
        if command.relative_to is not None:
            sources = [source.name for source in contract.state]
            one_of(command.relative_to, sources, f"command '{command.name}': relative_to")
            _check_tool_frame(contract, command)
        if command.workspace is not None:
            _check_workspace(contract, command)
        for dim in command.dims:
            one_of(dim.kind, KINDS, f"action '{dim.name}': kind")
            _check_unit(command.type, dim.name, dim.unit, f"{where}: action '{dim.name}'")
            if command.type in POSITION_TYPES and is_rate(dim.unit):
                raise UserError(
                    f"{where}: action '{dim.name}' is a velocity [{dim.unit}]; {command.type} takes positions"
                )
            if command.type == JOINTS_TYPE and joint_field(dim.unit) == "effort":
                raise UserError(
                    f"{where}: action '{dim.name}' is an effort [{dim.unit}], which cannot be held: remove it"
                )
            if dim.reference is not None:
                one_of(dim.reference, contract.state_names, f"action '{dim.name}': reference")
                if dim.kind == "binary":
                    raise UserError(f"{where}: action '{dim.name}' is binary and cannot have a reference")
            if dim.normalise is not None:
                one_of(dim.normalise, NORMALISATIONS, f"action '{dim.name}': normalise")
                if dim.kind == "binary":
                    raise UserError(f"{where}: action '{dim.name}' is binary and is never normalised: remove normalise")
            for name in ("max_velocity", "max_acceleration", "max_jump"):
                positive(getattr(dim, name), f"action '{dim.name}': {name}")
            if dim.max_jump is not None and contract.measured_by[contract.action_names.index(dim.name)] is None:
                raise UserError(
                    f"{where}: action '{dim.name}': max_jump needs a reference, which tells where it stands"
                )
            low, high = dim.limits
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"{where}: action '{dim.name}': limits must be [low, high] with low < high")
            if is_velocity(command.type, dim) and not low <= 0.0 <= high:
                raise UserError(f"{where}: action '{dim.name}' is a velocity: its limits must include 0 to stop it")
    _check_frames(contract)


def _check_unit(type_name: str, dim: str, unit: str, where: str) -> None:
    """UserError for a unit that a message of this type does not carry: ROS has m, rad and s (REP 103)."""
    if type_name not in SI_TYPES:
        return
    plain = unit.replace(" ", "")
    foreign = next((name for name in re.split(r"[/*^]", plain.lower()) if name in FOREIGN_UNITS), None)
    if foreign is not None:
        raise UserError(f"{where}: unit '{unit}': {type_name} is in {FOREIGN_UNITS[foreign]} (REP 103)")
    wanted = KNOWN_UNITS.get(type_name, {}).get(dim, plain)
    if plain != wanted and plain in SI_UNITS:
        raise UserError(f"{where}: unit '{unit}': '{dim}' of {type_name} is in {wanted}")


def _check_workspace(contract: Contract, command: Command) -> None:
    """Refuse walls that cannot be kept."""
    where, box = f"contract '{contract.name}': command '{command.name}': workspace", command.workspace
    assert box is not None
    if command.type not in VELOCITY_TYPES:
        raise UserError(f"{where} is for {' and '.join(VELOCITY_TYPES)}; here the limits of x, y and z are the box")
    source = next((s for s in contract.state if s.name == box.pose and s.type == POSE_TYPE), None)
    if source is None:
        poses = ", ".join(source.name for source in contract.state if source.type == POSE_TYPE)
        raise UserError(f"{where}: pose '{box.pose}' is not one of: {poses or 'none'} ({POSE_TYPE})")
    if command.frame and source.frame and command.frame != source.frame:
        raise UserError(f"{where}: '{source.name}' is in frame '{source.frame}', the velocity in '{command.frame}'")
    spans = {axis: getattr(box, axis) for axis in POSITION if getattr(box, axis) is not None}
    if not spans:
        raise UserError(f"{where}: at least one of x, y and z is needed")
    for axis, (low, high) in spans.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"{where}: {axis} must be [low, high] with low < high")
        if axis not in source.dims or f"linear_{axis}" not in [dim.name for dim in command.dims]:
            raise UserError(
                f"{where}: {axis} needs '{source.name}.{axis}' in the state and 'linear_{axis}' in the dims"
            )


def _check_frames(contract: Contract) -> None:
    """Refuse numbers that would be taken off others which are measured in another frame."""
    for command in contract.commands:
        sources = {dim.reference.partition(".")[0] for dim in command.dims if dim.reference is not None}
        for source in contract.state:
            used = source.name in sources or source.name == command.relative_to
            if used and command.frame and source.frame and command.frame != source.frame:
                raise UserError(
                    f"contract '{contract.name}': command '{command.name}' is in frame '{command.frame}', but relative "
                    f"to state '{source.name}' in frame '{source.frame}'"
                )


def _check_tool_frame(contract: Contract, command: Command) -> None:
    """Refuse a command that cannot be relative to the frame of the state source that it names."""
    where = f"contract '{contract.name}': command '{command.name}': relative_to '{command.relative_to}'"
    measured = next(source.dims for source in contract.state if source.name == command.relative_to)
    names = tuple(dim.name for dim in command.dims)
    absent = [name for name in (*POSITION, *ORIENTATION) if name not in measured]
    if absent:
        raise UserError(f"{where}: this state has no {', '.join(absent)}; it must measure a pose, x y z qx qy qz qw")
    if command.type != "geometry_msgs/msg/PoseStamped":
        raise UserError(f"{where} is for geometry_msgs/msg/PoseStamped alone, not for {command.type}")
    if sorted(names) not in (sorted(POSITION), sorted((*POSITION, *ORIENTATION))):
        raise UserError(f"{where}: the dims must be x y z, or x y z qx qy qz qw, not {' '.join(names)}")
    for dim in command.dims:
        if dim.reference is not None:
            raise UserError(f"{where}: action '{dim.name}' has a reference of its own: remove one of them")
        if dim.kind != "continuous":
            raise UserError(f"{where}: action '{dim.name}' must be continuous, not {dim.kind}")
