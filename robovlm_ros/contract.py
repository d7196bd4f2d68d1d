"""The contract: the one description of a robot that every part asks.

A contract is a YAML file (``config/robots/*.yaml``). It names the cameras, the state, the
actions with their units, kinds and limits, the topics with their message types, and the rates.
No other module hard-codes a dimension, a topic or a name.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract_checks import check
from robovlm_ros.contract_parts import (
    CAMERA_TYPES,
    COMMAND_TYPES,
    GRIPPER_TYPE,
    NORMALISATIONS,
    ORIENTATION,
    POSITION,
    SIMULATORS,
    STATE_TYPES,
    ActionDimension,
    Camera,
    Command,
    StateSource,
    ToolFrame,
    Workspace,
    is_velocity,
    joint_field,
)
from robovlm_ros.errors import UserError
from robovlm_ros.options import build, read_yaml
from robovlm_ros.urdf import Urdf
from robovlm_ros.urdf_limits import take_limits

__all__ = [
    "CAMERA_TYPES",
    "COMMAND_TYPES",
    "GRIPPER_TYPE",
    "NORMALISATIONS",
    "ORIENTATION",
    "POSITION",
    "SIMULATORS",
    "STATE_TYPES",
    "ActionDimension",
    "Camera",
    "Command",
    "Contract",
    "StateSource",
    "ToolFrame",
    "Workspace",
    "is_velocity",
    "joint_field",
    "share_directory",
]
"""The parts of a contract come from here, too."""


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
    urdf_topic: str | None = None
    """Topic (``std_msgs/String``, latched) with the robot's URDF, such as ``/robot_description``: nodes that command
    the robot wait for it, and keep its limits of joints besides those of this contract. None: there is none."""
    simulator: str = "none"
    """Simulator that plays this robot, one of SIMULATORS."""

    def __post_init__(self) -> None:
        check(self)

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
            if item.get("workspace") is not None:
                (box, where_box), *_ = _items([item["workspace"]], f"{place}: workspace")
                item["workspace"] = build(Workspace, box, where_box)
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


_SILENT = (
    "normalise",
    "frame",
    "urdf_topic",
    "relative_to",
    "trajectory",
    "max_effort",
    "depth",
    "max_acceleration",
    "max_jump",
    "workspace",
)


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
