"""The contract: the one description of a robot that every part asks.

A contract is a YAML file (``config/robots/*.yaml``). It names the cameras, the state, the
actions with their units, kinds and limits, the topics with their message types, and the rates.
No other module hard-codes a dimension, a topic or a name.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError
from robovlm_ros.options import build, read_yaml
from robovlm_ros.urdf import Urdf
from robovlm_ros.urdf_limits import take_limits

KINDS = ("continuous", "binary")
NORMALISATIONS = ("quantile", "min_max", "mean_std", "mu_law", "limits", "identity")
"""How numbers may be brought to about [-1, 1] for training; `robovlm_ros.vlm.normalisation` says what each does."""
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATE_TYPES = ("sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped", "std_msgs/msg/Float64MultiArray")
INSTRUCTION_TYPES = ("std_msgs/msg/String",)
GRIPPER_TYPE = "control_msgs/msg/GripperCommand"
COMMAND_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
    GRIPPER_TYPE,
)
TRAJECTORIES = ("point", "chunk")
"""What a trajectory message may hold."""
VELOCITY_TYPES = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
"""Commands that stay in motion when nothing more is sent."""
POSITION = ("x", "y", "z")
ORIENTATION = ("qx", "qy", "qz", "qw")
"""Names of a pose's dimensions: position [m] and orientation, a quaternion with its real part last."""
SIMULATORS = ("mujoco", "none")
LOWEST_HZ, HIGHEST_HZ = 0.01, 10_000.0
"""What a rate may be."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera stream that a policy may look at."""

    name: str
    """Key of this camera in observations and checkpoints."""
    topic: str
    """Image topic."""
    type: str = "sensor_msgs/msg/Image"
    """Message type, one of CAMERA_TYPES."""
    width: int
    """Image width [px]."""
    height: int
    """Image height [px]."""
    frame: str = ""
    """Optical frame, ``frame_id`` of the images."""
    depth: tuple[float, float] | None = None
    """Distances that a depth camera's images show, from white to black [m]; None: it has no depth."""
    max_age_s: float = 0.5
    """The robot holds when the newest image is older than this [s]."""
    max_frozen_s: float | None = None
    """The robot holds when the same image has come again and again for longer than this, bit for bit, under whatever
    stamps [s]: real cameras have noise, and one that repeats itself has died. None: it may, as a simulator's does."""

    @property
    def unchanged(self) -> str:
        """Name under which the age of its newest change goes, among the ages of sources."""
        return f"{self.name}, unchanged"


@dataclass(frozen=True, kw_only=True)
class StateSource:
    """One topic that measures a part of the robot's state."""

    name: str
    """Prefix of its dimensions: dimension ``x`` of source ``ee`` is ``ee.x``."""
    topic: str
    """State topic."""
    type: str
    """Message type, one of STATE_TYPES."""
    dims: tuple[str, ...]
    """Joint names (JointState, matched by name), of x y z qx qy qz qw (PoseStamped), or free names in order."""
    unit: str
    """Unit of all its dimensions, SI."""
    normalise: dict[str, str] | None = None
    """Dimension → how a policy's training normalises it, one of NORMALISATIONS; a single word in YAML: all of them.
    Others: as the training's options say."""
    max_age_s: float = 0.5
    """The robot holds when the newest sample is older than this [s]."""


@dataclass(frozen=True, kw_only=True)
class ActionDimension:
    """One number that the policy decides."""

    name: str
    """Joint name, or x, y, z of a pose; unique among all actions."""
    unit: str
    """SI unit; for binary dimensions the unit of ``limits``."""
    kind: str = "continuous"
    """One of KINDS. A binary action is 0 or 1 to the policy and ``limits[0]`` or ``limits[1]`` in the message."""
    limits: tuple[float, float]
    """Smallest and largest value that may ever be sent [unit]."""
    max_velocity: float | None = None
    """Largest rate of change of the sent value [unit/s], of a velocity its acceleration; None: unlimited."""
    max_acceleration: float | None = None
    """Largest rate of change of that rate [unit/s^2]; of a velocity, of the velocity itself; None: unlimited."""
    max_jump: float | None = None
    """The first value after a pause is refused when it is further than this from the measured one [unit]: the policy
    then means another robot, or another place. None: the robot goes there at `max_velocity`."""
    reference: str | None = None
    """State dimension (``ee.x``) that the policy's number is relative to; None: absolute."""
    normalise: str | None = None
    """How a policy's training normalises it, one of NORMALISATIONS; None: as the training's options say."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One topic on which a part of the action is sent."""

    name: str
    """Key of this command, for messages and logs."""
    topic: str
    """Command topic."""
    type: str
    """Message type, one of COMMAND_TYPES."""
    dims: tuple[ActionDimension, ...]
    """The actions this topic carries, in order."""
    frame: str = ""
    """``frame_id`` of the message."""
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    """Fixed orientation (x, y, z, w) of pose commands whose dims hold no orientation."""
    trajectory: str | None = None
    """What a JointTrajectory holds, one of TRAJECTORIES: at each command the next ``point``, or at each decision all
    that is left of the ``chunk``, which the robot's controller then interpolates; None: a point."""
    max_effort: float | None = None
    """``max_effort`` of a GripperCommand [N]; None: 0, which most grippers take as their own limit."""
    relative_to: str | None = None
    """State source with a pose (x y z qx qy qz qw, in the same frame as the command) in whose own axes the policy
    decides this pose: a tool's pose makes its numbers relative to the tool frame. PoseStamped with x y z, or with all
    of x y z qx qy qz qw; None: as the dims say. Limits and velocities stay those of the numbers that are sent."""


