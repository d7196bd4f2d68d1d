"""Helpers around the default context."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from rclpy._arguments import Arguments
from rclpy.context import Context

_default: list[Context] = []
_lock = threading.Lock()


def get_default_context(*, shutting_down: bool = False) -> Context:
    """The context that is used where none is named."""
    with _lock:
        if not _default:
            _default.append(Context())
        return _default[0]  # one that ended stays until shutdown() replaces it, so that ok() tells the truth


def _replace_default() -> None:
    with _lock:
        _default.clear()


def ok(*, context: Context | None = None) -> bool:
    """Whether the context is running."""
    return (get_default_context() if context is None else context).ok()


def shutdown(*, context: Context | None = None) -> None:
    """End the context; RuntimeError when it is not running."""
    if context is None:
        ended = get_default_context(shutting_down=True)
        _replace_default()
        ended.shutdown()
    else:
        context.shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    """End the context if it is running."""
    if context is None:
        ended = get_default_context(shutting_down=True)
        if ended._initialized:
            _replace_default()
        ended.try_shutdown()
    else:
        context.try_shutdown()


def get_rmw_implementation_identifier() -> str:
    """``rmw_cyclonedds_cpp``: the implementation that this one is like on the wire."""
    return "rmw_cyclonedds_cpp"


def get_available_rmw_implementations() -> set[str]:
    return {get_rmw_implementation_identifier()}


def remove_ros_args(args: Sequence[str] | None = None) -> list[str]:
    """The arguments without the ROS ones."""
    return Arguments(sys.argv if args is None else args).others


def timeout_sec_to_nsec(timeout_sec: float | None) -> int:
    """Seconds to nanoseconds; -1 for None and negative ones."""
    return -1 if timeout_sec is None or timeout_sec < 0 else int(timeout_sec * 10**9)


def get_rmw_implementation() -> str:
    return os.environ.get("RMW_IMPLEMENTATION", "") or get_rmw_implementation_identifier()
