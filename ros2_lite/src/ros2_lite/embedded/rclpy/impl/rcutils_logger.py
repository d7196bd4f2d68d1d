"""Loggers: levels by name, filters per call site, and the console format of ROS 2."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any

from rclpy.impl.logging_severity import LoggingSeverity

_DEFAULT_FORMAT = "[{severity}] [{time}] [{name}]: {message}"
_COLORS = {10: "\033[32m", 20: "\033[0m", 30: "\033[33m", 40: "\033[31m", 50: "\033[31m"}
_TOKEN = re.compile(r"\{(\w+)\}")

_levels: dict[str, LoggingSeverity] = {"": LoggingSeverity.INFO}
_lock = threading.Lock()
_format = os.environ.get("RCUTILS_CONSOLE_OUTPUT_FORMAT", _DEFAULT_FORMAT)
_sinks: dict[str, Callable[[int, LoggingSeverity, str, str, str, str, int], None]] = {}
"""Publishers to ``/rosout``, by logger name."""

Filter = tuple[bool, float | None, str, bool]


def set_level(name: str, level: LoggingSeverity) -> None:
    """Set the level of a logger and its children; UNSET inherits again."""
    with _lock:
        if level == LoggingSeverity.UNSET and name:
            _levels.pop(name, None)
        else:
            _levels[name] = LoggingSeverity(level)


def get_level(name: str) -> LoggingSeverity:
    """The level set for exactly this logger; UNSET if there is none."""
    return _levels.get(name, LoggingSeverity.UNSET)


def effective_level(name: str) -> LoggingSeverity:
    """The level that counts: the logger's own, else its nearest parent's."""
    while name:
        if name in _levels:
            return _levels[name]
        name = name.rpartition(".")[0]
    return _levels[""]


class _Site:
    """What the filters remember of one call site."""

    __slots__ = ("last", "once_done", "skipped")

    def __init__(self) -> None:
        self.last: float | None = None
        self.once_done = False
        self.skipped = False


class RcutilsLogger:
    """A logger; get one from `rclpy.logging.get_logger` or `Node.get_logger`."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._sites: dict[tuple[CodeType, int], _Site] = {}
        self._severities: dict[tuple[CodeType, int], LoggingSeverity] = {}

    def get_child(self, name: str) -> RcutilsLogger:
        """The logger ``parent.name``."""
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: LoggingSeverity | int) -> None:
        set_level(self.name, LoggingSeverity(level))

    def get_level(self) -> LoggingSeverity:
        return get_level(self.name)

    def get_effective_level(self) -> LoggingSeverity:
        return effective_level(self.name)

    def is_enabled_for(self, severity: LoggingSeverity | int) -> bool:
        return severity >= effective_level(self.name)

    def debug(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.DEBUG, kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.INFO, kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, kwargs)

    def warn(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, kwargs)

    def error(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.ERROR, kwargs)

    def fatal(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.FATAL, kwargs)

    def log(self, message: str, severity: LoggingSeverity | int, **kwargs: Any) -> bool:
        """Log with a severity; whether it came out.

        Keywords: ``once`` logs the first time only; ``skip_first`` all but the first; ``throttle_duration_sec`` at most
        once in that time.  They count per place in the source.
        """
        return self._log(message, LoggingSeverity(severity), kwargs)

    def _log(self, message: str, severity: LoggingSeverity, kwargs: dict[str, Any]) -> bool:
        if kwargs:
            kwargs.pop("name", None)
            unknown = set(kwargs) - {"once", "skip_first", "throttle_duration_sec", "throttle_time_source_type"}
            if unknown:
                raise TypeError(f"Unknown logging arguments: {', '.join(sorted(unknown))}")
        if severity < effective_level(self.name):
            return False
        frame = sys._getframe(2)
        if self._severities.setdefault((frame.f_code, frame.f_lasti), severity) != severity:
            raise ValueError("Logger severity cannot be changed between calls.")  # each call in the source has one
        if kwargs and not self._passes(frame.f_code, frame.f_lineno, kwargs):
            return False
        _emit(severity, self.name, str(message), frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno)
        return True

    def _passes(self, code: CodeType, line: int, kwargs: dict[str, Any]) -> bool:
        site = self._sites.setdefault((code, line), _Site())
        if kwargs.get("skip_first") and not site.skipped:
            site.skipped = True
            return False
        if kwargs.get("once"):
            if site.once_done:
                return False
            site.once_done = True
        throttle = kwargs.get("throttle_duration_sec")
        if throttle is not None:
            source = kwargs.get("throttle_time_source_type")
            now = time.monotonic() if source is None else source.now().nanoseconds / 1e9
            if site.last is not None and 0 <= now - site.last < float(throttle):
                return False
            site.last = now
        return True


def _emit(severity: LoggingSeverity, name: str, message: str, file: str, function: str, line: int) -> None:
    now = time.time_ns()
    stamp = f"{now // 10**9}.{now % 10**9:09d}"
    values = {
        "severity": severity.name,
        "name": name,
        "message": message,
        "time": stamp,
        "time_as_nanoseconds": str(now),
        "file_name": file,
        "function_name": function,
        "line_number": str(line),
    }
    text = _TOKEN.sub(lambda match: values.get(match[1], match[0]), _format)
    stream = sys.stdout if os.environ.get("RCUTILS_LOGGING_USE_STDOUT") == "1" else sys.stderr
    wanted = os.environ.get("RCUTILS_COLORIZED_OUTPUT", "")
    if wanted == "1" or (wanted != "0" and stream is not None and stream.isatty()):
        text = f"{_COLORS[severity]}{text}\033[0m"
    if stream is not None:
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # the other end of a pipe is gone: a log line must not end the program
    owner = name
    while owner:
        if owner in _sinks:
            _sinks[owner](now, severity, name, message, file, function, line)
            return
        owner = owner.rpartition(".")[0]
