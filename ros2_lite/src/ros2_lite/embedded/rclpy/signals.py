"""SIGINT and SIGTERM: shut the contexts down, wake every executor, and let Python do the rest.

The main thread waits inside the DDS library, where no Python signal handler can run.  So the number of each signal is
also written to a socket by the interpreter (`signal.set_wakeup_fd`); a thread reads it there, shuts the contexts down
and thereby wakes the executors.  SIGINT then raises KeyboardInterrupt in the main thread, as in any Python program.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from enum import IntEnum
from typing import Any

from rclpy.context import contexts


class SignalHandlerOptions(IntEnum):
    """Which signals rclpy handles."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


_installed: _Handlers | None = None
_lock = threading.Lock()


class _Handlers:
    def __init__(self, options: SignalHandlerOptions) -> None:
        self.options = options
        self._receive, self._send = socket.socketpair()
        self._send.setblocking(False)
        self._previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if options & SignalHandlerOptions[number.name]:
                self._previous[number] = signal.signal(number, self._handle)
        self._wakeup = signal.set_wakeup_fd(self._send.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="rclpy-signals", daemon=True)
        self._thread.start()

    def _handle(self, number: int, frame: Any) -> None:
        _shutdown_contexts()
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)

    def _watch(self) -> None:
        while True:
            data = self._receive.recv(16)
            if not data or data[-1] == 0:
                return
            if self._wakeup >= 0:
                try:
                    os.write(self._wakeup, data)  # whoever listened before us still wants to hear of it
                except OSError:
                    self._wakeup = -1
            if any(number in self._previous for number in data):
                _shutdown_contexts()

    def remove(self) -> None:
        current = signal.set_wakeup_fd(self._wakeup)
        if current not in (-1, self._send.fileno()):
            signal.set_wakeup_fd(current)  # somebody took it over meanwhile: it stays theirs
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        self._send.send(b"\0")
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        self._send.close()
        self._receive.close()


def _shutdown_contexts() -> None:
    for context in list(contexts):
        context.try_shutdown()


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """Handle the signals; only the main thread can, elsewhere it does nothing."""
    global _installed
    with _lock:
        if options == SignalHandlerOptions.NO or threading.current_thread() is not threading.main_thread():
            return
        if _installed is not None:
            if _installed.options == options:
                return
            _installed.remove()
        _installed = _Handlers(options)


def get_current_signal_handlers_options() -> SignalHandlerOptions:
    """Which signals are handled now."""
    return SignalHandlerOptions.NO if _installed is None else _installed.options


def uninstall_signal_handlers() -> None:
    """Give the signals back to who had them before."""
    global _installed
    with _lock:
        if _installed is not None and threading.current_thread() is threading.main_thread():
            _installed.remove()
            _installed = None
