"""The contract: the one description of a robot that every part asks.

A contract is a YAML file (``config/robots/*.yaml``). It names the cameras, the state, the
actions with their units, kinds and limits, the topics with their message types, and the rates.
No other module hard-codes a dimension, a topic or a name.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

KINDS = ("continuous", "binary")
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATE_TYPES = ("sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped", "std_msgs/msg/Float64MultiArray")
INSTRUCTION_TYPES = ("std_msgs/msg/String",)
COMMAND_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
)
SIMULATORS = ("mujoco", "none")


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
    max_age_s: float = 0.5
    """The robot holds when the newest image is older than this [s]."""


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
    """Largest rate of change of the sent value [unit/s]; None: unlimited."""
    reference: str | None = None
    """State dimension (``ee.x``) that the policy's number is relative to; None: absolute."""


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


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A robot, as all parts of this package see it."""

    name: str
    """Name of the robot."""
    rate_hz: float
    """Rate of observations and of the steps of an action chunk [Hz]."""
    command_rate_hz: float
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
    def binary(self) -> NDArray[np.bool_]:
        """(action_dim,) True where the action is binary."""
        return np.array([dim.kind == "binary" for dim in self.action_dims], dtype=np.bool_)

    @property
    def limits(self) -> NDArray[np.float64]:
        """(action_dim, 2) smallest and largest value that may be sent."""
        return np.array([dim.limits for dim in self.action_dims], dtype=np.float64)

    @property
    def reference_index(self) -> NDArray[np.int64]:
        """(action_dim,) index into the state vector that an action is relative to, -1 for absolute."""
        names = self.state_names
        return np.array(
            [-1 if dim.reference is None else names.index(dim.reference) for dim in self.action_dims], dtype=np.int64
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
        cameras = [_build(Camera, item, f"{where}: cameras") for item in _items(values.pop("cameras", []))]
        state = [_build(StateSource, item, f"{where}: state") for item in _items(values.pop("state", []))]
        commands = []
        for item in _items(values.pop("commands", [])):
            dims = [_build(ActionDimension, dim, f"{where}: commands: dims") for dim in _items(item.pop("dims", []))]
            commands.append(_build(Command, {**item, "dims": dims}, f"{where}: commands"))
        return _build(cls, {**values, "cameras": cameras, "state": state, "commands": commands}, where)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Contract:
        """Read a contract by file path, or by the name of one shipped in ``config/robots``."""
        path = Path(name_or_path)
        if not path.suffix:
            path = share_directory() / "config" / "robots" / f"{path.name}.yaml"
        if not path.is_file():
            shipped = sorted(p.stem for p in (share_directory() / "config" / "robots").glob("*.yaml"))
            raise UserError(f"no contract '{name_or_path}' (a YAML file, or one of: {', '.join(shipped)})")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"contract {path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise UserError(f"contract {path} is not a YAML mapping")
        return cls.from_dict(values, where=str(path))


def share_directory() -> Path:
    """Folder that holds ``config/`` and ``launch/``: the source tree, or the installed share folder."""
    source = Path(__file__).resolve().parent.parent
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] + [Path(sys.prefix)]
    for folder in [source, *(prefix / "share" / "robovlm_ros" for prefix in prefixes)]:
        if (folder / "package.xml").is_file() and (folder / "config").is_dir():
            return folder
    raise UserError("the share folder of robovlm_ros is missing: install the package, or source its workspace")


_T = TypeVar("_T")


def _build(cls: type[_T], values: Mapping[str, Any], where: str) -> _T:
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}' (keys: {', '.join(fields)})")
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and name not in values
    ]
    if missing:
        raise UserError(f"{where}: key '{missing[0]}' is missing")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _items(values: Any) -> list[dict[str, Any]]:
    """A list of mappings, or a mapping whose keys become ``name``."""
    if isinstance(values, Mapping):
        return [{"name": name, **item} for name, item in values.items()]
    return [dict(item) for item in values]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _names(items: Sequence[Any]) -> str:
    return ", ".join(item.name for item in items) or "none"


def _check(contract: Contract) -> None:
    """Refuse a contract that cannot work, saying what to put right."""
    where = f"contract '{contract.name}'"

    def one_of(value: str, choices: Sequence[str], what: str) -> None:
        if value not in choices:
            raise UserError(f"{where}: {what} '{value}' is not one of: {', '.join(choices)}")

    def unique(names: Sequence[str], what: str) -> None:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise UserError(f"{where}: {what} '{twice[0]}' occurs twice; give each its own name")

    for rate_name in ("rate_hz", "command_rate_hz"):
        rate = getattr(contract, rate_name)
        if not (isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0):
            raise UserError(f"{where}: {rate_name} must be a positive number [Hz], not {rate!r}")
    if not contract.cameras:
        raise UserError(f"{where}: at least one camera is needed")
    if not contract.commands:
        raise UserError(f"{where}: at least one command is needed")
    one_of(contract.instruction_type, INSTRUCTION_TYPES, "instruction_type")
    one_of(contract.simulator, SIMULATORS, "simulator")
    for camera in contract.cameras:
        one_of(camera.type, CAMERA_TYPES, f"camera '{camera.name}': type")
    for source in contract.state:
        one_of(source.type, STATE_TYPES, f"state '{source.name}': type")
    unique([camera.name for camera in contract.cameras], "camera")
    unique(contract.state_names, "state dimension")
    unique(contract.action_names, "action")
    unique(
        [
            *(camera.topic for camera in contract.cameras),
            *(source.topic for source in contract.state),
            *(command.topic for command in contract.commands),
            contract.instruction_topic,
        ],
        "topic",
    )
    for command in contract.commands:
        one_of(command.type, COMMAND_TYPES, f"command '{command.name}': type")
        if not command.dims:
            raise UserError(f"{where}: command '{command.name}' has no dims")
        for dim in command.dims:
            one_of(dim.kind, KINDS, f"action '{dim.name}': kind")
            if dim.reference is not None:
                one_of(dim.reference, contract.state_names, f"action '{dim.name}': reference")
                if dim.kind == "binary":
                    raise UserError(f"{where}: action '{dim.name}' is binary and cannot have a reference")
            low, high = dim.limits
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"{where}: action '{dim.name}': limits must be [low, high] with low < high")
