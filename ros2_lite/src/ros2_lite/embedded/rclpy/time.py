"""Instants."""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time as TimeMsg

from rclpy.clock_type import ClockType
from rclpy.duration import S_TO_NS, Duration

CONVERSION_CONSTANT = S_TO_NS
_MAX = 2**63 - 1


class Time:
    """An instant of one kind of clock, in nanoseconds; instants of different kinds do not compare."""

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        if seconds < 0:
            raise ValueError("Seconds value must not be negative")
        if nanoseconds < 0:
            raise ValueError("Nanoseconds value must not be negative")
        total = int(seconds * S_TO_NS) if isinstance(seconds, float) else seconds * S_TO_NS
        total += int(nanoseconds)
        if total > _MAX:
            raise OverflowError("Total nanoseconds value is too large to store in C time point.")
        self._nanoseconds = total
        self._clock_type = clock_type

    @property
    def nanoseconds(self) -> int:
        return self._nanoseconds

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds, and the nanoseconds that remain."""
        return divmod(self._nanoseconds, S_TO_NS)

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self._nanoseconds}, clock_type={self._clock_type.name})"

    def __add__(self, other: Duration) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        return self._at(self._nanoseconds + other.nanoseconds, "addition")

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        """Time minus Time is a Duration, Time minus Duration a Time."""
        if isinstance(other, Time):
            self._same_clock(other, "subtract")
            return Duration(nanoseconds=self._nanoseconds - other._nanoseconds)
        if isinstance(other, Duration):
            return self._at(self._nanoseconds - other.nanoseconds, "subtraction")
        return NotImplemented

    def _at(self, nanoseconds: int, what: str) -> Time:
        if nanoseconds > _MAX:
            raise OverflowError(f"{what.capitalize()} leads to overflow in C storage.")
        if nanoseconds < 0:
            raise ValueError(f"{what.capitalize()} leads to negative time.")
        return Time(nanoseconds=nanoseconds, clock_type=self._clock_type)

    def _same_clock(self, other: Time, what: str) -> None:
        if self._clock_type != other._clock_type:
            raise TypeError(f"Can't {what} times with different clock types")

    def _compare(self, other: object) -> int | None:
        if isinstance(other, TimeMsg):
            other = Time.from_msg(other, self._clock_type)
        if not isinstance(other, Time):
            return None
        self._same_clock(other, "compare")
        return (self._nanoseconds > other._nanoseconds) - (self._nanoseconds < other._nanoseconds)

    def __eq__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order == 0

    def __ne__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order != 0

    def __lt__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order < 0

    def __le__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order <= 0

    def __gt__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order > 0

    def __ge__(self, other: object) -> bool:
        order = self._compare(other)
        return NotImplemented if order is None else order >= 0

    def __hash__(self) -> int:
        return hash((self._nanoseconds, self._clock_type))

    def to_msg(self) -> Any:
        """As builtin_interfaces/msg/Time."""
        seconds, nanoseconds = self.seconds_nanoseconds()
        return TimeMsg(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, msg: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From builtin_interfaces/msg/Time."""
        if not isinstance(msg, TimeMsg):
            raise TypeError("Must pass a builtin_interfaces.msg.Time object")
        return cls(nanoseconds=msg.sec * S_TO_NS + msg.nanosec, clock_type=clock_type)
