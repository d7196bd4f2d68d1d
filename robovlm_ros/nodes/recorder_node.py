"""The recorder as a ROS 2 node: episodes begin and end by services or by themselves; messages are written as they came.

Callbacks only copy; threads of the recording write. Images, states, commands and instruction of the contract are
recorded, and the extra topics that are named.
"""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from robovlm_ros import messages
from robovlm_ros.bags import EpisodeWriter, Recording, Schedule, Watch, list_unfinished, mark
from robovlm_ros.bags.schema import definition
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.parameters import declare, fixed, limited
from robovlm_ros.nodes.recorder_status import recorder_status
from robovlm_ros.nodes.recorder_topics import RecordedTopics
from robovlm_ros.nodes.services import answering

ATTEND_S, DIAGNOSTICS_S = 0.1, 1.0
"""Period at which the node looks for trouble, and of ``/diagnostics`` when there is none [s]."""
CLOCKS_NS = 5_000_000
"""Two clocks read further apart than this [ns] are read again: the processor was busy elsewhere in between."""


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
    compress: bool = fixed(False)
    """Compress with zstd: less disk, for many times the processor time of writing, which a busy robot may not have."""
    episode_seconds: float = limited(0.0, 0.0, 86_400.0, fixed=True)
    """An episode ends by itself, and is kept, after this time [s]; 0: when it is told."""
    episodes: int = limited(0, 0, 1_000_000, fixed=True)
    """Begin so many episodes by itself, one after the other, and end then; 0: none. Needs episode_seconds."""
    reset_seconds: float = limited(5.0, 0.0, 3600.0, fixed=True)
    """Time between two episodes that begin by themselves, to set the scene up again [s]."""
    min_free_mb: int = limited(200, 0, 1_000_000, fixed=True)
    """An episode ends, and is kept, before the disk has less than this left [MB]; below it none begins."""


