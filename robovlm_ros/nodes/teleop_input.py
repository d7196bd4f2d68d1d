"""What a person commands with: keys, a gamepad, or the scripted expert in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from numpy import float64
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Joy

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.gamepad import Gamepad
from robovlm_ros.keyboard import Keyboard
from robovlm_ros.nodes.teleop_expert import Expert
from robovlm_ros.nodes.teleop_settings import Settings
from robovlm_ros.nodes.terminal import Terminal
from robovlm_ros.teleoperation import Teleoperator

REPEAT_S = 5.0
"""What lasts is said again after this time [s]."""


class Input:
    """Takes what comes from the person, and says what the robot is to do now."""

    def __init__(
        self, node: Node, contract: Contract, settings: Settings, lock: threading.RLock, order: Callable[[str], None]
    ) -> None:
        """`order` gets what a person asks for besides motion, without `lock`; keys come once `begin` was called."""
        self._node = node
        self._settings = settings
        self._lock = lock
        self._order = order
        self._source: Keyboard | Gamepad | Expert
        self._terminal: Terminal | None = None
        if settings.input == "keyboard":
            self._source = Keyboard(contract, keys=settings.keys, release_ns=round(settings.key_release_s * 1e9))
        elif settings.input == "expert":
            self._source = Expert(node, contract)
        else:
            self._source = Gamepad(
                contract,
                axes=settings.joy_axes,
                toggles=settings.joy_toggles,
                dead_man=settings.joy_dead_man,
                orders={
                    "take_over": settings.joy_take_over,
                    "hand_back": settings.joy_hand_back,
                    "faster": settings.joy_faster,
                    "slower": settings.joy_slower,
                },
                timeout_ns=round(settings.joy_timeout_s * 1e9),
            )
            node.create_subscription(Joy, settings.joy_topic, self._on_joy, 10)

    def begin(self) -> None:
        """Say what there is to press, and read the keys."""
        self.explain()
        if isinstance(self._source, Keyboard):
            self._terminal = Terminal(self._settings.terminal, self._on_keys)
            self._terminal.start()

    def explain(self) -> None:
        """Print what there is to press."""
        if not isinstance(self._source, Expert):
            width = max(len(control) for control, _ in self._source.table)
            print("\n".join(f"  {control:{width}}  {what}" for control, what in self._source.table), flush=True)

    @property
    def sentence(self) -> str:
        """What the expert does, or waits for; empty for a person."""
        if not isinstance(self._source, Expert):
            return ""
        return self._source.reason or "the expert commands the robot"

    def command(self, operator: Teleoperator, in_control: bool, now_ns: int) -> NDArray[float64] | None:
        """(action_dim,) what to send now; None: nothing. The caller holds the lock; `now_ns`: the robot's time."""
        if isinstance(self._source, Expert):
            wanted = self._source.act() if in_control else None
            return operator.stop() if wanted is None else operator.follow(wanted, now_ns)
        wish = self._source.wish(time.monotonic_ns())  # also without control: what was pressed then is forgotten
        return operator.command(wish, now_ns) if in_control else operator.stop()

    def close(self) -> None:
        """Give the terminal back."""
        if self._terminal is not None:
            self._terminal.close()

    def _on_keys(self, data: bytes) -> None:
        """Called from the terminal's thread."""
        assert isinstance(self._source, Keyboard)
        if not data:
            self._order("gone")
            return
        with self._lock:
            orders = self._source.feed(data, time.monotonic_ns())
        for order in orders:
            if order != "supported":
                self._order(order)
            elif self._terminal is not None:
                self._terminal.report_releases()

    def _on_joy(self, message: Any) -> None:
        assert isinstance(self._source, Gamepad)
        try:
            with self._lock:
                orders = self._source.feed(message.axes, message.buttons, time.monotonic_ns())
        except UserError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=REPEAT_S)
            return
        for order in orders:
            self._order(order)
