"""Teleoperation as a ROS 2 node: keys, a gamepad or the scripted expert in; commands at the contract's rate out.

A thread reads keys, callbacks take messages, and a timer sends what is wished, through the safety filter, as long as
the dead-man's key is held and no policy commands the robot.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.contract import Command, Contract, StateSource
from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.handover import PATIENCE_NS, Handover
from robovlm_ros.keyboard import EPISODES
from robovlm_ros.nodes.commands import CommandTopics
from robovlm_ros.nodes.description import within_description
from robovlm_ros.nodes.diagnostics import diagnostics, wrong_publishers
from robovlm_ros.nodes.emergency import guard_topics
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.intervention import LATCHED, InterventionTopics
from robovlm_ros.nodes.parameters import declare, follow
from robovlm_ros.nodes.teleop_input import Input
from robovlm_ros.nodes.teleop_recording import EpisodeOrders
from robovlm_ros.nodes.teleop_settings import Settings
from robovlm_ros.teleoperation import SPEED_STEP, Teleoperator

GRAPH_S = 1.0
"""How long to look for a policy at the start [s]."""
REPEAT_S = 5.0
"""What lasts is said again after this time [s]."""
SENTENCES = {
    "joining": "asking the policy who commands the robot",
    "policy": "the policy commands the robot; ~/take_over (Enter) takes over",
    "asking": "waiting for the policy to yield",
    "person": "you command the robot; ~/hand_back (Backspace) hands it to a policy",
    "returning": "waiting for the policy to go on",
}


class TeleopNode(Node):  # type: ignore[misc, unused-ignore]
    """`_lock` guards everything that a wish goes through."""

    def __init__(self) -> None:
        super().__init__("teleop_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        contract = Contract.load(settings.contract)
        messages.check_contract(contract)
        self._contract = contract = within_description(self, contract)
        self._lock = threading.RLock()
        self._operator = Teleoperator(contract, period_ns=round(1e9 / contract.command_rate_hz), speed=settings.speed)
        self._input = Input(self, contract, settings, self._lock, self._order)
        self._guard = Guard(after="~/reset goes on")
        self._said, self._said_s = "", 0.0
        self._attempts = self._attempts_said = 0
        self._open_topics()
        self._topics = InterventionTopics(self, contract, self._on_answer)
        self._look_for_others()
        policies, strangers = self._topics.policies(), self._topics.strangers()
        if strangers and settings.begin == "person":
            raise UserError(_in_the_way(strangers))
        self._handover = Handover(
            time.monotonic_ns(),
            wait=bool(policies) and settings.begin != "policy",
            person=settings.begin == "person" or (settings.begin == "auto" and not policies and not strangers),
        )
        follow(self, settings, self._change)
        self._open_timers()
        guard_topics(self, self._obey, stop_topic=settings.emergency_stop_topic, dead_man_topic="")
        self._input.begin()

    def _obey(self, change: Callable[[Guard], None]) -> None:
        """Change the guard, and have the robot obey it at once."""
        with self._lock:
            change(self._guard)
            if self._guard.stopped and self._handover.in_control:
                self._stop()

    def _order(self, order: str) -> None:
        """What a person asks for besides motion."""
        if order == "take_over":
            self._take_over()
        elif order == "hand_back":
            self._hand_back()
        elif order in ("faster", "slower"):
            with self._lock:
                self._operator.speed *= SPEED_STEP if order == "faster" else 1 / SPEED_STEP
            self.get_logger().info(f"speed {self._operator.speed:.0%}")
        elif order in EPISODES:
            self._episodes.fulfil(order)
        elif order == "help":
            self._input.explain()
        elif order == "interrupt":  # where the terminal hands Ctrl-C over as a key
            os.kill(os.getpid(), signal.SIGINT)
        elif order == "gone":
            with self._lock:
                self._stop()
            self.failure = "the terminal has gone"
            self.context.try_shutdown()

    def _change(self, settings: Settings) -> None:
        with self._lock:
            if settings.speed != self._settings.speed:
                self._operator.speed = settings.speed
            self._settings = settings

    # --- topics -----------------------------------------------------------------------------------------------

    def _open_topics(self) -> None:
        contract = self._contract
        # Best effort receives from publishers of either reliability, and the newest sample is all that counts.
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        for source in contract.state:
            if source.name in self._operator.sources:
                self._hear(source, newest)
        for command in contract.commands:
            self._hear(command, QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        self._commands = CommandTopics(self, contract)
        self._episodes = EpisodeOrders(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if self._settings.instruction.strip():
            kind = messages.message_class(contract.instruction_type)
            self._instruction = self.create_publisher(kind, contract.instruction_topic, LATCHED)
            self._instruction.publish(String(data=self._settings.instruction.strip()))

    def _hear(self, part: StateSource | Command, qos: QoSProfile) -> None:
        def receive(message: Any) -> None:
            try:
                with self._lock:
                    if isinstance(part, Command):
                        self._operator.hear(part.name, messages.command_values(message, part))
                    else:
                        stamp_ns = messages.stamp_ns(message) or self._now()
                        self._operator.measure(part.name, messages.state_values(message, part), stamp_ns)
            except UserError as error:
                self.get_logger().error(str(error), throttle_duration_sec=REPEAT_S)

        self.create_subscription(messages.message_class(part.type), part.topic, receive, qos)

    def _open_timers(self) -> None:
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the robot's time does not
        period_s = 1.0 / self._contract.command_rate_hz
        self.create_timer(period_s, self._tick, MutuallyExclusiveCallbackGroup(), clock=steady)
        self.create_timer(0.5, self._watch, MutuallyExclusiveCallbackGroup(), clock=steady)
        for name, act, wanted in (("take_over", self._take_over, "person"), ("hand_back", self._hand_back, "policy")):
            self.create_service(
                Trigger,
                f"~/{name}",
                functools.partial(self._serve, act, wanted),
                callback_group=MutuallyExclusiveCallbackGroup(),
            )

    # --- who commands -----------------------------------------------------------------------------------------

    def _look_for_others(self) -> None:
        """Whoever runs already is seen within GRAPH_S."""
        deadline = time.monotonic() + GRAPH_S
        while time.monotonic() < deadline and not self._topics.policies():
            time.sleep(0.05)

    def _on_answer(self, yielded: bool) -> None:
        with self._lock:
            self._handover.answered(yielded, time.monotonic_ns())
            self._announce()

    def _take_over(self) -> None:
        policies, strangers = self._topics.policies(), self._topics.strangers()
        with self._lock:
            self._attempts += 1
            if strangers:
                self._handover.refuse(_in_the_way(strangers))
            else:
                self._handover.take_over(time.monotonic_ns(), wait=bool(policies))
            self._announce()

    def _hand_back(self) -> None:
        policies = self._topics.policies()
        with self._lock:
            self._stop()
            self._handover.hand_back(time.monotonic_ns(), wait=bool(policies))
            self._announce()

    def _announce(self) -> None:
        """Say what is to be said; the caller holds `_lock`, so that it is said in order."""
        if self._handover.to_say is not None:
            self._topics.say(self._handover.to_say)
            self._handover.to_say = None

    def _serve(self, act: Callable[[], None], wanted: str, _request: Any, response: Any) -> Any:
        act()
        deadline = time.monotonic_ns() + 2 * PATIENCE_NS
        while not self._handover.settled and time.monotonic_ns() < deadline:
            time.sleep(0.005)
        response.success = self._handover.state == wanted
        response.message = SENTENCES[self._handover.state] if response.success else self._handover.refusal
        return response

    # --- commands ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        with self._lock:
            self._handover.tick(time.monotonic_ns())
            self._announce()
            in_control = self._handover.in_control and not self._guard.stopped
            values = self._input.command(self._operator, in_control, self._now())
            if self._handover.in_control:
                self._send(values)

    def _send(self, values: NDArray[np.float64] | None) -> None:
        if values is not None:
            self._commands.publish(values, self._now())

    def _stop(self) -> None:
        self._send(self._operator.stop())

    # --- what a person reads ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        with self._lock:
            handover, reasons = self._handover, self._operator.reasons
            state, refusal, moving = handover.state, handover.refusal, self._operator.moving
        sentence = (self._input.sentence if state == "person" else "") or SENTENCES[state]
        held = state == "person" and bool(reasons) and not moving
        stopped = self._guard.refusal(time.monotonic_ns())
        if stopped is not None:
            held, sentence = True, stopped
        elif held:
            sentence = f"nothing is sent: {'; '.join(reasons)}"
        now_s, log = time.monotonic(), self.get_logger()
        if sentence != self._said or (held and now_s - self._said_s > REPEAT_S):
            self._said, self._said_s = sentence, now_s
            if held:  # a line of a log has one severity
                log.warning(sentence)
            else:
                log.info(sentence)
        if refusal and self._attempts_said < self._attempts:
            self._attempts_said = self._attempts
            log.warning(f"cannot take over: {refusal}")
        if state == "person" and (strangers := self._topics.strangers()):
            log.error(_in_the_way(strangers), throttle_duration_sec=REPEAT_S)
        for name, age in self._operator.ages(self._now()).items():
            source = next(source for source in self._contract.state if source.name == name)
            for text in wrong_publishers(self, source.topic, source.type) if age > source.max_age_s else ():
                self.get_logger().error(text, throttle_duration_sec=REPEAT_S)
        self._diagnostics.publish(
            diagnostics(
                f"{self.get_name()}: teleoperation",
                self._contract.name,
                well=not held,
                sentence=sentence,
                values={"commands by": state, "moving": str(moving).lower(), "speed": f"{self._operator.speed:.0%}"},
                stamp_ns=self._now(),
            )
        )

    def close(self) -> None:
        """End all motion and give the terminal back."""
        if self.context.ok():
            with self._lock:
                self._stop()
        self._input.close()

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _in_the_way(strangers: set[str]) -> str:
    return f"{', '.join(sorted(strangers))} also commands this robot, and does not yield to a person: end it first"


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros teleop_node``."""
    return spin(TeleopNode, threads=4, last_words=True)


if __name__ == "__main__":
    sys.exit(main())
