"""The simulator's truth as messages: where blocks and pads are. For experts, for measuring success and for RViz.

Everything here asks messages for attributes only, so this module needs no ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.messages import set_stamp
from robovlm_ros.sim.model import BLOCK_SIZE, PAD_SIZE, PAD_THICKNESS
from robovlm_ros.sim.tasks import RGB, Block, Pad

BASE_FRAME = "base_link"
"""Frame of everything that the simulator measures."""
_CUBE, _ADD, _LIFETIME_S = 1, 0, 2  # constants of visualization_msgs/msg/Marker; a marker that is gone fades


_PAD = "pad_"  # a pad's namespace is this and its colour, so that who knows blocks only passes it over


def fill_marker(message: Any, block: Block, time_ns: int) -> Any:
    """Write a block into an empty ``visualization_msgs/msg/Marker``."""
    return _fill(message, block.colour, block.colour, block.position, block.orientation, [BLOCK_SIZE] * 3, time_ns)


def fill_pad(message: Any, pad: Pad, time_ns: int) -> Any:
    """Write a pad into an empty ``visualization_msgs/msg/Marker``."""
    centre = pad.position - [0.0, 0.0, PAD_THICKNESS / 2]
    size = [PAD_SIZE, PAD_SIZE, PAD_THICKNESS]
    return _fill(message, _PAD + pad.colour, pad.colour, centre, np.array([0.0, 0.0, 0.0, 1.0]), size, time_ns)


def _fill(
    message: Any,
    name: str,
    colour: str,
    centre: NDArray[np.float64],
    orientation: NDArray[np.float64],
    size: Sequence[float],
    time_ns: int,
) -> Any:
    set_stamp(message, time_ns, BASE_FRAME)
    message.ns, message.id, message.type, message.action = name, 0, _CUBE, _ADD
    message.lifetime.sec = _LIFETIME_S
    position, turn = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = centre.tolist()
    turn.x, turn.y, turn.z, turn.w = orientation.tolist()
    message.scale.x, message.scale.y, message.scale.z = size
    message.color.r, message.color.g, message.color.b = RGB[colour]
    message.color.a = 1.0
    return message


def blocks_of(message: Any) -> tuple[Block, ...]:
    """The blocks that a ``visualization_msgs/msg/MarkerArray`` of the simulator shows."""
    return tuple(
        Block(marker.ns, _position(marker), _orientation(marker)) for marker in _shown(message) if marker.ns in RGB
    )


def pads_of(message: Any) -> tuple[Pad, ...]:
    """The pads that a ``visualization_msgs/msg/MarkerArray`` of the simulator shows."""
    top = np.array([0.0, 0.0, PAD_THICKNESS / 2])
    return tuple(
        Pad(marker.ns.removeprefix(_PAD), _position(marker) + top)
        for marker in _shown(message)
        if marker.ns.startswith(_PAD) and marker.ns.removeprefix(_PAD) in RGB
    )


def _shown(message: Any) -> list[Any]:
    return [marker for marker in message.markers if marker.action == _ADD]


def _position(marker: Any) -> NDArray[np.float64]:
    point = marker.pose.position
    return np.array([point.x, point.y, point.z])


def _orientation(marker: Any) -> NDArray[np.float64]:
    turn = marker.pose.orientation
    return np.array([turn.x, turn.y, turn.z, turn.w])
