"""A contract for a data set that LeRobot made: as much as its features say."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from robovlm_ros.bags.lerobot import layout
from robovlm_ros.bags.lerobot.reader import LeRobotReader
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

UNKNOWN_UNIT = "unknown"
"""The unit of all numbers: LeRobot does not keep it."""


def camera_name(key: str) -> str:
    """Name of the camera of a key, such as ``front`` of ``observation.images.front``."""
    short = key.removeprefix(layout.IMAGES).removeprefix("observation.")
    name = re.sub(r"\W", "_", short, flags=re.ASCII)
    return name if not name[:1].isdigit() else f"camera_{name}"


def derive_contract(reader: LeRobotReader) -> Contract:
    """Names, sizes and rate from the features, limits from the statistics (or the numbers); units are unknown.

    UserError if there is no camera or no action.
    """
    if layout.ACTION not in reader.features:
        raise UserError(f"{reader.path} has no '{layout.ACTION}': there is nothing to learn from")
    if not reader.cameras:
        raise UserError(f"{reader.path} has no camera: a contract needs one")
    low, high = _limits(reader)
    action_names = reader.names(layout.ACTION)
    dims = [
        {"name": name, "unit": UNKNOWN_UNIT, "limits": [float(a), float(b)]}
        for name, a, b in zip(action_names, low, high, strict=True)
    ]
    cameras = {}
    for key in reader.cameras:
        height, width = reader.size(key)
        name = camera_name(key)
        cameras[name] = {"topic": f"/{name}/image_raw", "width": width, "height": height}
    kind = "sensor_msgs/msg/JointState"
    state = {}
    if layout.STATE in reader.features:
        names = reader.names(layout.STATE)
        state["state"] = {"topic": "/joint_states", "type": kind, "dims": names, "unit": UNKNOWN_UNIT}
    values = {
        "name": str(reader.info.get("robot_type") or reader.path.resolve().name),
        "rate_hz": reader.fps,
        "command_rate_hz": reader.fps,
        "cameras": cameras,
        "state": state,
        "commands": {"action": {"topic": "/joint_commands", "type": kind, "dims": dims}},
    }
    return Contract.from_dict(values, where=f"contract of {reader.path}")


def check_fit(reader: LeRobotReader, contract: Contract) -> dict[str, str]:
    """Camera → its key; UserError saying what differs if the data set is not of this contract's robot."""
    where = f"contract '{contract.name}' does not fit {reader.path}"
    if not np.isclose(contract.rate_hz, reader.fps, rtol=1e-3):
        raise UserError(f"{where}: rate_hz is {contract.rate_hz:g}, the data set has {reader.fps:g} frames per second")
    by_name = {camera_name(key): key for key in reader.cameras}
    found = {}
    for camera in contract.cameras:
        if camera.name not in by_name:
            raise UserError(f"{where}: the data set has no camera '{camera.name}' (cameras: {', '.join(by_name)})")
        found[camera.name] = key = by_name[camera.name]
        height, width = reader.size(key)
        if (camera.width, camera.height) != (width, height):
            raise UserError(
                f"{where}: camera '{camera.name}' is {camera.width}x{camera.height}, in the data set {width}x{height}"
            )
    for key, names in ((layout.STATE, contract.state_names), (layout.ACTION, contract.action_names)):
        order(reader, key, names, where)
    return found


def order(reader: LeRobotReader, key: str, names: Sequence[str], where: str) -> list[int]:
    """For each of the contract's names, its place in the data set's column: by name, or else in the order given."""
    if key not in reader.features:
        if names:
            raise UserError(f"{where}: the data set has no '{key}', the contract {len(names)} values")
        return []
    given = reader.names(key)
    if len(given) != len(names):
        raise UserError(f"{where}: '{key}' has {len(given)} values ({', '.join(given)}), the contract {len(names)}")
    for bare in (list(names), [name.partition(".")[2] for name in names]):
        if sorted(bare) == sorted(given):
            return [given.index(name) for name in bare]
    return list(range(len(names)))


def _limits(reader: LeRobotReader) -> tuple[list[float], list[float]]:
    """Smallest and largest action that occur, a little apart where they are one."""
    found = reader.statistics.get(layout.ACTION, {})
    if "min" in found and "max" in found:
        low, high = (np.asarray(found[key], np.float64).ravel() for key in ("min", "max"))
    else:
        actions = [reader.columns(i, [layout.ACTION])[layout.ACTION] for i in range(len(reader))]
        flat = np.concatenate(actions).reshape(-1, len(reader.names(layout.ACTION)))
        low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    same = low >= high
    return (low - same * 1.0).tolist(), (high + same * 1.0).tolist()
