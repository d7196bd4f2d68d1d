"""Starting and ending the nodes that a command works with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from robovlm_ros.errors import UserError

END_SECONDS = 10.0
"""How long a node may take to end after SIGINT before it is killed [s]."""


class Nodes:
    """Node processes of this package that live as long as the ``with`` block."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {}), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._running: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []

    def start(self, name: str, parameters: Mapping[str, object]) -> None:
        """Start the node ``robovlm_ros.nodes.NAME`` with parameters; its log is kept until the end."""
        arguments = [f"{key}:={_yaml(value)}" for key, value in parameters.items()]
        command = [sys.executable, "-m", f"robovlm_ros.nodes.{name}", "--ros-args"]
        for argument in arguments:
            command += ["-p", argument]
        self._run(name, command)

    def launch(self, file: str, arguments: Mapping[str, object]) -> None:
        """``ros2 launch`` a launch file of this package with arguments; UserError where there is no ``ros2``."""
        ros2 = shutil.which("ros2")
        if ros2 is None:
            raise UserError(f"the program 'ros2', which launches {file}, is not on the PATH: source ROS 2, or activate")
        values = [f"{key}:={value}" for key, value in arguments.items()]
        self._run(file, [ros2, "launch", "robovlm_ros", file, *values])

    def _run(self, name: str, command: Sequence[str]) -> None:
        log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        process = subprocess.Popen(
            command, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._running.append((name, process, log))

    def check(self) -> None:
        """UserError with its last log line when a node has ended."""
        for name, process, log in self._running:
            if process.poll() is not None:
                last = [line.removeprefix("error: ") for line in _lines(log)[-1:]] or ["no output"]
                raise UserError(f"{name} ended with status {process.returncode}: {last[0]}")

    def kill(self, name: str) -> None:
        """End a node as a crash would: it cannot say a last word."""
        for other, process, _ in self._running:
            if other == name:
                process.kill()
                process.wait()

    def log(self, name: str) -> Sequence[str]:
        """The log lines of a node so far."""
        return [line for other, _, log in self._running if other == name for line in _lines(log)]

    def __enter__(self) -> Nodes:
        return self

    def end(self) -> None:
        """End all nodes; their logs stay readable until the ``with`` block ends."""
        try:
            for _, process, _ in self._running:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            for _, process, _ in self._running:
                _wait(process)
        finally:  # a second Ctrl-C: at once
            for _, process, _ in self._running:
                process.kill()
                with contextlib.suppress(ProcessLookupError):  # and what a launch has left behind
                    os.killpg(process.pid, signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        for _, _, log in self._running:
            log.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process; kill it when that takes too long."""
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lines(log: IO[bytes]) -> list[str]:
    # A descriptor of our own would share the child's offset: read by position.
    size = os.fstat(log.fileno()).st_size
    text = os.pread(log.fileno(), size, 0).decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip()]


def _yaml(value: object) -> str:
    """A parameter value in the YAML that ``--ros-args -p`` reads."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        return "'" + str(value).replace("'", "''") + "'"
    return str(value)
