"""Logging of the launch system: to the screen, and to files below the ROS log directory.

The loggers are ordinary ``logging.Logger`` objects in a registry of their own, so that they never meet
loggers of the same name in launch files or in nodes. Files are made when something is written to them.
Environment: ``ROS_LOG_DIR``, ``ROS_HOME``, ``OVERRIDE_LAUNCH_PROCESS_OUTPUT``,
``OVERRIDE_LAUNCH_SCREEN_FORMAT``, ``OVERRIDE_LAUNCH_LOG_FORMAT``.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["get_logger", "get_output_loggers", "launch_config", "log_launch_config", "reset"]

OutputConfig = str | Mapping[str, str | Iterable[str]]

_SCREEN_FORMAT = "[{levelname}] [{name}]: {msg}"
_FILE_FORMAT = "{created:.7f} [{levelname}] [{name}]: {msg}"
_OUTPUT_ALIASES: dict[str, dict[str, set[str]]] = {
    "screen": {"both": {"screen"}},
    "log": {"both": {"log"}, "stderr": {"screen"}},
    "both": {"both": {"log", "screen"}},
    "own_log": {"both": {"own_log"}, "stdout": {"own_log"}, "stderr": {"own_log"}},
    "full": {"both": {"screen", "log", "own_log"}, "stdout": {"own_log"}, "stderr": {"own_log"}},
}
_OUTPUT_SOURCES = ("both", "stderr", "stdout")
_OUTPUT_DESTINATIONS = ("log", "own_log", "screen")


class _Registry(logging.Manager):
    """Logger names of the launch system only."""

    def __init__(self) -> None:
        super().__init__(logging.RootLogger(logging.INFO))


class _ScreenHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stdout`` is at the time; process output is written as it is."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.plain = logging.Formatter("{msg}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "process_output", False):
            return self.plain.format(record)
        return super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        try:
            text = self.format(record)
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            sys.stdout.flush()
        except (BrokenPipeError, ValueError):
            pass  # nobody reads any more (`ros2 launch ... | head`): the processes still get their end


class _FileHandler(logging.FileHandler):
    """A log file that is made, with its folder, at the first line."""

    def __init__(self, path: Path, process_output_format: str) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.plain = logging.Formatter(process_output_format, style="{")

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "process_output", False):
            return self.plain.format(record)
        return super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.stream is None:
                Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            super().emit(record)
        except OSError as error:
            # A full or read-only disk must not end a robot's launch; it is said once.
            self.setLevel(logging.CRITICAL + 1)
            print(f"[WARNING] [launch]: cannot write the log file {self.baseFilename}: {error}", file=sys.stderr)


class LaunchConfig:
    """Where and how the launch system logs."""

    def __init__(self) -> None:
        self._log_dir: Path | None = None
        self._files: dict[str, _FileHandler] = {}
        self._registry = _Registry()
        self._screen = _ScreenHandler()
        self.set_screen_format(_SCREEN_FORMAT)
        self._file_formatter = self._formatter(os.environ.get("OVERRIDE_LAUNCH_LOG_FORMAT") or _FILE_FORMAT)

    @staticmethod
    def _formatter(text: str) -> logging.Formatter:
        return logging.Formatter(text, style="{")

    @property
    def level(self) -> int:
        """The level below which nothing is logged."""
        return self._registry.root.level

    @level.setter
    def level(self, level: int) -> None:
        self._registry.root.setLevel(level)

    @property
    def log_dir(self) -> str:
        """The folder of this launch's log files (it is made when the first line is written)."""
        if self._log_dir is None:
            home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros").expanduser()
            base = Path(os.environ.get("ROS_LOG_DIR") or home / "log").expanduser()
            stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
            self._log_dir = base / f"{stamp}-{socket.gethostname()}-{os.getpid()}"
        return str(self._log_dir)

    @log_dir.setter
    def log_dir(self, log_dir: str | Path) -> None:
        if self._files:
            raise RuntimeError("the launch log directory cannot change after logging has begun")
        self._log_dir = Path(log_dir)

    def set_screen_format(self, screen_format: str, *, screen_style: str | None = None) -> None:
        """Set the format of the screen: a format text, 'default' or 'default_with_timestamp'."""
        override = os.environ.get("OVERRIDE_LAUNCH_SCREEN_FORMAT")
        if override:
            screen_format, screen_style = override.encode("latin1").decode("unicode_escape"), "{"
        named = {"default": _SCREEN_FORMAT, "default_with_timestamp": _FILE_FORMAT}
        self._screen.setFormatter(
            logging.Formatter(named.get(screen_format, screen_format), style=screen_style or "{")  # type: ignore[arg-type]
        )

    def get_screen_handler(self) -> logging.Handler:
        """Return the one handler that writes to the screen."""
        return self._screen

    def get_log_file_path(self, file_name: str = "launch.log") -> str:
        """Return the path of one of the log files."""
        return str(Path(self.log_dir) / file_name)

    def get_log_file_handler(self, file_name: str = "launch.log") -> logging.Handler:
        """Return the one handler that writes to this log file."""
        if file_name not in self._files:
            plain = "{created:.7f} {msg}" if file_name == "launch.log" else "{msg}"
            handler = _FileHandler(Path(self.get_log_file_path(file_name)), plain)
            handler.setFormatter(self._file_formatter)
            self._files[file_name] = handler
        return self._files[file_name]

    def logger(self, name: str, handlers: Iterable[logging.Handler]) -> logging.Logger:
        """Return the logger of this name, with these handlers added."""
        logger = self._registry.getLogger(name)
        logger.propagate = False
        for handler in handlers:
            if handler not in logger.handlers:
                logger.addHandler(handler)
        return logger

    def close(self) -> None:
        """Close the log files."""
        for handler in self._files.values():
            handler.close()


