"""The thread that commands: it calls at a steady rate, and shares nothing with callbacks but Python's lock.

A timer of an executor is late by as much as the executor's own wait, its way to another thread and the callback in
front of it. And whoever holds Python's lock gives it up only after the switch interval, of 5 ms by default.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

from robovlm_ros.errors import UserError

SWITCH_S = 0.0005
"""How long a thread may keep Python's lock while the command loop waits for it [s]."""
JOIN_S = 5.0
"""How long the call that runs may take to end [s]."""


class CommandLoop:
    """Calls at a fixed rate of the steady clock until it is ended; a call that comes too late is left out."""

    def __init__(self, rate_hz: float, call: Callable[[], None], failed: Callable[[str, str], None]) -> None:
        """``failed`` takes one line and the whole story; then the thread has ended."""
        self._period_s, self._call, self._failed = 1.0 / rate_hz, call, failed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    def begin(self) -> None:
        """Call from now on."""
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()

    def hurry(self, priority: int) -> None:
        """Take a real-time priority (SCHED_FIFO, 1 to 99), once begun; UserError where the user may have none."""
        # a thread or process that this one starts has no part in it
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        try:
            os.sched_setscheduler(self._thread.native_id or 0, policy, os.sched_param(priority))
        except PermissionError as error:
            raise UserError(
                f"no right to real-time priority {priority} ('rtprio' in /etc/security/limits.conf gives it): "
                "commands are less steady while other programs are busy"
            ) from error

    def end(self) -> None:
        """Call no more; waits for the call that runs."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            due_s = time.monotonic()
            while not self._ended.wait(max(due_s - time.monotonic(), 0.0)):
                self._call()
                due_s = max(due_s + self._period_s, time.monotonic())
        except Exception as error:
            self._failed(f"the command loop failed: {error}", traceback.format_exc())
