"""Events of the launch system itself; those of processes are in :mod:`launch.events.process`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..event import Event
from . import process

if TYPE_CHECKING:
    from ..actions import TimerAction
    from ..launch_description import LaunchDescription

__all__ = [
    "ExecutionComplete",
    "IncludeLaunchDescription",
    "Shutdown",
    "TimerEvent",
    "matches_action",
    "process",
]


class Shutdown(Event):
    """The launch ends: processes are asked to stop, then nothing new is started."""

    name = "launch.events.Shutdown"

    def __init__(self, *, reason: str = "reason not given", due_to_sigint: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__reason = reason
        self.__due_to_sigint = due_to_sigint

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self.__reason

    @property
    def due_to_sigint(self) -> bool:
        """Whether Ctrl-C is the cause."""
        return self.__due_to_sigint


class IncludeLaunchDescription(Event):
    """A launch description is to be visited."""

    name = "launch.events.IncludeLaunchDescription"

    def __init__(self, launch_description: LaunchDescription) -> None:
        self.__launch_description = launch_description

    @property
    def launch_description(self) -> LaunchDescription:
        """The description."""
        return self.__launch_description


class TimerEvent(Event):
    """A timer has fired."""

    name = "launch.events.TimerEvent"

    def __init__(self, *, timer_action: TimerAction) -> None:
        self.__timer_action = timer_action

    @property
    def timer_action(self) -> TimerAction:
        """The action whose time it is."""
        return self.__timer_action


class ExecutionComplete(Event):
    """An action that takes time has ended."""

    name = "launch.events.ExecutionComplete"

    def __init__(self, *, action: Any) -> None:
        self.__action = action

    @property
    def action(self) -> Any:
        """The action."""
        return self.__action


def matches_action(target_action: Any) -> Callable[[Any], bool]:
    """Return a matcher, for events that target processes, of this one action."""
    return lambda action: action is target_action