@dataclass(frozen=True, kw_only=True)
class ToolFrame:
    """Where a command that is relative to a tool frame, and the pose of that tool, lie in action and state vectors."""

    position: NDArray[np.int64]
    """(3,) index of x, y, z into the action vector."""
    orientation: NDArray[np.int64]
    """(4,) index of qx, qy, qz, qw into the action vector; (0,) where only the position is decided."""
    tool_position: NDArray[np.int64]
    """(3,) index into the state vector."""
    tool_orientation: NDArray[np.int64]
    """(4,) index into the state vector."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A robot, as all parts of this package see it."""

    name: str
    """Name of the robot."""
    rate_hz: float
    """Rate of observations and of the steps of an action chunk [Hz]."""
    command_rate_hz: float = 100.0
    """Rate at which commands are published [Hz]."""
    cameras: tuple[Camera, ...]
    """Cameras; the first one sets the time of an observation."""
    state: tuple[StateSource, ...]
    """State sources, in the order of the state vector."""
    commands: tuple[Command, ...]
    """Command topics, in the order of the action vector."""
    instruction_topic: str = "/instruction"
    """Topic of the instruction."""
    instruction_type: str = "std_msgs/msg/String"
    """Message type, one of INSTRUCTION_TYPES."""
    intervention_topic: str = "/intervention"
    """Topic (``std_msgs/Bool``) that says whether a person commands the robot in the policy's place."""
    simulator: str = "none"
    """Simulator that plays this robot, one of SIMULATORS."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def step_ns(self) -> int:
        """Time between two steps of an action chunk [ns]."""
        return round(1e9 / self.rate_hz)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Qualified names of the state vector, e.g. ``ee.x``."""
        return tuple(f"{source.name}.{dim}" for source in self.state for dim in source.dims)

    @property
    def action_dims(self) -> tuple[ActionDimension, ...]:
        """All action dimensions in the order of the action vector."""
        return tuple(dim for command in self.commands for dim in command.dims)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the action vector."""
        return tuple(dim.name for dim in self.action_dims)

    @property
    def state_normalisations(self) -> tuple[str | None, ...]:
        """Of each dimension of the state vector, how it is to be normalised; None: not said."""
        return tuple((source.normalise or {}).get(dim) for source in self.state for dim in source.dims)

    @property
    def binary(self) -> NDArray[np.bool_]:
        """(action_dim,) True where the action is binary."""
        return np.array([dim.kind == "binary" for dim in self.action_dims], dtype=np.bool_)

    @property
    def velocity(self) -> NDArray[np.bool_]:
        """(action_dim,) True where the action sets the robot in motion until another one comes; see `is_velocity`."""
        return np.array([is_velocity(c.type, dim) for c in self.commands for dim in c.dims], dtype=np.bool_)

    @property
    def limits(self) -> NDArray[np.float64]:
        """(action_dim, 2) smallest and largest value that may be sent."""
        return np.array([dim.limits for dim in self.action_dims], dtype=np.float64)

    @property
    def reference_index(self) -> NDArray[np.int64]:
        """(action_dim,) index into the state vector of the value to be taken off an action, -1 for none."""
        return _places(self.state_names, [dim.reference for dim in self.action_dims])

    @property
    def orientations(self) -> tuple[NDArray[np.int64], ...]:
        """(4,) index into the action vector of each orientation that is relative to a tool frame."""
        return tuple(frame.orientation for frame in self.tool_frames if len(frame.orientation))

    @property
    def tool_frames(self) -> tuple[ToolFrame, ...]:
        """Of each command that is relative to a tool frame, where its numbers lie."""
        found = []
        for command in self.commands:
            if command.relative_to is None:
                continue
            own = [dim.name for dim in command.dims]
            poses = [[f"{command.relative_to}.{name}" for name in names] for names in (POSITION, ORIENTATION)]
            found.append(
                ToolFrame(
                    position=_places(self.action_names, POSITION),
                    orientation=_places(self.action_names, [name for name in ORIENTATION if name in own]),
                    tool_position=_places(self.state_names, poses[0]),
                    tool_orientation=_places(self.state_names, poses[1]),
                )
            )
        return tuple(found)

    @property
    def measured_by(self) -> tuple[str | None, ...]:
        """Of each action the state dimension that it is relative to, which tells where it stands; None: not said."""
        return tuple(
            dim.reference if command.relative_to is None else f"{command.relative_to}.{dim.name}"
            for command in self.commands
            for dim in command.dims
        )

    @property
    def measured_index(self) -> NDArray[np.int64]:
        """(action_dim,) index of `measured_by` into the state vector, -1 for none."""
        return _places(self.state_names, self.measured_by)

    @property
    def relations(self) -> tuple[str | None, ...]:
        """Of each action what it is relative to, in words; None: it is absolute."""
        return tuple(
            dim.reference if command.relative_to is None else f"the frame of {command.relative_to}"
            for command in self.commands
            for dim in command.dims
        )

    def camera(self, name: str) -> Camera:
        """The camera of that name; UserError with the valid names otherwise."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UserError(f"contract '{self.name}' has no camera '{name}' (cameras: {_names(self.cameras)})")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, the inverse of `from_dict`."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "contract") -> Contract:
        """Build from plain values, refusing unknown keys with the valid ones."""
        values = dict(values)
        cameras = [build(Camera, *item) for item in _items(values.pop("cameras", ()), f"{where}: cameras")]
        state = []
        for item, place in _items(values.pop("state", ()), f"{where}: state"):
            if isinstance(item.get("normalise"), str):
                item["normalise"] = dict.fromkeys(item.get("dims") or (), item["normalise"])
            state.append(build(StateSource, item, place))
        commands = []
        for item, place in _items(values.pop("commands", ()), f"{where}: commands"):
            dims = [build(ActionDimension, *dim) for dim in _items(item.pop("dims", ()), f"{place}: dims")]
            commands.append(build(Command, {**item, "dims": dims}, place))
        return build(cls, {**values, "cameras": cameras, "state": state, "commands": commands}, where)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Contract:
        """Read a contract by file path, or by the name of one shipped in ``config/robots``.

        Its key ``urdf`` names a URDF, beside the file or by an absolute path, whose joint limits it takes over.
        """
        path = Path(name_or_path).expanduser()
        folder = share_directory() / "config" / "robots"
        if path.name == str(name_or_path) and not path.suffix:
            path = folder / f"{path.name}.yaml"
        if not path.is_file():
            shipped = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise UserError(f"no contract '{name_or_path}' (a YAML file, or one of: {shipped})")
        values = read_yaml(path)
        urdf = values.pop("urdf", None)
        if urdf is not None:  # what it says becomes part of the contract, which then needs the file no more
            take_limits(values.get("commands"), Urdf.load(path.parent / Path(str(urdf)).expanduser()), str(path))
        return cls.from_dict(values, where=str(path))


