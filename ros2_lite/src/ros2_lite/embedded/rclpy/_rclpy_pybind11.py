"""The exception types that rclpy's C++ extension defines, in their original place and with their original bases."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ros2_lite.dds.lib import InvalidHandle as InvalidHandle


class RCLError(RuntimeError):
    """An operation of the middleware failed."""


class RMWError(RuntimeError):
    """An operation of the DDS layer failed."""


class NodeNameNonExistentError(RCLError):
    """No such node in the graph."""


class UnsupportedEventTypeError(RCLError):
    """The middleware does not report this event."""


class UnknownROSArgsError(RuntimeError):
    """Something after ``--ros-args`` is no ROS argument."""


class RCLInvalidROSArgsError(RCLError):
    """A ROS argument that cannot be read."""


class TimerCancelledError(RCLError):
    """The timer is cancelled."""


class TransitionCallbackReturnType(Enum):
    """How a callback of a lifecycle node ended."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99

    def __int__(self) -> int:
        return int(self.value)

    def to_label(self) -> str:
        """The transition by which the passing state is left."""
        return f"transition_{self.name.lower()}"


def __getattr__(name: str) -> Any:
    if name == "rmw_qos_profile_t":  # made late: profiles need what is above
        from rclpy.qos import rmw_qos_profile_t

        return rmw_qos_profile_t
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
