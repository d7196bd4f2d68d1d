"""Clocks."""

from __future__ import annotations

import threading
import time as _time
import weakref
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from rclpy.clock_type import ClockType as ClockType
from rclpy.duration import Duration
from rclpy.exceptions import NotInitializedException
from rclpy.time import Time

if TYPE_CHECKING:
    from rclpy.context import Context


class ClockChange(IntEnum):
    """What a jump did to a ROS clock's source."""

    ROS_TIME_NO_CHANGE = 1
    ROS_TIME_ACTIVATED = 2
    ROS_TIME_DEACTIVATED = 3
    SYSTEM_TIME_NO_CHANGE = 4


class JumpThreshold:
    """From which jumps on a callback wants to hear."""

    def __init__(
        self, *, min_forward: Duration | None, min_backward: Duration | None, on_clock_change: bool = True
    ) -> None:
        if min_forward is not None and min_forward.nanoseconds <= 0:
            raise ValueError("min_forward must be a positive non-zero duration")
        if min_backward is not None and min_backward.nanoseconds >= 0:
            raise ValueError("min_backward must be a negative non-zero duration")
        if min_forward is None and min_backward is None and not on_clock_change:
            raise ValueError("At least one jump threshold must be enabled")
        self.min_forward = min_forward
        self.min_backward = min_backward
        self.on_clock_change = on_clock_change

    def _wants(self, jump: TimeJump) -> bool:
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            return self.on_clock_change
        delta = jump.delta.nanoseconds
        forward, backward = self.min_forward, self.min_backward
        return (forward is not None and delta >= forward.nanoseconds) or (
            backward is not None and delta <= backward.nanoseconds
        )


class TimeJump:
    """A jump of a clock."""

    def __init__(self, clock_change: ClockChange, delta: Duration) -> None:
        self._clock_change = clock_change
        self._delta = delta

    @property
    def clock_change(self) -> ClockChange:
        return self._clock_change

    @property
    def delta(self) -> Duration:
        return self._delta


class JumpHandle:
    """A registered jump callback."""

    def __init__(
        self,
        *,
        clock: Clock,
        threshold: JumpThreshold,
        pre_callback: Callable[[], None] | None,
        post_callback: Callable[[TimeJump], None] | None,
    ) -> None:
        if pre_callback is None and post_callback is None:
            raise ValueError("One of pre_callback or post_callback must be callable")
        for name, callback in (("pre_callback", pre_callback), ("post_callback", post_callback)):
            if callback is not None and not callable(callback):
                raise ValueError(f"{name} must be callable if given")
        self._clock: Clock | None = clock
        self._threshold = threshold
        self._pre_callback = pre_callback
        self._post_callback = post_callback

    def unregister(self) -> None:
        """Stop hearing of jumps."""
        if self._clock is not None:
            self._clock._jump_handles.discard(self)
            self._clock = None

    def __enter__(self) -> JumpHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unregister()


class Clock:
    """A clock of one kind; ``Clock(clock_type=ClockType.ROS_TIME)`` makes a `ROSClock`."""

    _clock_type: ClockType
    _jump_handles: set[JumpHandle]
    _changed: threading.Condition
    _wakers: weakref.WeakSet[Any]

    def __new__(cls, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> Clock:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        self = super().__new__(ROSClock if clock_type is ClockType.ROS_TIME else cls)
        self._clock_type = clock_type
        self._jump_handles = set()
        self._changed = threading.Condition()
        self._wakers = weakref.WeakSet()
        return self

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def __repr__(self) -> str:
        return f"Clock(clock_type={self._clock_type.name})"

    def _now(self) -> int:
        return _time.monotonic_ns() if self._clock_type is ClockType.STEADY_TIME else _time.time_ns()

    def _to_wall(self, nanoseconds: int) -> int | None:
        """How much wall time a length of this clock's time takes; None if that cannot be known."""
        return nanoseconds

    def now(self) -> Time:
        """The instant that it shows."""
        return Time(nanoseconds=self._now(), clock_type=self._clock_type)

    def create_jump_callback(
        self,
        threshold: JumpThreshold,
        *,
        pre_callback: Callable[[], None] | None = None,
        post_callback: Callable[[TimeJump], None] | None = None,
    ) -> JumpHandle:
        """Call back before and after the clock jumps by at least the threshold."""
        handle = JumpHandle(clock=self, threshold=threshold, pre_callback=pre_callback, post_callback=post_callback)
        self._jump_handles.add(handle)
        return handle

    def sleep_until(self, until: Time, context: Context | None = None) -> bool:
        """Sleep until the clock shows `until`; False when the context was shut down or the time source changed."""
        from rclpy.utilities import get_default_context

        context = get_default_context() if context is None else context
        if not context.ok():
            raise NotInitializedException()
        if until.clock_type != self._clock_type:
            raise ValueError("until's clock type does not match this clock's type")
        interrupted = threading.Event()

        def after_jump(jump: TimeJump) -> None:
            if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
                interrupted.set()
            self._wake_sleepers()

        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        context.on_shutdown(self._wake_sleepers)
        with self.create_jump_callback(threshold, post_callback=after_jump), self._changed:
            while context.ok() and not interrupted.is_set():
                left = until.nanoseconds - self._now()
                if left <= 0:
                    break
                wall = self._to_wall(left)
                self._changed.wait(None if wall is None else wall / 1e9)
        return context.ok() and not interrupted.is_set()

    def _wake_sleepers(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def sleep_for(self, rel_time: Duration, context: Context | None = None) -> bool:
        """Sleep for a length of this clock's time; see `sleep_until`."""
        return self.sleep_until(self.now() + rel_time, context)


class ROSClock(Clock):
    """The clock of nodes: simulated time when that is active, else the system's."""

    _override: int | None = None
    _simulated = 0

    def __new__(cls, *, clock_type: ClockType = ClockType.ROS_TIME) -> ROSClock:
        self = super().__new__(cls, clock_type=clock_type)
        assert isinstance(self, ROSClock)
        return self

    @property
    def ros_time_is_active(self) -> bool:
        return self._override is not None

    def _now(self) -> int:
        override = self._override
        return _time.time_ns() if override is None else override

    def _to_wall(self, nanoseconds: int) -> int | None:
        return nanoseconds if self._override is None else None

    def _set_ros_time_is_active(self, enabled: bool) -> None:
        if enabled == self.ros_time_is_active:
            return
        change = ClockChange.ROS_TIME_ACTIVATED if enabled else ClockChange.ROS_TIME_DEACTIVATED
        self._move(self._simulated if enabled else None, change)

    def set_ros_time_override(self, time: Time) -> None:
        """Set simulated time; shown while it is active."""
        if not isinstance(time, Time):
            raise TypeError(f"Time must be specified as rclpy.time.Time. Received type: {type(time)}")
        self._simulated = time.nanoseconds
        if self.ros_time_is_active:
            self._move(self._simulated, ClockChange.ROS_TIME_NO_CHANGE)

    def _move(self, override: int | None, change: ClockChange) -> None:
        before = self._now()
        after = _time.time_ns() if override is None else override
        jump = TimeJump(change, Duration(nanoseconds=after - before))
        handles = [handle for handle in list(self._jump_handles) if handle._threshold._wants(jump)]
        for handle in handles:
            if handle._pre_callback is not None:
                handle._pre_callback()
        self._override = override
        for handle in handles:
            if handle._post_callback is not None:
                handle._post_callback(jump)
        for waker in list(self._wakers):
            waker._nudge_executor()
