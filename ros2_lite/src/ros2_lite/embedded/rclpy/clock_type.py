"""The kinds of clocks."""

from enum import IntEnum


class ClockType(IntEnum):
    """What a clock reads."""

    UNINITIALIZED = 0
    ROS_TIME = 1
    """``/clock`` when ``use_sim_time`` is true, else the system time."""
    SYSTEM_TIME = 2
    STEADY_TIME = 3
    """Never jumps; has no relation to the calendar."""
