"""The message codec: what each ROS message type means to the contract, in both directions.

Everything here asks for attributes only, so it serves messages of rclpy and those read from a bag alike.
A new message type is one more entry in `STATE_CODECS` or `COMMAND_CODECS` (and in the contract's list of types).
"""

from __future__ import annotations

import importlib
import importlib.util
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import (
    GRIPPER_TYPE,
    ORIENTATION,
    POSITION,
    Camera,
    Command,
    Contract,
    StateSource,
    joint_field,
)
from robovlm_ros.errors import UserError
from robovlm_ros.images import decode_compressed, decode_image

LONGEST_INSTRUCTION = 1000
"""Longer instructions are refused [characters]."""
POSE_DIMS = (*POSITION, *ORIENTATION)
"""Names that pose messages know: position [m] and orientation quaternion."""
TWIST_DIMS = ("linear_x", "linear_y", "linear_z", "angular_x", "angular_y", "angular_z")
"""Names that twist messages know [m/s, rad/s]."""

JOINTS_TYPE = "sensor_msgs/msg/JointState"

Names = tuple[str, ...]


# --- any message ---------------------------------------------------------------------------------------------


def stamp_ns(message: Any) -> int | None:
    """Header stamp [ns]; None if the type has no header, or its stamp is zero: "not set", by ROS convention."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None:
        return None
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec) or None


def set_stamp(message: Any, time_ns: int, frame: str = "") -> None:
    """Fill the header of a message, if its type has one."""
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(int(time_ns), 1_000_000_000)
        message.header.frame_id = frame


def frame_of(message: Any) -> str:
    """``frame_id`` of a message; empty if its type has no header."""
    return str(getattr(getattr(message, "header", None), "frame_id", ""))


def message_class(type_name: str) -> Any:
    """The class of ``package/msg/Name`` from the ROS environment; UserError if there is none."""
    package, _, rest = type_name.partition("/")
    kind, _, name = rest.partition("/")
    if not (package and kind == "msg" and name):
        raise UserError(f"'{type_name}' is no message type (expected: package/msg/Name)")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"message type '{type_name}' is not installed") from error


def instruction(message: Any) -> str:
    """Text of an instruction message, without blanks around it."""
    return str(message.data).strip()


def check_instruction(text: str) -> None:
    """UserError for what no person means as an instruction: too long, or with control characters."""
    if len(text) > LONGEST_INSTRUCTION:
        raise UserError(f"refused an instruction of {len(text)} characters (at most {LONGEST_INSTRUCTION})")
    odd = next((char for char in text if unicodedata.category(char) == "Cc" and char not in "\n\t"), None)
    if odd is not None:
        raise UserError(f"refused an instruction with control character {odd!r}")


# --- images --------------------------------------------------------------------------------------------------


def image(message: Any, camera: Camera) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of a camera's ``sensor_msgs/msg/Image`` or ``CompressedImage``."""
    if camera.type == "sensor_msgs/msg/CompressedImage":
        return decode_compressed(message.format, message.data)
    return decode_image(
        message.encoding, message.width, message.height, message.step, message.is_bigendian, message.data, camera.depth
    )


# --- state ---------------------------------------------------------------------------------------------------


def state_values(message: Any, source: StateSource) -> NDArray[np.float64]:
    """(len(source.dims),) values of a state message, in the order of the contract [its units].

    Joints are matched by name. UserError names what the message lacks, or the frame that it is in by mistake.
    """
    where = f"state '{source.name}' ({source.topic})"
    found = frame_of(message)
    if source.frame is not None and found != source.frame:
        raise UserError(f"{where} is in frame '{found}', not in '{source.frame}' as the contract says")
    return _state_codec(source).read(message, source.dims, where)


def fill_state(message: Any, source: StateSource, values: NDArray[np.floating], time_ns: int, frame: str = "") -> Any:
    """Inverse of `state_values`: write (len(source.dims),) values into an empty message and return it."""
    set_stamp(message, time_ns, source.frame or frame)
    _state_codec(source).write(message, source.dims, _finite(values, source.dims))
    return message


# --- commands ------------------------------------------------------------------------------------------------


