"""An episode's commands back to the robot, through the safety filter.

A timer sends what was in force at the same moment of the episode. While the filter holds, or nobody says how the robot
stands, the episode waits; at its end, so does the node's life end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.bags import Commands, read_episode
from robovlm_ros.bags.replay import Replay
from robovlm_ros.contract import Contract, StateSource
from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.nodes.commands import CommandTopics
from robovlm_ros.nodes.description import within_description
from robovlm_ros.nodes.diagnostics import diagnostics
from robovlm_ros.nodes.emergency import guard_topics
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.overrides import overridable
from robovlm_ros.nodes.parameters import declare, fixed, limited
from robovlm_ros.nodes.services import answering
from robovlm_ros.teleoperation import Teleoperator

REPEAT_S = 5.0
"""What lasts is said again after this time [s]."""
GRAPH_S = 1.0
"""How long to look for others who command this robot [s]."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the replay node."""

    episode: str = fixed("")
    """Folder of the episode whose commands are sent."""
    contract: str = fixed("")
    """Contract of the robot, a YAML file or a shipped name; empty: the episode's."""
    speed: float = limited(1.0, 0.05, 4.0, fixed=True)
    """Pace; 1: as it was recorded."""
    begin: bool = fixed(True)
    """Begin at once; else ~/start does."""
    dry_run: bool = fixed(False)
    """Send commands to ~/dry_run/NAME instead of their topics, for a look at what would be sent."""
    emergency_stop_topic: str = fixed("/emergency_stop")
    """Topic (std_msgs/Bool) on which true, latched or not, stops the robot until ~/reset; empty: the service only."""


class ReplayNode(Node):  # type: ignore[misc, unused-ignore]
    """`_lock` guards everything that is sent."""

    def __init__(self) -> None:
        super().__init__("replay_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        if not settings.episode:
            raise UserError("name the folder of an episode: parameter 'episode'")
        episode = read_episode(settings.episode)
        contract = Contract.load(settings.contract) if settings.contract else episode.contract
        if contract.action_dims != episode.contract.action_dims:
            raise UserError(
                f"episode {episode.path} has the actions {', '.join(episode.contract.action_names)} of "
                f"'{episode.contract.name}' with their units and limits, which are not those of '{contract.name}' "
                f"({', '.join(contract.action_names)})"
            )
        messages.check_contract(contract)
        messages.check_installed(contract)
        self._contract = contract = within_description(self, contract)
        self._replay = Replay(Commands.of(episode), speed=settings.speed)
        self._period_ns = round(1e9 / contract.command_rate_hz)
        self._operator = Teleoperator(contract, period_ns=self._period_ns)
        self._guard = Guard(after="~/reset, then ~/start goes on")
        self._lock = threading.RLock()
        self._running = settings.begin
        self._said, self._said_s = "", 0.0
        self._commands = CommandTopics(self, contract, dry_run=settings.dry_run)
        if not settings.dry_run:
            self._look_for_others()
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        for source in contract.state:
            if source.name in self._operator.sources:
                self._hear(source, newest)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        guard_topics(self, self._obey, stop_topic=settings.emergency_stop_topic, dead_man_topic="")
        self.create_service(Trigger, "~/start", answering(lambda _request: self._switch(True)))
        self.create_service(Trigger, "~/stop", answering(lambda _request: self._switch(False)))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.5, self._watch, MutuallyExclusiveCallbackGroup(), clock=steady)
        self.create_timer(self._period_ns / 1e9, self._send_due, MutuallyExclusiveCallbackGroup())
        self.get_logger().info(f"replays {episode.path} ('{episode.instruction}') at {settings.speed:g} of its pace")

    def _look_for_others(self) -> None:
        """UserError when somebody else commands this robot."""
        end_s = time.monotonic() + GRAPH_S
        while time.monotonic() < end_s:
            for command in self._contract.commands:
                infos = self.get_publishers_info_by_topic(command.topic)
                others = sorted({info.node_name for info in infos} - {self.get_name()})
                if others:
                    raise UserError(f"{', '.join(others)} also commands this robot ({command.topic}): end it first")
            time.sleep(0.05)

    def _hear(self, source: StateSource, qos: QoSProfile) -> None:
        def receive(message: Any) -> None:
            try:
                with self._lock:
                    stamp_ns = messages.stamp_ns(message) or self._now()
                    self._operator.measure(source.name, messages.state_values(message, source), stamp_ns)
            except UserError as error:
                self.get_logger().error(str(error), throttle_duration_sec=REPEAT_S)

        self.create_subscription(messages.message_class(source.type), source.topic, receive, qos, **overridable())

    def _switch(self, running: bool) -> str:
        with self._lock:
            if running and self._guard.stopped:
                raise UserError(self._guard.refusal(time.monotonic_ns()) or "emergency stop")
            self._running = running
            if not running:
                self._stop()
        return "running" if running else "stopped: the robot holds, and the episode waits"

    def _obey(self, change: Callable[[Guard], None]) -> None:
        with self._lock:
            change(self._guard)
            if self._guard.stopped:
                self._running = False  # a reset alone starts nothing
                self._stop()

    def _send_due(self) -> None:
        with self._lock:
            if not self._running or self.failure is not None:
                return
            if self._replay.over:
                self._stop()
                self._running = False
                self.get_logger().info(f"the episode is over: {self._figures()}")
                self.context.try_shutdown()
                return
            values = self._operator.follow(self._replay.wanted(), self._now())
            if values is None:  # it holds: the episode waits
                self._stop(reasons=self._operator.reasons)
                return
            self._commands.publish(values, self._now())
            self._replay.advance(self._period_ns)

    def _stop(self, reasons: tuple[str, ...] = ()) -> None:
        """End all motion; `reasons` are why, where the filter ended it."""
        resting = self._operator.stop()
        if resting is not None:
            self._commands.publish(resting, self._now())
        self._operator.reasons = reasons

    def _figures(self) -> str:
        done = [f"{cause} {count}" for cause, count in self._operator.interventions.items() if count]
        return f"{self._replay.share:.0%} of the episode, interventions {', '.join(done) or 'none'}"

    def _watch(self) -> None:
        with self._lock:
            reasons = self._operator.reasons
            held = self._running and not self._operator.moving
            stopped = self._guard.refusal(time.monotonic_ns())
            figures = self._figures()
        sentence = "replaying" if self._running else "stopped; ~/start goes on"
        if held and reasons:
            sentence = f"holding: {'; '.join(reasons)}"
        sentence = stopped or sentence
        now_s, log = time.monotonic(), self.get_logger()
        if sentence != self._said or now_s - self._said_s > REPEAT_S:
            self._said, self._said_s = sentence, now_s
            if held or stopped:  # a line of a log has one severity
                log.warning(sentence)
            else:
                log.info(f"{sentence}; {figures}")
        self._diagnostics.publish(
            diagnostics(
                f"{self.get_name()}: replay",
                self._contract.name,
                well=not held and stopped is None,
                sentence=sentence,
                values={"progress": figures},
                stamp_ns=self._now(),
            )
        )

    def close(self) -> None:
        """End all motion."""
        if self.context.ok():
            with self._lock:
                self._stop()

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros replay_node``."""
    return spin(ReplayNode, threads=4, last_words=True)


if __name__ == "__main__":
    sys.exit(main())