def is_velocity(type_name: str, dim: ActionDimension) -> bool:
    """Whether a command of that message type sets this dimension in motion, rather than moving it somewhere."""
    return dim.kind != "binary" and (type_name in VELOCITY_TYPES or dim.unit.replace(" ", "").endswith("/s"))


def share_directory() -> Path:
    """Folder that holds ``config/`` and ``launch/``: the source tree, or the installed share folder."""
    source = Path(__file__).resolve().parent.parent
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] + [Path(sys.prefix)]
    for folder in [source, *(prefix / "share" / "robovlm_ros" for prefix in prefixes)]:
        if (folder / "package.xml").is_file() and (folder / "config").is_dir():
            return folder
    raise UserError("the share folder of robovlm_ros is missing: install the package, or source its workspace")


def _items(values: Any, where: str) -> list[tuple[dict[str, Any], str]]:
    """Of a list of mappings, or of a mapping whose keys become ``name``: each of them, and what to call it."""
    items = list(values.values()) if isinstance(values, Mapping) else values
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, Mapping) for item in items):
        raise UserError(f"{where} must be a mapping or a list of mappings, with values in each")
    if isinstance(values, Mapping):
        items = [{"name": name, **item} for name, item in values.items()]
    return [(dict(item), f"{where}: {item.get('name', number)}") for number, item in enumerate(items, start=1)]


_SILENT = ("normalise", "relative_to", "trajectory", "max_effort", "depth", "max_acceleration", "max_jump")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        # what is not said is not written: programs that do not know these keys then read the contract, too
        return {key: _plain(item) for key, item in value.items() if item is not None or key not in _SILENT}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _places(names: Sequence[str], wanted: Sequence[str | None]) -> NDArray[np.int64]:
    """(len(wanted),) index of each wanted name, -1 for None."""
    return np.array([-1 if name is None else names.index(name) for name in wanted], dtype=np.int64)


def _names(items: Sequence[Any]) -> str:
    return ", ".join(item.name for item in items) or "none"


def _check(contract: Contract) -> None:
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
        if command.relative_to is not None:
            sources = [source.name for source in contract.state]
            one_of(command.relative_to, sources, f"command '{command.name}': relative_to")
            _check_tool_frame(contract, command)
        for dim in command.dims:
            one_of(dim.kind, KINDS, f"action '{dim.name}': kind")
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
