"""Loggers and their levels."""

from __future__ import annotations

from pathlib import Path

from rclpy.impl import rcutils_logger as _impl
from rclpy.impl.logging_severity import LoggingSeverity as LoggingSeverity
from rclpy.impl.rcutils_logger import RcutilsLogger

_root_logger = RcutilsLogger()


def get_logger(name: str) -> RcutilsLogger:
    """The logger of that name."""
    if not name:
        raise ValueError("Logger name must not be empty.")
    return _root_logger.get_child(name)


def initialize() -> None:
    """Nothing to do; there for programs that call it."""


def shutdown() -> None:
    """Nothing to do; there for programs that call it."""


def clear_config() -> None:
    """Forget all levels."""
    _impl._levels.clear()
    _impl._levels[""] = LoggingSeverity.INFO


def set_logger_level(name: str, level: LoggingSeverity | int, detailed_error: bool = False) -> bool:
    """Set a logger's level."""
    _impl.set_level(name, LoggingSeverity(level))
    return True


def get_logger_level(name: str) -> LoggingSeverity:
    """The level set for a logger; UNSET if none is."""
    return _impl.get_level(name)


def get_logger_effective_level(name: str) -> LoggingSeverity:
    """The level that counts for a logger."""
    return _impl.effective_level(name)


def get_logging_severity_from_string(log_severity: str) -> LoggingSeverity:
    """``"info"`` → LoggingSeverity.INFO; RuntimeError for anything else than a severity."""
    try:
        return LoggingSeverity[log_severity.upper()]
    except KeyError:
        names = ", ".join(item.name.lower() for item in LoggingSeverity)
        raise RuntimeError(f"'{log_severity}' is no severity; choose from {names}") from None


def get_logging_directory() -> Path:
    """Where ROS 2 keeps log files: ROS_LOG_DIR, else ROS_HOME/log, else ~/.ros/log."""
    import os

    directory = os.environ.get("ROS_LOG_DIR")
    if directory:
        return Path(directory).expanduser()
    return Path(os.environ.get("ROS_HOME") or "~/.ros").expanduser() / "log"