def fill_command(message: Any, command: Command, values: NDArray[np.floating], time_ns: int, step_ns: int) -> Any:
    """Write (len(command.dims),) action values into an empty message and return it.

    Continuous values are in the contract's units; binary ones are 0 or 1 and become the smallest or largest limit.
    ``step_ns`` is the time in which a trajectory is to reach its point. ValueError if a value is not finite: a NaN
    never gets into a message.
    """
    numbers = _finite(values, command.dims)
    sent = [
        dim.limits[int(number >= 0.5)] if dim.kind == "binary" else number
        for dim, number in zip(command.dims, numbers, strict=True)
    ]
    set_stamp(message, time_ns, command.frame)
    codec = _command_codec(command)
    if codec is _POSE:
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = command.orientation
    codec.write(message, _dim_names(command), sent)
    if codec is _GRIPPER:
        message.max_effort = float(command.max_effort or 0.0)
    if codec is _TRAJECTORY:
        duration = message.points[0].time_from_start
        duration.sec, duration.nanosec = divmod(int(step_ns), 1_000_000_000)
    return message


def fill_path(
    message: Any, command: Command, values: NDArray[np.floating], due_ns: NDArray[np.int64], time_ns: int
) -> Any:
    """Write a whole trajectory, (n, len(command.dims)) action values due at (n,) times [ns], into an empty message.

    The trajectory begins at `time_ns`, the message's stamp; see `fill_command` for values and errors.
    """
    points = []
    for row, due in zip(values, due_ns, strict=True):
        one = fill_command(type(message)(), command, row, time_ns, int(due) - time_ns)
        points.append(one.points[0])
    set_stamp(message, time_ns, command.frame)
    message.joint_names = list(_dim_names(command))
    message.points = points
    return message


def command_values(message: Any, command: Command) -> NDArray[np.float64]:
    """(len(command.dims),) action values of a command message, the inverse of `fill_command`.

    A binary value is 1 where the message is nearer to the largest limit than to the smallest.
    """
    values = _command_codec(command).read(message, _dim_names(command), f"command '{command.name}' ({command.topic})")
    for i, dim in enumerate(command.dims):
        if dim.kind == "binary":
            values[i] = float(values[i] > 0.5 * (dim.limits[0] + dim.limits[1]))
    return values


def check_contract(contract: Contract) -> None:
    """UserError if a message type of the contract cannot carry a dimension that the contract gives it."""
    for source in contract.state:
        _state_codec(source).check(source.dims, f"state '{source.name}'")
    for command in contract.commands:
        _command_codec(command).check(_dim_names(command), f"command '{command.name}'")


def check_installed(contract: Contract) -> None:
    """UserError if a message type of the contract is not in the ROS environment."""
    parts: list[Camera | StateSource | Command] = [*contract.cameras, *contract.state, *contract.commands]
    for part in parts:
        package = part.type.partition("/")[0]
        if importlib.util.find_spec(package) is None:
            where = f"contract '{contract.name}': '{part.name}' ({part.topic})"
            raise UserError(f"{where} needs package {package}, which is not installed")
        message_class(part.type)


# --- one codec for each type ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Codec:
    """How numbers lie in one message type."""

    get: Callable[[Any, Names, str], Sequence[float]]
    """(message, dims, where) → the values of dims."""
    put: Callable[[Any, Names, list[float]], None]
    """Write the values of dims into an empty message."""
    dims: Names = ()
    """The only names this type knows; empty: any."""

    def check(self, dims: Names, where: str) -> None:
        unknown = [dim for dim in dims if self.dims and dim not in self.dims]
        if unknown:
            raise UserError(f"{where}: dimension '{unknown[0]}' is not one of: {', '.join(self.dims)}")

    def read(self, message: Any, dims: Names, where: str) -> NDArray[np.float64]:
        self.check(dims, where)
        return np.array(self.get(message, dims, where), dtype=np.float64)

    def write(self, message: Any, dims: Names, values: list[float]) -> None:
        self.check(dims, "message")
        self.put(message, dims, values)


def _by_name(names: Sequence[str], values: Sequence[float], dims: Names, where: str) -> list[float]:
    place = {name: i for i, name in enumerate(names)}
    missing = [dim for dim in dims if dim not in place or place[dim] >= len(values)]
    if missing:
        raise UserError(f"{where}: no joint '{missing[0]}' in the message (joints: {', '.join(names) or 'none'})")
    return [float(values[place[dim]]) for dim in dims]


def _joints(field: str) -> _Codec:
    """Of one of the arrays of a JointState: position, velocity or effort."""

    def get(message: Any, dims: Names, where: str) -> list[float]:
        values = getattr(message, field)
        if len(message.name) and not len(values):
            raise UserError(f"{where}: the message has joints ({', '.join(message.name)}), but no {field}")
        return _by_name(message.name, values, dims, where)

    def put(message: Any, dims: Names, values: list[float]) -> None:
        message.name = list(dims)
        setattr(message, field, values)

    return _Codec(get, put)


