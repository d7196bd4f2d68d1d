"""`ros2 bag play`."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from ros2_lite.bags.reader import Bag
from ros2_lite.cli import graph
from ros2_lite.cli.bag import add_reader_arguments
from ros2_lite.cli.bag.keyboard import Keyboard
from ros2_lite.cli.errors import CliError, count, positive_float
from ros2_lite.cli.values import get_message

_MATCH_WITHIN = 0.5  # [s] for subscriptions that are there already
_LONGEST_NAP = 0.1  # [s] between looks at the keyboard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reader_arguments(parser)
    parser.add_argument("--read-ahead-queue-size", type=count, default=1000, help="Accepted: files are read as played")
    parser.add_argument("-r", "--rate", type=positive_float, default=1.0, help="rate at which to play back messages.")
    parser.add_argument("--topics", metavar="topic", nargs="+", default=[], help="List of topics to play.")
    parser.add_argument("-e", "--regex", default="", help="Play only topics matching the regular expression.")
    parser.add_argument("-x", "--exclude-regex", default="", help="Regular expression of topics not to play.")
    parser.add_argument("--exclude-topics", metavar="topic", nargs="+", default=[], help="List of topics not to play.")
    parser.add_argument("--qos-profile-overrides-path", help="YAML file of QoS profiles for specific topics.")
    parser.add_argument("-l", "--loop", action="store_true", help="start again on reaching the end, indefinitely.")
    parser.add_argument(
        "-m", "--remap", nargs="+", default=[], metavar="old:=new", help="list of topics to be remapped."
    )
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument(
        "--clock",
        type=positive_float,
        nargs="?",
        const=40.0,
        default=0.0,
        help="Publish to /clock at a specific frequency in Hz (40 without a number), to act as a ROS Time Source.",
    )
    clock.add_argument(
        "--clock-topics-all", action="store_true", help="Publish to /clock immediately before each replayed message"
    )
    parser.add_argument("-d", "--delay", type=positive_float, default=0.0, help="Sleep before play (each loop) [s].")
    parser.add_argument(
        "--playback-duration", type=float, default=-1.0, help="Playback duration [s]; negative: to the end"
    )
    until = parser.add_mutually_exclusive_group()
    until.add_argument(
        "--playback-until-sec", type=float, default=-1.0, help="Playback until this time since the epoch [s]"
    )
    until.add_argument(
        "--playback-until-nsec", type=int, default=-1, help="Playback until this time since the epoch [ns]"
    )
    parser.add_argument(
        "--disable-keyboard-controls", action="store_true", help="disables keyboard controls for playback"
    )
    parser.add_argument(
        "-p", "--start-paused", action="store_true", help="Start the playback player in a paused state."
    )
    parser.add_argument(
        "--start-offset", type=float, default=0.0, help="Start the playback player this many seconds into the bag."
    )
    parser.add_argument(
        "--wait-for-all-acked",
        type=count,
        metavar="TIMEOUT",
        help="Wait at the end until all messages are acknowledged, at most so many ms (0: forever).",
    )
    parser.add_argument("--disable-loan-message", action="store_true", help="Accepted: messages are never loaned")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warn", "error", "fatal"), default="info", help="Logging level."
    )


class Timeline:
    """Which time of the bag it is: a line through (wall time [s], bag time [ns]) that may stand still or bend."""

    def __init__(self, start_ns: int, rate: float, now: float) -> None:
        self.rate = rate
        self.is_paused = False
        self._at = (now, start_ns)

    def time_ns(self, now: float) -> int:
        """The time in the bag at the wall time `now`."""
        wall, bag = self._at
        return bag if self.is_paused else bag + int((now - wall) * self.rate * 1e9)

    def due(self, time_ns: int) -> float:
        """The wall time of a time in the bag, infinite while it stands still."""
        wall, bag = self._at
        return float("inf") if self.is_paused else wall + (time_ns - bag) * 1e-9 / self.rate

    def change(self, now: float, *, rate: float | None = None, is_paused: bool | None = None) -> None:
        """Go on from here at another rate, or stop, or go on."""
        self._at = (now, self.time_ns(now))
        self.rate = self.rate if rate is None else rate
        self.is_paused = self.is_paused if is_paused is None else is_paused

    def jump(self, now: float, time_ns: int) -> None:
        """It is `time_ns` now."""
        self._at = (now, time_ns)


def main(args: argparse.Namespace) -> int:
    from rclpy.logging import LoggingSeverity

    bag = Bag(args.bag_path)
    remaps = dict(_remap(rule) for rule in args.remap)
    chosen = _chosen(args, [topic.name for topic in bag.info.topics])
    if args.start_offset < 0:
        raise CliError(f"--start-offset {args.start_offset:g} is below zero")
    with graph.cli_node("rosbag2_player") as node, Keyboard(args.disable_keyboard_controls) as keyboard:
        node.get_logger().set_level(LoggingSeverity[args.log_level.upper()])
        player = Player(node, bag, args, keyboard)
        player.prepare(chosen, remaps)
        try:
            while True:
                player.play()
                if not args.loop or not bag.info.count:
                    break
        except KeyboardInterrupt:
            return 0
        player.wait_for_acks()
    return 0


def _remap(rule: str) -> tuple[str, str]:
    old, separator, new = rule.partition(":=")
    if not separator or not old or not new:
        raise CliError(f"--remap takes OLD:=NEW, not '{rule}'")
    return graph.absolute(old), graph.absolute(new)


def _chosen(args: argparse.Namespace, names: list[str]) -> set[str]:
    """The topics to play; CliError where one that was asked for is not in the bag."""
    topics = {graph.absolute(name) for name in args.topics}
    missing = topics - set(names)
    if missing:
        raise CliError(f"the bag has no topic {', '.join(sorted(missing))}; its topics are: {', '.join(sorted(names))}")
    try:
        regex, exclude = (re.compile(text) if text else None for text in (args.regex, args.exclude_regex))
    except re.error as error:
        raise CliError(f"no regular expression: {error}") from None
    excluded = {graph.absolute(name) for name in args.exclude_topics}
    if args.clock:
        excluded.add("/clock")
    return {
        name
        for name in names
        if ((not topics and regex is None) or name in topics or (regex is not None and regex.search(name)))
        and name not in excluded
        and not (exclude is not None and exclude.search(name))
    }


class Player:
    """Publishes a bag's messages when they are due."""

    def __init__(self, node: Any, bag: Bag, args: argparse.Namespace, keyboard: Keyboard) -> None:
        self._node = node
        self._bag = bag
        self._args = args
        self._keyboard = keyboard
        self._publishers: dict[str, Any] = {}
        self._clock: Any = None
        self._next_tick = float("inf")
        self._step = False

    def prepare(self, chosen: set[str], remaps: dict[str, str]) -> None:
        """Create the publishers, and wait a moment for those who want to hear them."""
        from rosgraph_msgs.msg import Clock

        from ros2_lite.bags import qos

        logger = self._node.get_logger()
        try:
            overrides = qos.read_overrides(self._args.qos_profile_overrides_path)
        except ValueError as error:
            raise CliError(str(error)) from None
        for topic in self._bag.info.topics:
            if topic.name not in chosen:
                continue
            try:
                message_class = get_message(topic.type)
                recorded = qos.from_text(topic.qos)
            except (CliError, ValueError) as error:
                logger.warning(f"Ignoring a topic '{topic.name}', reason: {error}")
                continue
            profile, agreed = qos.offered_from(recorded)
            if not agreed:
                logger.warning(
                    f"Not all original publishers on topic {topic.name} offered the same QoS profiles. "
                    "Rosbag2 cannot yet choose an adapted profile to offer for this mixed case. "
                    "Falling back to the rosbag2_transport default publisher offer."
                )
            target = remaps.get(topic.name, topic.name)
            profile = overrides.get(topic.name, profile)
            self._publishers[topic.name] = self._node.create_publisher(message_class, target, profile)
        if self._args.clock or self._args.clock_topics_all:
            self._clock = self._node.create_publisher(Clock, "/clock", 10)
        logger.info(f"Set rate to {self._args.rate:g}")
        for line in self._keyboard.help:
            logger.info(line)
        wanted = {remaps.get(name, name) for name in self._publishers}

        def matched() -> bool:
            heard = {name for name in wanted if self._node.count_subscribers(name)}
            return bool(heard) and all(
                publisher.get_subscription_count()
                for publisher in self._publishers.values()
                if publisher.topic in heard
            )

        graph.spin_until(self._node, matched, _MATCH_WITHIN)

    def play(self) -> None:
        """Play the bag once."""
        import rclpy

        args = self._args
        if args.delay:
            graph.spin_until(self._node, lambda: False, args.delay)
        start = self._bag.info.start_ns + int(args.start_offset * 1e9)
        until = args.playback_until_nsec if args.playback_until_nsec >= 0 else int(args.playback_until_sec * 1e9)
        # Where both are given, the later end counts, as in rosbag2.
        ends = [start + int(args.playback_duration * 1e9)] if args.playback_duration >= 0 else []
        end = max([*ends, *([until] if until >= 0 else [])], default=2**63 - 2)
        timeline = Timeline(start, args.rate, time.monotonic())
        timeline.is_paused = args.start_paused
        if args.clock:
            self._next_tick = time.monotonic()
        for message in self._bag.messages(self._publishers.__contains__, start, end):
            while rclpy.ok(context=self._node.context):
                self._react(timeline)
                now = time.monotonic()
                if now >= self._next_tick:
                    self._tell_time(timeline.time_ns(now))
                    self._next_tick = max(self._next_tick + 1.0 / args.clock, now)
                if self._step:
                    self._step = False
                    timeline.jump(now, message.time_ns)
                    break
                wait = min(timeline.due(message.time_ns), self._next_tick) - now
                if timeline.due(message.time_ns) <= now:
                    break
                rclpy.spin_once(self._node, timeout_sec=max(0.0, min(wait, _LONGEST_NAP)))
            if args.clock_topics_all:
                self._tell_time(message.time_ns)
            self._publishers[message.topic].publish(message.data)

    def _react(self, timeline: Timeline) -> None:
        """Do what the keys say."""
        logger = self._node.get_logger()
        for key in self._keyboard.pressed():
            now = time.monotonic()
            if key == "space":
                timeline.change(now, is_paused=not timeline.is_paused)
                logger.info("Pausing play." if timeline.is_paused else "Resuming play.")
            elif key == "right" and timeline.is_paused:
                self._step = True
            elif key in ("up", "down"):
                timeline.change(now, rate=timeline.rate * (1.1 if key == "up" else 0.9))
                logger.info(f"Set rate to {timeline.rate:g}")

    def _tell_time(self, time_ns: int) -> None:
        message = self._clock.msg_type()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
        self._clock.publish(message)

    def wait_for_acks(self) -> None:
        """Let the last messages arrive before the publishers go."""
        from rclpy.duration import Duration

        limit = self._args.wait_for_all_acked
        timeout = Duration(seconds=1.0) if limit is None else Duration(seconds=limit * 1e-3 if limit else -1)
        for publisher in self._publishers.values():
            if not publisher.wait_for_all_acked(timeout) and limit is not None:
                self._node.get_logger().error(f"Timed out while waiting for all acknowledgements of {publisher.topic}")
