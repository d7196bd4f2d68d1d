"""The recorder as a ROS 2 node: episodes begin and end by services, messages are written as they came.

Callbacks only copy; a thread of the recording writes. Images, states, commands and instruction of the contract are
recorded, and the extra topics that are named.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool, Trigger

from robovlm_ros import messages
from robovlm_ros.bags import EpisodeWriter, OfferedQos, Recording, mark
from robovlm_ros.contract import CAMERA_TYPES, Camera, Command, Contract, StateSource
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.diagnostics import wrong_publishers
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.instruction import hear_instructions
from robovlm_ros.nodes.parameters import declare, fixed

DEPTH, IMAGE_DEPTH = 2000, 100
"""Messages of a topic that may wait for this node: 4 s of joint states at 500 Hz, 3 s of images at 30 Hz."""
LOOK_S, QUIET_LOOKS, MOST_LOOKS = 0.005, 4, 40
"""A service looks this often [s] whether messages still arrive: when four looks in a row saw none, those that were sent
before the call have been taken; where they never cease, 40 looks are enough. Counted, because on a busy machine time
passes without anybody getting on.
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the recorder node."""

    contract: str = fixed("tabletop")
    """Contract of the robot: a YAML file or a shipped name."""
    directory: str = fixed("episodes")
    """Folder that receives the episodes; it is made if need be."""
    operator: str = fixed("")
    """Who demonstrates; kept with each episode."""
    extra_topics: tuple[str, ...] = fixed(("",))
    """Further topics to record, of any type, as soon as somebody publishes them."""
    compress: bool = fixed(True)
    """Compress with zstd; without, recording costs less processor time and more disk."""


class RecorderNode(Node):
    """Records one episode at a time."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._settings = declare(self, Settings)
        self._contract = Contract.load(self._settings.contract)
        messages.check_contract(self._contract)
        self._directory = Path(self._settings.directory).expanduser().absolute()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {self._directory} cannot be made: {error.strerror}") from error
        self._recording: Recording | None = None
        self._last: Path | None = None
        self._instruction: bytes | None = None
        self._in_force: bytes | None = None
        self._lock = threading.Lock()
        self._arrived = 0
        self._complaints: set[str] = set()
        self._subscribed: dict[str, tuple[str, QoSProfile, Any]] = {}
        parts: list[Camera | StateSource | Command] = [
            *self._contract.cameras,
            *self._contract.state,
            *self._contract.commands,
        ]
        for part in parts:
            self._subscribe(part.topic, part.type, _qos(True, False))
        self._open_instruction()
        # Services run beside the subscriptions, so that they can wait until what was sent before them is taken.
        services = MutuallyExclusiveCallbackGroup()
        for name, act in (("start", self._start), ("stop", self._stop), ("discard", self._discard)):
            self.create_service(Trigger, f"~/{name}", _answering(act), callback_group=services)
        self.create_service(SetBool, "~/mark", _answering(self._mark), callback_group=services)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the robot's time does not
        self.create_timer(1.0, self._flush, clock=steady)
        self.create_timer(0.5, self._look_around, MutuallyExclusiveCallbackGroup(), clock=steady)
        self.get_logger().info(f"records '{self._contract.name}' into {self._directory}; ~/start begins an episode")

    # --- topics -----------------------------------------------------------------------------------------------

    def _subscribe(self, topic: str, kind: str, qos: QoSProfile) -> None:
        def receive(data: bytes) -> None:
            self._take(topic, data)

        qos.depth = IMAGE_DEPTH if kind in CAMERA_TYPES else DEPTH
        subscription = self.create_subscription(messages.message_class(kind), topic, receive, qos, raw=True)
        old = self._subscribed.get(topic)
        self._subscribed[topic] = (kind, qos, subscription)
        if old is not None:
            self.destroy_subscription(old[2])

    def _open_instruction(self) -> None:
        unmatched: dict[bool, deque[bytes]] = {True: deque(maxlen=16), False: deque(maxlen=16)}

        def receive(data: bytes, latched: bool) -> None:
            # Without the last bytes, which may be padding: then DDS leaves whatever was in memory there.
            text = data[:8] + data[8:].partition(b"\0")[0]
            if text in unmatched[not latched]:  # it came through both subscriptions: it counts once
                unmatched[not latched].remove(text)
                return
            unmatched[latched].append(text)
            self._instruction = data
            self._take(self._contract.instruction_topic, data)

        hear_instructions(self, self._contract, receive, depth=IMAGE_DEPTH, raw=True)

    def _take(self, topic: str, data: bytes) -> None:
        receive_ns = self._now()
        self._arrived += 1
        recording = self._recording
        if recording is not None:
            if self._in_force is not None:  # said before the episode began: its first message, at the first one's time
                recording.put(self._contract.instruction_topic, self._in_force, receive_ns)
                self._in_force = None
            recording.put(topic, data, receive_ns)

    def _look_around(self) -> None:
        """Match the quality of service of the publishers, find the extra topics, complain of wrong types."""
        missing = {topic for topic in self._settings.extra_topics if topic} - set(self._subscribed)
        for topic, kinds in self.get_topic_names_and_types() if missing else ():
            if topic in missing and len(kinds) == 1:
                self._subscribe(topic, kinds[0], _qos(*self._offered(topic)))
        for topic, (kind, qos, _) in list(self._subscribed.items()):
            reliable, latched = self._offered(topic)
            # A driver that starts anew finds the subscription that it had: no message is lost to looking again.
            if reliable != (qos.reliability == ReliabilityPolicy.RELIABLE) and self.count_publishers(topic):
                self._subscribe(topic, kind, _qos(reliable, latched))
            for complaint in wrong_publishers(self, topic, kind):
                if complaint not in self._complaints:
                    self._complaints.add(complaint)
                    self.get_logger().error(complaint)

    def _offered(self, topic: str) -> tuple[bool, bool]:
        """(reliable, transient local) as far as all publishers of a topic offer it; they match such a subscription."""
        profiles = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        return (
            all(profile.reliability != ReliabilityPolicy.BEST_EFFORT for profile in profiles),
            bool(profiles) and all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles),
        )

    # --- services ---------------------------------------------------------------------------------------------

    def _start(self, _request: Any) -> str:
        if self._recording is not None:
            raise UserError(f"{self._recording.writer.path} is being recorded already: ~/stop or ~/discard it")
        self._settle()
        name = datetime.datetime.now(datetime.timezone.utc).strftime("episode_%Y%m%d_%H%M%S_%f")
        try:
            writer = EpisodeWriter(
                self._directory / name,
                self._contract,
                operator=self._settings.operator,
                ros_distro=os.environ.get("ROS_DISTRO", ""),
                compress=self._settings.compress,
            )
        except OSError as error:
            raise UserError(f"folder {self._directory} cannot be written: {error.strerror}") from error
        try:
            for topic, (kind, qos, _) in self._subscribed.items():
                writer.add_topic(topic, kind, _as_offered(qos))
            latched = OfferedQos(transient_local=True, depth=1)
            writer.add_topic(self._contract.instruction_topic, self._contract.instruction_type, latched)
        except UserError:
            writer.discard()
            raise
        self._in_force = self._instruction
        self._recording = Recording(writer, self.get_logger().error)
        return str(writer.path)

    def _stop(self, _request: Any) -> str:
        self._settle()
        recording = self._end()
        if not set(recording.received) - {self._contract.instruction_topic}:
            recording.discard()
            raise UserError("no image, state or command arrived since ~/start: nothing is kept")
        path = recording.finish()
        self._last = path
        counts = recording.writer.counts
        said = ", ".join(f"{topic} {count}" for topic, count in counts.items())
        self.get_logger().info(
            f"{path.name}: received {sum(recording.received.values())}, written {sum(counts.values())} ({said})"
        )
        if recording.dropped:
            lost = ", ".join(f"{topic} {count}" for topic, count in recording.dropped.items())
            raise UserError(f"{path} is kept, but the disk was too slow and messages are missing: {lost}")
        return str(path)

    def _discard(self, _request: Any) -> str:
        recording = self._end()
        recording.discard()
        self.get_logger().info(f"{recording.writer.path.name}: discarded")
        return str(recording.writer.path)

    def _mark(self, request: Any) -> str:
        outcome = "success" if request.data else "failure"
        if self._recording is not None:
            self._recording.writer.outcome = outcome
            return f"{self._recording.writer.path}: {outcome}"
        if self._last is None:
            raise UserError("no episode was recorded yet: nothing to mark")
        mark(self._last, outcome)
        return f"{self._last}: {outcome}"

    def _end(self) -> Recording:
        """Take no more messages into the running episode."""
        with self._lock:
            recording, self._recording = self._recording, None
        if recording is None:
            raise UserError("nothing is being recorded: ~/start begins an episode")
        return recording

    def _settle(self) -> None:
        """Wait until the messages that were sent before this call have been taken."""
        looks = quiet = 0
        while quiet < QUIET_LOOKS and looks < MOST_LOOKS:
            seen = self._arrived
            time.sleep(LOOK_S)
            looks, quiet = looks + 1, quiet + 1 if self._arrived == seen else 0

    def _flush(self) -> None:
        recording = self._recording
        if recording is not None:
            recording.flush()

    def close(self) -> None:
        """Finish a running episode: it is kept."""
        if self._recording is not None:
            try:
                self._stop(None)
            except UserError as error:
                self.get_logger().error(str(error))

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _answering(act: Any) -> Any:
    """A service callback: the text that `act` gives, or the reason why it cannot."""

    def callback(request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, act(request)
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    return callback


def _qos(reliable: bool, latched: bool) -> QoSProfile:
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _as_offered(qos: QoSProfile) -> OfferedQos:
    return OfferedQos(
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        transient_local=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros recorder_node``."""
    return spin(RecorderNode, threads=3)


if __name__ == "__main__":
    sys.exit(main())
