"""Timers and rates."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy._entity import Entity, Handle, Work
from rclpy._rclpy_pybind11 import InvalidHandle, TimerCancelledError
from rclpy.clock import Clock
from rclpy.exceptions import ROSInterruptException

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.context import Context


class TimerHandle(Handle):
    """What stands for a timer, in a wait set of one's own too."""

    def __init__(self, timer: Timer) -> None:
        super().__init__(lambda: None)
        self._timer = weakref.ref(timer)

    def is_timer_ready(self) -> bool:
        """Whether a call is due."""
        timer = self._timer()
        return timer is not None and timer.is_ready()

    def call_timer(self) -> None:
        """Count a call as made now."""
        timer = self._timer()
        if timer is not None:
            timer()

    def _wall_until_due(self) -> int | None:
        timer = self._timer()
        return None if timer is None else timer._wall_until_due()


class Timer(Entity):
    """Calls back periodically by a clock.  Made by `Node.create_timer`."""

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None,
        timer_period_ns: int,
        clock: Clock,
        *,
        context: Context | None = None,
        autostart: bool = True,
    ) -> None:
        super().__init__(callback_group)
        if timer_period_ns < 0:
            raise ValueError("timer_period_ns must not be negative")
        self.callback = callback
        self._handle = TimerHandle(self)
        self._period = timer_period_ns
        self._clock = clock
        self._last = clock._now()
        self._next = self._last + timer_period_ns
        self._canceled = not autostart
        self._lock = threading.Lock()
        clock._wakers.add(self)
        self._jump = None
        if hasattr(clock, "ros_time_is_active"):
            from rclpy.clock import JumpThreshold
            from rclpy.duration import Duration

            threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
            self._jump = clock.create_jump_callback(threshold, post_callback=self._after_jump)

    def _after_jump(self, jump: Any) -> None:
        """Time went back or changed its source: the next call is one period from now, not in an old time."""
        now = self._clock._now()
        with self._lock:
            self._last = now
            self._next = now + self._period

    @property
    def handle(self) -> TimerHandle:
        return self._handle

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def timer_period_ns(self) -> int:
        self._handle._check()
        return self._period

    @timer_period_ns.setter
    def timer_period_ns(self, value: int) -> None:
        self._handle._check()
        with self._lock:
            self._period = int(value)
            self._next = self._last + self._period
        self._wake_executor()

    def is_canceled(self) -> bool:
        self._handle._check()
        return self._canceled

    def cancel(self) -> None:
        """Stop calling back until `reset`."""
        self._handle._check()
        self._canceled = True

    def reset(self) -> None:
        """Start anew: the next call is one period from now."""
        self._handle._check()
        with self._lock:
            self._last = self._clock._now()
            self._next = self._last + self._period
            self._canceled = False
        self._wake_executor()

    def is_ready(self) -> bool:
        """Whether a call is due."""
        return not self._canceled and self._open and self._clock._now() >= self._next

    def time_since_last_call(self) -> int:
        """Nanoseconds since the last call, or since the start."""
        self._handle._check()
        return self._clock._now() - self._last

    def time_until_next_call(self) -> int | None:
        """Nanoseconds until the next call (negative when it is late); None when cancelled."""
        self._handle._check()
        return None if self._canceled else self._next - self._clock._now()

    def _wall_until_due(self) -> int | None:
        """Wall nanoseconds until it may be due; None when that is not known (cancelled, simulated time)."""
        if self._canceled or not self._open:
            return None
        left = self._next - self._clock._now()
        return 0 if left <= 0 else self._clock._to_wall(left)

    def _due(self) -> bool:
        """Account for one call when it is due; whether it is."""
        with self._lock:
            now = self._clock._now()
            if self._canceled or not self._open or now < self._next:
                return False
            self._last = now
            self._next += self._period
            if self._next < now:
                # Late by more than a period: skip calls, keep the phase.
                missed = -(-(now - self._next) // self._period) if self._period else 0
                self._next = self._next + missed * self._period if self._period else now
            return True

    def _take(self) -> Work | None:
        if not self._due() or self.callback is None:
            return None
        return self.callback, ()

    def __call__(self) -> None:
        """Count a call as made now (what the executor does)."""
        self._handle._check()
        if self._canceled:
            raise TimerCancelledError("timer is canceled")
        self._due()

    def destroy(self) -> None:
        if self._jump is not None:
            self._jump.unregister()
        super().destroy()
        self._handle.destroy_when_not_in_use()


class Rate:
    """Sleeps so that a loop runs at a rate.  Made by `Node.create_rate`; the node must be spun in another thread."""

    def __init__(self, timer: Timer, *, context: Context) -> None:
        self._timer = timer
        self._event = threading.Event()
        self._is_shutdown = False
        self._is_destroyed = False
        self._sleeping = 0
        self._lock = threading.Lock()
        timer.callback = self._event.set
        context.on_shutdown(self._on_shutdown)

    def _on_shutdown(self) -> None:
        self._is_shutdown = True
        self._event.set()

    def destroy(self) -> None:
        self._is_destroyed = True
        self._event.set()

    def sleep(self) -> None:
        """Sleep until the timer's next call, or until the rate is destroyed.

        Raises ROSInterruptException at shutdown, RuntimeError when the rate was destroyed before, InvalidHandle when
        its timer was.
        """
        if self._is_shutdown:
            raise ROSInterruptException()
        if self._is_destroyed:
            raise RuntimeError("Rate cannot sleep because it has been destroyed")
        if not self._timer._open:
            self.destroy()
            raise InvalidHandle("Rate cannot sleep because the timer has been destroyed")
        with self._lock:
            self._sleeping += 1
        self._event.wait()
        with self._lock:
            self._sleeping -= 1
            if self._sleeping == 0:
                self._event.clear()
        if self._is_shutdown:
            self.destroy()
            raise ROSInterruptException()
