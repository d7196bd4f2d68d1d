"""What the executor handles: subscriptions, services, clients, guard conditions and timers."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy._rclpy_pybind11 import InvalidHandle

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.executors import Executor

Work = tuple[Callable[..., Any], tuple[Any, ...]]
"""A callback and its arguments, ready to be called."""


class Entity:
    """Base of everything that has callbacks."""

    condition = 0
    """The DDS condition to wait for; 0 for timers, which wait for time."""
    inline = False
    """Whether the work is internal and short, and runs in the thread that waits."""

    def __init__(self, callback_group: CallbackGroup | None) -> None:
        self.callback_group = callback_group
        self._open = True
        self._skipped: int | None = None  # when the executor first found its group busy, in counts of such findings
        self._executor: Callable[[], Executor | None] = lambda: None

    def _take(self) -> Work | None:
        """Take what is there; None if there is nothing (any more)."""
        raise NotImplementedError

    def _set_executor(self, executor: Executor | None) -> None:
        self._executor = (lambda: None) if executor is None else weakref.ref(executor)

    def _wake_executor(self) -> None:
        executor = self._executor()
        if executor is not None:
            executor.wake()

    def _nudge_executor(self) -> None:
        executor = self._executor()
        if executor is not None:
            executor._nudge()

    def destroy(self) -> None:
        self._open = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy()


class Handle:
    """What stands for a thing: a ``with`` block keeps the thing from being destroyed meanwhile.

    InvalidHandle for a block that begins after its destruction was asked for.
    """

    def __init__(self, destroy: Callable[[], None]) -> None:
        self._destroy = destroy
        self._requested = self._gone = False
        self._uses = 0
        self._counting = threading.Lock()

    def _check(self) -> None:
        if self._requested:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")

    def __enter__(self) -> Any:
        with self._counting:
            self._check()
            self._uses += 1
        return self

    def __exit__(self, *exc: object) -> None:
        with self._counting:
            self._uses -= 1
        self._end_unused()

    def destroy_when_not_in_use(self) -> None:
        self._requested = True
        self._end_unused()

    def _end_unused(self) -> None:
        with self._counting:
            if not self._requested or self._uses or self._gone:
                return
            self._gone = True
        self._destroy()


def leave_later(leave: Callable[[], None]) -> None:
    """Call `leave` for something that was just freed: in a thread, since the collector may run where locks are held."""
    if sys.is_finalizing():
        return  # participants have left already
    with contextlib.suppress(RuntimeError):  # no thread can be started any more
        threading.Thread(target=leave, name="rclpy-leave", daemon=True).start()