launch_config = LaunchConfig()


def reset() -> None:
    """Forget the log directory, the files and the loggers."""
    global launch_config
    launch_config.close()
    launch_config = LaunchConfig()


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the named logger; it writes to the screen and to launch.log."""
    handlers = [launch_config.get_screen_handler(), launch_config.get_log_file_handler()]
    return launch_config.logger(name or "root", handlers)


def log_launch_config(*, logger: logging.Logger) -> None:
    """Say where the log files are and how much is logged."""
    logger.info(f"All log files can be found below {launch_config.log_dir}")
    logger.info(f"Default logging verbosity is set to {logging.getLevelName(launch_config.level)}")


def _normalize(config: OutputConfig) -> dict[str, set[str]]:
    """Return, for both/stdout/stderr, the set of destinations."""
    if isinstance(config, str):
        if config not in _OUTPUT_ALIASES:
            raise ValueError(f"'{config}' is not a valid output; valid are {', '.join(sorted(_OUTPUT_ALIASES))}")
        chosen: Mapping[str, str | Iterable[str]] = _OUTPUT_ALIASES[config]
    else:
        chosen = config
    result: dict[str, set[str]] = {source: set() for source in _OUTPUT_SOURCES}
    for source, value in chosen.items():
        if source not in _OUTPUT_SOURCES:
            raise ValueError(f"'{source}' is not a valid output source; valid are {', '.join(_OUTPUT_SOURCES)}")
        destinations = {value} if isinstance(value, str) else set(value)
        for destination in destinations - set(_OUTPUT_DESTINATIONS):
            raise ValueError(
                f"'{destination}' is not a valid output destination; valid are {', '.join(_OUTPUT_DESTINATIONS)}"
            )
        result[source] = destinations
    return result


def get_output_loggers(process_name: str, output_config: OutputConfig) -> tuple[logging.Logger, logging.Logger]:
    """Return the loggers of a process's stdout and stderr.

    ``output_config`` is 'screen', 'log' (stderr also to the screen), 'both', 'own_log', 'full', or a
    dictionary from 'stdout', 'stderr', 'both' to 'screen', 'log', 'own_log' or a set of them.
    """
    config = _normalize(output_config)
    loggers = []
    for source in ("stdout", "stderr"):
        wanted = config["both"] | config[source]
        handlers: list[logging.Handler] = []
        if "screen" in wanted:
            handlers.append(launch_config.get_screen_handler())
        if "log" in wanted:
            handlers.append(launch_config.get_log_file_handler())
        if "own_log" in config[source]:
            handlers.append(launch_config.get_log_file_handler(f"{process_name}-{source}.log"))
        if "own_log" in config["both"]:
            handlers.append(launch_config.get_log_file_handler(f"{process_name}.log"))
        loggers.append(launch_config.logger(f"{process_name}-{source}", handlers))
    return loggers[0], loggers[1]
