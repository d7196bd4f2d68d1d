"""A client of the recorder node: its services, called from a command."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from robovlm_ros.errors import UserError

READY_S, ANSWER_S = 30.0, 60.0
"""How long the recorder may take to appear, and to answer: it completes what waits for a slow disk [s]."""


class RecorderClient:
    """Calls ``start``, ``stop`` and ``discard`` of a recorder; use it in a ``with`` block."""

    def __init__(self, recorder: str = "recorder_node", check: Callable[[], None] = lambda: None) -> None:
        """``check`` may raise UserError while an answer is waited for, as when the recorder has ended."""
        self._check = check
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("recorder_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients = {
            name: self.node.create_client(Trigger, f"/{recorder}/{name}") for name in ("start", "stop", "discard")
        }

    def __enter__(self) -> RecorderClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def is_there(self, seconds: float) -> bool:
        """Whether the recorder is found within a time [s]."""
        try:
            self.wait(lambda: all(client.service_is_ready() for client in self._clients.values()), seconds, "")
        except TimeoutError:
            return False
        return True

    def wait_for_recorder(self) -> None:
        """UserError if the recorder does not appear."""
        if not self.is_there(READY_S):
            raise UserError(f"the recorder did not appear within {READY_S:.0f} s")

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Spin until ``done()``; TimeoutError naming ``what``."""
        end_s = time.monotonic() + seconds
        while not done():
            self._check()
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what} did not come within {seconds:.1f} s")
            self._executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        """Handle what comes for a while [s]."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def call(self, name: str, seconds: float = ANSWER_S) -> Path:
        """The path of the episode that was started, stopped or discarded; UserError with the recorder's reason,
        TimeoutError without an answer.
        """
        future: Any = self._clients[name].call_async(Trigger.Request())
        self.wait(future.done, seconds, f"the answer of ~/{name}")
        response = future.result()
        if not response.success:
            raise UserError(f"~/{name}: {response.message}")
        return Path(response.message)