def _get_array(message: Any, dims: Names, where: str) -> Sequence[float]:
    if len(message.data) != len(dims):
        raise UserError(
            f"{where}: the message has {len(message.data)} values, the contract {len(dims)} ({', '.join(dims)})"
        )
    values: Sequence[float] = message.data
    return values


def _put_array(message: Any, dims: Names, values: list[float]) -> None:
    message.data = values


def _pose_field(message: Any, dim: str) -> tuple[Any, str]:
    return (message.pose.orientation, dim[1]) if dim.startswith("q") else (message.pose.position, dim)


def _get_pose(message: Any, dims: Names, where: str) -> list[float]:
    return [float(getattr(*_pose_field(message, dim))) for dim in dims]


def _put_pose(message: Any, dims: Names, values: list[float]) -> None:
    for dim, value in zip(dims, values, strict=True):
        setattr(*_pose_field(message, dim), value)


def _twist_field(message: Any, dim: str) -> tuple[Any, str]:
    part, _, axis = dim.partition("_")
    return getattr(getattr(message, "twist", message), part), axis


def _get_twist(message: Any, dims: Names, where: str) -> list[float]:
    return [float(getattr(*_twist_field(message, dim))) for dim in dims]


def _put_twist(message: Any, dims: Names, values: list[float]) -> None:
    for dim, value in zip(dims, values, strict=True):
        setattr(*_twist_field(message, dim), value)


def _get_trajectory(message: Any, dims: Names, where: str) -> list[float]:
    if not message.points:
        raise UserError(f"{where}: the trajectory has no points")
    # The last point is where the sender wants the joints to be; a policy's own trajectories have only one.
    return _by_name(message.joint_names, message.points[-1].positions, dims, where)


def _put_trajectory(message: Any, dims: Names, values: list[float]) -> None:
    if not message.points:  # a blank message of `bags.schema` brings its point
        package = importlib.import_module(type(message).__module__.partition(".")[0] + ".msg")
        message.points = [package.JointTrajectoryPoint()]
    message.points[0].positions = values
    message.joint_names = list(dims)


def _get_gripper(message: Any, _dims: Names, _where: str) -> list[float]:
    return [float(message.position)]


def _put_gripper(message: Any, _dims: Names, values: list[float]) -> None:
    (message.position,) = values


_JOINTS = {field: _joints(field) for field in ("position", "velocity", "effort")}
_POSE = _Codec(_get_pose, _put_pose, POSE_DIMS)
_ARRAY = _Codec(_get_array, _put_array)
_TWIST = _Codec(_get_twist, _put_twist, TWIST_DIMS)
_TRAJECTORY = _Codec(_get_trajectory, _put_trajectory)
_GRIPPER = _Codec(_get_gripper, _put_gripper)

STATE_CODECS: dict[str, _Codec] = {
    JOINTS_TYPE: _JOINTS["position"],
    "geometry_msgs/msg/PoseStamped": _POSE,
    "std_msgs/msg/Float64MultiArray": _ARRAY,
}
COMMAND_CODECS: dict[str, _Codec] = {
    "geometry_msgs/msg/PoseStamped": _POSE,
    JOINTS_TYPE: _JOINTS["position"],
    "std_msgs/msg/Float64MultiArray": _ARRAY,
    "trajectory_msgs/msg/JointTrajectory": _TRAJECTORY,
    "geometry_msgs/msg/Twist": _TWIST,
    "geometry_msgs/msg/TwistStamped": _TWIST,
    GRIPPER_TYPE: _GRIPPER,
}


def _state_codec(source: StateSource) -> _Codec:
    if source.type not in STATE_CODECS:
        raise UserError(f"state type '{source.type}' is not one of: {', '.join(STATE_CODECS)}")
    if source.type == JOINTS_TYPE:
        return _JOINTS[joint_field(source.unit)]
    return STATE_CODECS[source.type]


def _command_codec(command: Command) -> _Codec:
    if command.type not in COMMAND_CODECS:
        raise UserError(f"command type '{command.type}' is not one of: {', '.join(COMMAND_CODECS)}")
    if command.type == JOINTS_TYPE:
        return _JOINTS[joint_field(command.dims[0].unit)]
    return COMMAND_CODECS[command.type]


def _dim_names(command: Command) -> Names:
    return tuple(dim.name for dim in command.dims)


def _finite(values: NDArray[np.floating], dims: Sequence[Any]) -> list[float]:
    array = np.asarray(values, np.float64)
    if array.shape != (len(dims),) or not np.isfinite(array).all():
        raise ValueError(f"{len(dims)} finite values are needed, not {array.tolist()}")
    numbers: list[float] = array.tolist()
    return numbers
