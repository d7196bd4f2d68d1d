"""One child process with its process group: output by lines, signals to all of it, escalation."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Sequence
from typing import Any

from . import logging as launch_logging

_POLL = 0.05  # [s] between looks at a group whose leader has ended
_DRAIN = 1.0  # [s] for output that is still in the pipes after the process has ended
_MAX_LINE = 1 << 20  # [characters] after which a line without an end is shown all the same


class _Lines:
    """Splits one stream into lines; a multi-byte character or a line may arrive in pieces."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, final: bool = False) -> None:
        text = self._rest + self._decoder.decode(data, final)
        *lines, self._rest = text.split("\n")
        if final or len(self._rest) > _MAX_LINE:
            lines, self._rest = [*lines, *([self._rest] if self._rest else [])], ""
        for line in lines:
            self._on_line(line.rstrip("\r"))


class _Protocol(asyncio.SubprocessProtocol):
    """Passes on the output; says when the process has ended, and when its pipes are closed."""

    def __init__(
        self,
        on_started: Callable[[int], None],
        on_output: Callable[[str, bytes, bool], None],
        streams: Sequence[int],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._on_started = on_started
        self._on_output = on_output
        self._open = set(streams)
        self.exited: asyncio.Future[None] = loop.create_future()
        self.drained = asyncio.Event()
        if not self._open:
            self.drained.set()

    @staticmethod
    def _stream(fd: int) -> str:
        return "stderr" if fd == 2 else "stdout"

    def connection_made(self, transport: Any) -> None:
        self._on_started(transport.get_pid())

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._on_output(self._stream(fd), data, False)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd in self._open:
            self._open.discard(fd)
            self._on_output(self._stream(fd), b"", True)
            if not self._open:
                self.drained.set()

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


def _has_running_member(group: int) -> bool:
    """Whether a process group has a member that is not a zombie; True where /proc does not tell."""
    if not os.path.isdir("/proc/self"):
        return True
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has ended in the meantime
                with open(f"/proc/{entry}/stat", "rb") as file:
                    # pid (name) state ppid pgrp ...; the name may hold anything, brackets too
                    state, _, pgrp = file.read().rpartition(b")")[2].split()[:3]
                if int(pgrp) == group and state not in (b"Z", b"X"):
                    return True
    return False


class ProcessGroup:
    """A process that leads its own session, so that one signal reaches all that it starts.

    :param on_started: called with the process id before any output.
    :param on_line: called with 'stdout' or 'stderr' and each line of output.
    :param on_data: called with the bytes as they come.
    :param sigterm_timeout: [s] from SIGINT to SIGTERM.
    :param sigkill_timeout: [s] from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        *,
        name: str,
        emulate_tty: bool,
        shell: bool,
        on_started: Callable[[int], None],
        on_line: Callable[[str, str], None],
        on_data: Callable[[str, bytes], None],
        sigterm_timeout: float,
        sigkill_timeout: float,
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self._emulate_tty = emulate_tty
        self._shell = shell
        self._on_started = on_started
        self._on_line = on_line
        self._on_data = on_data
        self._timeouts = (sigterm_timeout, sigkill_timeout)
        self._transport: Any = None
        self._protocol: _Protocol | None = None
        self._lines: dict[str, _Lines] = {}
        self._tty: int | None = None
        self._tty_ended: asyncio.Event | None = None
        self._logger = launch_logging.get_logger(name)

    # -- start and end ------------------------------------------------------------------------

    async def start(self, cmd: list[str], cwd: str | None, env: dict[str, str] | None) -> None:
        """Start the process; OSError where it cannot be."""
        loop = asyncio.get_running_loop()
        self._lines = {
            stream: _Lines(lambda line, stream=stream: self._on_line(stream, line))  # type: ignore[misc]
            for stream in ("stdout", "stderr")
        }
        options: dict[str, Any] = {"cwd": cwd, "env": env, "start_new_session": True}
        slave: int | None = None
        if self._emulate_tty:
            self._tty, slave = os.openpty()
            options.update(stdout=slave, stderr=slave)

        def factory() -> _Protocol:
            return _Protocol(self._started, self._output, () if self._emulate_tty else (1, 2))

        try:
            # stdin is a pipe that stays open: a program that reads it waits, and does not see its end.
            if self._shell:
                line = cmd[0] if len(cmd) == 1 else " ".join([cmd[0], *map(shlex.quote, cmd[1:])])
                started = loop.subprocess_shell(factory, line, **options)
            else:
                started = loop.subprocess_exec(factory, *cmd, **options)
            self._transport, self._protocol = await started
        except BaseException:
            if self._tty is not None:
                os.close(self._tty)
                self._tty = None
            raise
        finally:
            if slave is not None:
                os.close(slave)
        if self._tty is not None:
            self._tty_ended = asyncio.Event()
            loop.add_reader(self._tty, self._read_tty)

    def _started(self, pid: int) -> None:
        self.pid = pid
        self._on_started(pid)

    def _output(self, stream: str, data: bytes, final: bool) -> None:
        self._lines[stream].feed(data, final)
        if data:
            self._on_data(stream, data)

    def _read_tty(self) -> None:
        assert self._tty is not None
        assert self._tty_ended is not None
        data = b""
        with contextlib.suppress(OSError):  # EIO: the last process has closed its end
            data = os.read(self._tty, 65536)
        if data:
            self._output("stdout", data, False)
        else:
            asyncio.get_running_loop().remove_reader(self._tty)
            self._tty_ended.set()

    async def wait(self, stopping: asyncio.Event) -> int:
        """Wait for the end of the process and for its last output; return its exit code.

        Once `stopping` is set nothing of the group outlives the process.
        """
        assert self._protocol is not None
        await asyncio.wait([self._protocol.exited])
        if stopping.is_set():
            await self.end_leftovers()
        code = self._transport.get_returncode()
        ended = self._tty_ended if self._tty_ended is not None else self._protocol.drained
        # Something that it left running may hold the pipes open for ever.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), _DRAIN)
        for lines in self._lines.values():
            lines.feed(b"", True)
        if self._tty is not None:
            asyncio.get_running_loop().remove_reader(self._tty)
            os.close(self._tty)
            self._tty = None
        self._transport.close()
        return int(code)

    # -- signals ------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether anything of the group still runs."""
        if self.pid is None:
            return False
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        # Processes that have ended count for killpg until somebody reaps them; in a container perhaps nobody does.
        return _has_running_member(self.pid)

    def _leader_ended(self) -> bool:
        return self._protocol is None or self._protocol.exited.done()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self._leader_ended() and not self.is_alive():
            return
        assert self.pid is not None
        self._logger.info(f"sending signal '{number.name}' to process[{self.name}]")
        self._kill(number)

    def _kill(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _ended_within(self, seconds: float) -> bool:
        """Wait for the leader's end, without cancelling who else waits for it."""
        assert self._protocol is not None
        await asyncio.wait([self._protocol.exited], timeout=seconds)
        return self._protocol.exited.done()

    async def shut_down(self) -> None:
        """SIGINT; SIGTERM if that does not end the process in time; then SIGKILL."""
        if self._leader_ended():
            return
        self.send_signal(signal.SIGINT)
        steps = (("SIGINT", "SIGTERM", self._timeouts[0]), ("SIGTERM", "SIGKILL", self._timeouts[1]))
        for sent, following, timeout in steps:
            if await self._ended_within(timeout):
                return
            self._logger.error(
                f"process[{self.name}] failed to terminate '{timeout:g}' seconds after receiving "
                f"'{sent}', escalating to '{following}'"
            )
            self.send_signal(signal.Signals[following])

    async def end_leftovers(self) -> None:
        """End what the process has left running in its group: SIGTERM, then SIGKILL."""
        if not self.is_alive():
            return
        for number, timeout in ((signal.SIGTERM, self._timeouts[0]), (signal.SIGKILL, self._timeouts[1])):
            self._kill(number)
            deadline = asyncio.get_running_loop().time() + timeout
            while self.is_alive():
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(_POLL)
            else:
                return
