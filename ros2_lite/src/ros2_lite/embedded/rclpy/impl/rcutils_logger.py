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


_OPTIONS = ("throttle_duration_sec", "throttle_time_source_type", "skip_first", "once")


class _Site:
    """What one call in the source asked for the first time, and what its filters remember."""

    __slots__ = ("last", "name", "once_done", "options", "severity", "skipped")

    def __init__(self, name: str, severity: LoggingSeverity, options: dict[str, Any]) -> None:
        self.name = name
        self.severity = severity
        self.options = options
        self.last = 0
        self.once_done = False
        self.skipped = False


def _wanted(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The filters of a call.  TypeError for options that there are not, or that lack another."""
    for option in kwargs:
        if option not in _OPTIONS:
            raise TypeError(f"parameter '{option}' is not one of the recognized logging options {_OPTIONS}")
    options = {option: value for option, value in kwargs.items() if value}
    if "throttle_time_source_type" in options and kwargs.get("throttle_duration_sec") is None:
        raise TypeError("required parameter 'throttle_duration_sec' not specified, but its time source is")
    return options


class RcutilsLogger:
    """A logger; get one from `rclpy.logging.get_logger` or `Node.get_logger`."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._sites: dict[tuple[CodeType, int], _Site] = {}

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
        return self._log(message, LoggingSeverity.DEBUG, **kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.INFO, **kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, **kwargs)

    def warn(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, **kwargs)

    def error(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.ERROR, **kwargs)

    def fatal(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.FATAL, **kwargs)

    def log(self, message: str, severity: LoggingSeverity | int, **kwargs: Any) -> bool:
        """Log with a severity; whether it came out.

        Keywords: ``throttle_duration_sec`` logs at most once in that time, by ``throttle_time_source_type`` (a Clock);
        ``skip_first`` all but the first; ``once`` the first time only; ``name`` in another logger's name.  They count
        per call in the source, and cannot change there: TypeError or ValueError.
        """
        return self._log(message, LoggingSeverity(severity), **kwargs)

    def _log(self, message: str, severity: LoggingSeverity, **kwargs: Any) -> bool:
        if severity < effective_level(self.name):
            return False
        name = kwargs.pop("name", self.name) if kwargs else self.name
        options = _wanted(kwargs) if kwargs else {}
        frame = sys._getframe(2)
        key = (frame.f_code, frame.f_lasti)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = _Site(name, severity, options)
        elif severity != site.severity:
            raise ValueError("Logger severity cannot be changed between calls.")
        elif name != site.name:
            raise ValueError("Logger name cannot be changed between calls.")
        elif options.keys() != site.options.keys():
            raise ValueError("Requested logging filters cannot be changed between calls.")
        elif options != site.options:
            raise ValueError("Logging filter parameters cannot be changed between calls.")
        if options and not self._passes(site):
            return False
        _emit(severity, name, str(message), frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno)
        return True

    def _passes(self, site: _Site) -> bool:
        """Ask the filters in rclpy's order; each notes that it let something through, even if the next does not."""
        throttle = site.options.get("throttle_duration_sec")
        if throttle:
            source = site.options.get("throttle_time_source_type")
            now = time.time_ns() if source is None else source.now().nanoseconds
            if site.last <= now < site.last + int(throttle * 1e9):
                return False
            site.last = now
        if site.options.get("skip_first") and not site.skipped:
            site.skipped = True
            return False
        if site.options.get("once"):
            if site.once_done:
                return False
            site.once_done = True
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
