"""The exception types that rclpy's C++ extension defines, in their original place and with their original bases."""

# ruff: noqa: N818 (the names are ROS's)

from __future__ import annotations


class RCLError(RuntimeError):
    """An operation of the middleware failed."""


class RMWError(RuntimeError):
    """An operation of the DDS layer failed."""


class InvalidHandle(RuntimeError):
    """The object was destroyed already."""


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
