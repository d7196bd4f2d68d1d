"""The keys of a terminal, as they come; whatever happens, the terminal is afterwards what it was before."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable
from contextlib import suppress

from robovlm_ros.errors import UserError
from robovlm_ros.keyboard import ASK, DISABLE, ENABLE

NO_TERMINAL = (
    "the keyboard needs a terminal, and this node was started in none: use `ros2 run robovlm_ros teleop_node` in a "
    "terminal of its own (`ros2 launch robovlm_ros teleop.launch.py` passes its own terminal on, if it has one), "
    "or input:=joy"
)
_GUARD = """
trap '' INT TERM HUP QUIT TSTP TTOU
read -r word
[ "$word" = restored ] && exit
exec <>"$1" >&0
stty "$2"
printf "$3"
"""  # a killed process can restore nothing: this shell reads the end of the pipe that only it held


class Terminal:
    """Reads keys in a thread of its own, without echo, as soon as they are pressed."""

    def __init__(self, device: str, receive: Callable[[bytes], None]) -> None:
        """`device`: path of a terminal; empty: the one that this process was started in. `receive` gets the bytes from
        the reading thread, and none when the terminal has gone. UserError if there is no terminal. Must be closed.
        """
        self._receive = receive
        self._file = _open(device)
        self._saved = termios.tcgetattr(self._file)
        self._reporting = False
        self._wake, self._waker = os.pipe()
        self._guard = self._start_guard()
        tty.setcbreak(self._file)
        keys = termios.tcgetattr(self._file)
        keys[6][termios.VSUSP] = os.fpathconf(self._file, "PC_VDISABLE")  # Ctrl-Z would leave a terminal without echo
        termios.tcsetattr(self._file, termios.TCSANOW, keys)
        self._write(ASK)
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def start(self) -> None:
        """Read from now on."""
        self._thread.start()

    def report_releases(self) -> None:
        """Have the terminal report presses and releases: it has said that it can."""
        self._reporting = True
        self._write(ENABLE)

    def close(self) -> None:
        """Give the terminal back."""
        os.write(self._waker, b"x")
        self._thread.join(2.0)
        if self._reporting:
            self._write(DISABLE)
        with suppress(termios.error):  # it has gone
            termios.tcsetattr(self._file, termios.TCSAFLUSH, self._saved)
        with suppress(OSError, subprocess.TimeoutExpired):
            self._guard.communicate(b"restored\n", timeout=2.0)
        for file in (self._file, self._wake, self._waker):
            os.close(file)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        path, leave = os.ttyname(self._file), DISABLE.decode().replace("\x1b", "\\033")
        state = subprocess.run(["stty", "-g"], stdin=self._file, capture_output=True, text=True, check=True).stdout
        command = ["/bin/sh", "-c", _GUARD, "guard", path, state.strip(), leave]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends this process and its group leaves the guard alone
        )

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # it has gone
            os.write(self._file, data)

    def _read(self) -> None:
        data = b"begin"
        while data:
            if self._wake in select.select([self._file, self._wake], [], [])[0]:
                return
            try:
                data = os.read(self._file, 1024)
            except OSError:
                data = b""
            self._receive(data)


def _open(device: str) -> int:
    """The terminal, to be read and written."""
    if not device:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UserError(NO_TERMINAL)
        device = os.ttyname(sys.stdin.fileno())
    try:
        file = os.open(device, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise UserError(f"terminal {device} cannot be opened: {error.strerror}") from error
    if not os.isatty(file):
        os.close(file)
        raise UserError(f"{device} is no terminal")
    return file
