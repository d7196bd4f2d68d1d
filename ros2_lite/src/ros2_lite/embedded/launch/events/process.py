"""Events about the processes that a launch starts."""

from __future__ import annotations

import signal as signal_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..event import Event

if TYPE_CHECKING:
    from ..actions import ExecuteLocal

__all__ = [
    "ProcessExited",
    "ProcessIO",
    "ProcessStarted",
    "ProcessStderr",
    "ProcessStdin",
    "ProcessStdout",
    "ProcessTargetedEvent",
    "RunningProcessEvent",
    "ShutdownProcess",
    "SignalProcess",
    "matches_executable",
    "matches_name",
    "matches_pid",
]

ProcessMatcher = Callable[[Any], bool]


class RunningProcessEvent(Event):
    """An event about one process that has been started."""

    name = "launch.events.process.RunningProcessEvent"

    def __init__(
        self,
        *,
        action: ExecuteLocal,
        name: str,
        cmd: list[str],
        cwd: str | None,
        env: dict[str, str] | None,
        pid: int,
    ) -> None:
        super().__init__()
        self.action = action
        self.process_name = name
        self.cmd = cmd
        self.cwd = cwd
        self.env = env
        self.pid = pid

    @property
    def execute_process_action(self) -> ExecuteLocal:
        """The action that started the process (the older name of ``action``)."""
        return self.action


class ProcessStarted(RunningProcessEvent):
    """The process runs."""

    name = "launch.events.process.ProcessStarted"


class ProcessExited(RunningProcessEvent):
    """The process has ended; ``returncode`` is its exit code, or minus the signal that ended it."""

    name = "launch.events.process.ProcessExited"

    def __init__(self, *, returncode: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.returncode = returncode


class ProcessIO(RunningProcessEvent):
    """Bytes on one of the standard streams, as they came (not split into lines)."""

    name = "launch.events.process.ProcessIO"

    def __init__(self, *, text: bytes, fd: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text
        self.from_stdin = fd == 0
        self.from_stdout = fd == 1
        self.from_stderr = fd == 2


class ProcessStdin(ProcessIO):
    """Bytes for the process to read."""

    name = "launch.events.process.ProcessStdin"

    def __init__(self, *, text: bytes, **kwargs: Any) -> None:
        super().__init__(text=text, fd=0, **kwargs)


class ProcessStdout(ProcessIO):
    """Bytes that the process wrote to stdout."""

    name = "launch.events.process.ProcessStdout"

    def __init__(self, *, text: bytes, **kwargs: Any) -> None:
        super().__init__(text=text, fd=1, **kwargs)


class ProcessStderr(ProcessIO):
    """Bytes that the process wrote to stderr."""

    name = "launch.events.process.ProcessStderr"

    def __init__(self, *, text: bytes, **kwargs: Any) -> None:
        super().__init__(text=text, fd=2, **kwargs)


class ProcessTargetedEvent(Event):
    """An event for the processes that ``process_matcher`` picks, given their actions."""

    name = "launch.events.process.ProcessTargetedEvent"

    def __init__(self, *, process_matcher: ProcessMatcher) -> None:
        super().__init__()
        self.process_matcher = process_matcher


class ShutdownProcess(ProcessTargetedEvent):
    """A process is to end: SIGINT, then SIGTERM, then SIGKILL."""

    name = "launch.events.process.ShutdownProcess"


class SignalProcess(ProcessTargetedEvent):
    """A signal is to be sent to a process."""

    name = "launch.events.process.SignalProcess"

    def __init__(self, *, signal_number: str | signal_module.Signals, process_matcher: ProcessMatcher) -> None:
        super().__init__(process_matcher=process_matcher)
        if isinstance(signal_number, str) and signal_number not in signal_module.Signals.__members__:
            raise ValueError(
                f"'{signal_number}' is not a signal; valid are {', '.join(signal_module.Signals.__members__)}"
            )
        self.signal = (
            signal_module.Signals[signal_number]
            if isinstance(signal_number, str)
            else signal_module.Signals(signal_number)
        )

    @property
    def signal_name(self) -> str:
        """For example 'SIGINT'."""
        return self.signal.name


def _details(action: Any) -> dict[str, Any]:
    return action.process_details or {}


def matches_pid(pid: int) -> ProcessMatcher:
    """Return a matcher by process id."""
    return lambda action: _details(action).get("pid") == pid


def matches_name(name: str) -> ProcessMatcher:
    """Return a matcher by the process's name, for example 'talker-1'."""
    return lambda action: _details(action).get("name") == name


def matches_executable(executable: str) -> ProcessMatcher:
    """Return a matcher by the end of the program's path."""
    return lambda action: (_details(action).get("cmd") or [""])[0].endswith(executable)
