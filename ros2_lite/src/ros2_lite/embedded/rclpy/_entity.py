"""What the executor handles: subscriptions, services, clients, guard conditions and timers."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