class RecorderNode(Node):
    """Records one episode at a time."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        self._contract = Contract.load(settings.contract)
        messages.check_contract(self._contract)
        self._schedule = Schedule(
            episodes=settings.episodes,
            episode_ns=round(settings.episode_seconds * 1e9),
            reset_ns=round(settings.reset_seconds * 1e9),
        )
        self._directory = Path(settings.directory).expanduser().absolute()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {self._directory} cannot be made: {error.strerror}") from error
        self._recording: Recording | None = None
        self._last: Path | None = None
        self._standing: dict[str, bytes] = {}  # newest message of the topics whose word holds until the next one
        self._in_force: dict[str, bytes] = {}
        self._simulated = bool(self.get_parameter("use_sim_time").value)
        self._watch = Watch(self._contract, simulated=self._simulated)
        self._incidents: list[dict[str, Any]] = []
        self._told_s = 0.0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._topics = RecordedTopics(self, self._contract, settings.extra_topics, self._take)
        for _, kind, _ in self._topics:
            definition(kind)  # the first takes seconds on a small machine, which the first episode would lack
        # Services run beside the subscriptions, so that they can wait until what was sent before them is taken; what
        # happens by itself runs among them, so that it never meets one half-way.
        services = MutuallyExclusiveCallbackGroup()
        for name, act in (("start", self._start), ("stop", self._stop), ("discard", self._discard)):
            self.create_service(Trigger, f"~/{name}", answering(act), callback_group=services)
        self.create_service(SetBool, "~/mark", answering(self._mark), callback_group=services)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the robot's time does not
        self.create_timer(ATTEND_S, self._attend, services, clock=steady)
        self.create_timer(0.5, self._topics.look_around, MutuallyExclusiveCallbackGroup(), clock=steady)
        begins = f"{settings.episodes} episodes follow" if settings.episodes else "~/start begins an episode"
        self.get_logger().info(f"records '{self._contract.name}' into {self._directory}; {begins}")
        if unfinished := list_unfinished(self._directory):
            self.get_logger().warning(f"unfinished recordings ({len(unfinished)}): inspect episodes DIR --repair")

    # --- messages ---------------------------------------------------------------------------------------------

    def _take(self, topic: str, data: bytes, receive_ns: int) -> None:
        if topic in (self._contract.instruction_topic, self._contract.intervention_topic):
            self._standing[topic] = data
        news = self._watch.message(topic, data, receive_ns)
        recording = self._recording
        if recording is not None:
            in_force, self._in_force = self._in_force, {}
            for standing, said in in_force.items():  # before the episode began: its first messages, at this one's time
                recording.put(standing, said, receive_ns)
            recording.put(topic, data, receive_ns)
        if news is not None:
            self._incident(news)

    # --- episodes ---------------------------------------------------------------------------------------------

    def _start(self, _request: Any = None) -> str:
        if self._recording is not None:
            raise UserError(f"{self._recording.writer.path} is being recorded already: ~/stop or ~/discard it")
        if (free_mb := self._free_mb()) < (least_mb := self._settings.min_free_mb):
            raise UserError(f"the disk of {self._directory} has {free_mb:.0f} MB left, below min_free_mb ({least_mb})")
        self._topics.settle()
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
            for topic, kind, offered in self._topics:
                writer.add_topic(topic, kind, offered)
        except UserError:
            writer.discard()
            raise
        self._in_force = dict(self._standing)
        self._incidents = []
        self._watch.begin(self._now())
        self._schedule.began(self._elapsed_ns())
        self._recording = Recording(writer, self._broke_off)
        for trouble in self._watch.troubles():
            self._incident(trouble)
        return str(writer.path)

    def _stop(self, _request: Any = None) -> str:
        self._topics.settle()
        self._topics.catch_up(self._watch)
        recording = self._end()
        kept = False
        try:
            if not set(recording.received) - set(self._standing):
                recording.discard()
                raise UserError("no image, state or command arrived since ~/start: nothing is kept")
            self._last = path = recording.finish()
            kept = True
        finally:
            self._schedule.ended(self._elapsed_ns(), kept=kept)
        counts = recording.counts()
        said = ", ".join(f"{topic} {count['written']}" for topic, count in counts.items())
        sums = {key: sum(count[key] for count in counts.values()) for key in ("received", "written", "dropped")}
        self.get_logger().info(f"{path.name}: {', '.join(f'{key} {value}' for key, value in sums.items())} ({said})")
        if recording.dropped:
            lost = ", ".join(f"{topic} {count}" for topic, count in recording.dropped.items())
            raise UserError(f"{path} is kept, but the disk was too slow and messages are missing: {lost}")
        return str(path)

    def _discard(self, _request: Any = None) -> str:
        recording = self._end()
        recording.discard()
        self._schedule.ended(self._elapsed_ns(), kept=False)
        self.get_logger().info(f"{recording.writer.path.name}: discarded")
        return str(recording.writer.path)

    def _mark(self, request: Any) -> str:
        outcome = "success" if request.data else "failure"
        if self._recording is not None:
            self._recording.note("outcome", outcome)
            return f"{self._recording.writer.path}: {outcome}"
        if self._last is None:
            raise UserError("no episode was recorded yet: nothing to mark")
        mark(self._last, outcome)
        return f"{self._last}: {outcome}"

    def _end(self) -> Recording:
        """Take no more messages into the running episode."""
        recording, self._recording = self._recording, None
        if recording is None:
            raise UserError("nothing is being recorded: ~/start begins an episode")
        return recording

    # --- what happens by itself -------------------------------------------------------------------------------

    def _attend(self) -> None:
        now_ns, steady_ns = self._clocks()
        for news in self._watch.look(now_ns, steady_ns, self._recording is not None):
            self._incident(news)
        try:
            due = self._schedule.due(self._elapsed_ns(), self._watch.is_ready(now_ns))
            if due == "start":
                number = self._schedule.kept + 1
                self.get_logger().info(f"episode {number} of {self._schedule.episodes}: {Path(self._start()).name}")
            elif due == "stop":
                self._stop()
            elif due == "end":
                self.get_logger().info(f"all {self._schedule.episodes} episodes are recorded")
                self.context.try_shutdown()
            elif self._recording is not None and self._free_mb() < self._settings.min_free_mb:
                self._incident(f"the disk has less than {self._settings.min_free_mb} MB left: the episode ends here")
                self._stop()
        except UserError as error:
            self.get_logger().error(str(error), throttle_duration_sec=DIAGNOSTICS_S)
        if steady_ns / 1e9 - self._told_s >= DIAGNOSTICS_S:
            self._tell()

    def _incident(self, text: str) -> None:
        """Say it at once and keep it with the running episode."""
        self.get_logger().warning(text)
        recording = self._recording
        if recording is not None:
            self._incidents.append({"time_ns": self._now(), "text": text})
            recording.note("incidents", list(self._incidents))
        self._tell(text)

    def _broke_off(self, failure: str) -> None:
        self.get_logger().error(failure)
        self._tell()

    def _tell(self, news: str = "") -> None:
        """What the node says on ``/diagnostics``."""
        self._told_s = time.monotonic()
        status = recorder_status(
            self.get_name(),
            self._contract.name,
            self._recording,
            self._schedule,
            self._watch,
            news=news,
            free_mb=self._free_mb(),
            seconds_to_next=self._schedule.seconds_to_next(self._elapsed_ns()),
            stamp_ns=self._now(),
        )
        self._diagnostics.publish(status)

    def _free_mb(self) -> float:
        """Space left for episodes [MB]."""
        return shutil.disk_usage(self._directory).free / 1e6

    def _clocks(self) -> tuple[int, int]:
        """The node's time and a steady one of the same instant [ns]."""
        while True:
            before_ns, now_ns, after_ns = time.monotonic_ns(), self._now(), time.monotonic_ns()
            if after_ns - before_ns < CLOCKS_NS:
                return now_ns, after_ns

    def _elapsed_ns(self) -> int:
        """Time that runs as the robot's does and is not set by anybody [ns]."""
        return self._now() if self._simulated else time.monotonic_ns()

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def close(self) -> None:
        """Finish a running episode: it is kept."""
        if self._recording is not None:
            try:
                self._stop()
            except UserError as error:
                self.get_logger().error(str(error))

    def destroy_node(self) -> None:
        """With the node that receives."""
        self._topics.close()
        super().destroy_node()


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros recorder_node``."""
    return spin(RecorderNode, threads=3)


if __name__ == "__main__":
    sys.exit(main())
