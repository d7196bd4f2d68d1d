"""Who may stop a robot whatever commands it: the emergency stop, which latches, and the dead-man's switch.

Pure: time is an argument, in nanoseconds of a steady clock. This is software: it replaces no circuit that cuts power.
"""

from __future__ import annotations

from robovlm_ros.errors import UserError


class Guard:
    """Not thread-safe: the caller locks."""

    def __init__(self, *, dead_man_timeout_ns: int | None = None, after: str = "~/reset, then ~/start goes on") -> None:
        """`dead_man_timeout_ns`: commands are sent only while the dead-man's switch was said to be held within this
        time [ns]; None: there is none. `after`: how the robot goes on after an emergency stop, in words."""
        self._timeout_ns = dead_man_timeout_ns
        self._after = after
        self._held_ns: int | None = None
        self._cause: str | None = None
        self._pressed = False

    @property
    def stopped(self) -> bool:
        """Whether the emergency stop is latched."""
        return self._cause is not None

    def stop(self, cause: str) -> None:
        """Latch the emergency stop; the first cause is kept."""
        self._cause = self._cause or cause

    def press(self, pressed: bool, cause: str) -> None:
        """The word of an emergency stop that can be pressed and released: releasing it does not reset."""
        self._pressed = pressed
        if pressed:
            self.stop(cause)

    def hold(self, held: bool, now_ns: int) -> None:
        """The word of the dead-man's switch; it is to be repeated."""
        self._held_ns = now_ns if held else None

    def reset(self) -> None:
        """Unlatch the emergency stop; UserError while it is still pressed."""
        if self._pressed:
            raise UserError(f"the emergency stop is still pressed ({self._cause}): release it first")
        self._cause = None

    def refusal(self, now_ns: int) -> str | None:
        """Why nothing may be sent now; None: it may."""
        if self._cause is not None:
            return f"emergency stop ({self._cause}); {self._after}"
        if self._timeout_ns is None or (self._held_ns is not None and 0 <= now_ns - self._held_ns <= self._timeout_ns):
            return None
        return "the dead-man's switch is not held"
