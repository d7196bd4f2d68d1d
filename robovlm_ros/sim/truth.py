"""The simulator's truth as messages: where the blocks are. For experts, for measuring success and for RViz.

Everything here asks messages for attributes only, so this module needs no ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.messages import set_stamp
from robovlm_ros.sim.model import BLOCK_SIZE
from robovlm_ros.sim.tasks import RGB, Block

BASE_FRAME = "base_link"
"""Frame of everything that the simulator measures."""
_CUBE, _ADD, _LIFETIME_S = 1, 0, 2  # constants of visualization_msgs/msg/Marker; a marker that is gone fades


def fill_marker(message: Any, block: Block, orientation: NDArray[np.float64], time_ns: int) -> Any:
    """Write a block, with its orientation (4,) as (x, y, z, w), into an empty ``visualization_msgs/msg/Marker``."""
    set_stamp(message, time_ns, BASE_FRAME)
    message.ns, message.id, message.type, message.action = block.colour, 0, _CUBE, _ADD
    message.lifetime.sec = _LIFETIME_S
    position, turn = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = block.position.tolist()
    turn.x, turn.y, turn.z, turn.w = orientation.tolist()
    message.scale.x = message.scale.y = message.scale.z = BLOCK_SIZE
    message.color.r, message.color.g, message.color.b = RGB[block.colour]
    message.color.a = 1.0
    return message


def blocks_of(message: Any) -> tuple[Block, ...]:
    """The blocks that a ``visualization_msgs/msg/MarkerArray`` of the simulator shows."""
    markers: Sequence[Any] = message.markers
    return tuple(
        Block(marker.ns, np.array([marker.pose.position.x, marker.pose.position.y, marker.pose.position.z]))
        for marker in markers
        if marker.action == _ADD and marker.ns in RGB
    )
