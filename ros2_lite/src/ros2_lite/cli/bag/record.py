"""`ros2 bag record`."""

from __future__ import annotations

import argparse
import os
import re
import time
from typing import Any

from ros2_lite.bags.writer import PRESETS, BagWriter
from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, count, positive_int
from ros2_lite.cli.values import get_message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", help="Destination of the bag to create (default: a timestamped folder here)")
    parser.add_argument("-s", "--storage", default="mcap", choices=("mcap",), help="Storage identifier to be used")
    parser.add_argument("topics_positional", metavar="Topic", nargs="*", help="Topics to record (deprecated: --topics)")
    parser.add_argument("--topics", metavar="Topic", nargs="+", default=[], help="List of topics to record.")
    parser.add_argument("--topic-types", metavar="TopicType", nargs="+", default=[], help="Topic types to record.")
    parser.add_argument("-a", "--all", action="store_true", help="Record all topics (Exclude hidden topic).")
    parser.add_argument("--all-topics", action="store_true", help="Record all topics (Exclude hidden topic).")
    parser.add_argument("-e", "--regex", default="", help="Record only topics containing the regular expression.")
    parser.add_argument("--exclude-regex", default="", help="Exclude topics containing the regular expression.")
    parser.add_argument("--exclude-topics", metavar="Topic", nargs="+", default=[], help="Topics not to record.")
    parser.add_argument("--exclude-topic-types", metavar="Type", nargs="+", default=[], help="Types not to record.")
    parser.add_argument(
        "--include-unpublished-topics", action="store_true", help="Record topics which have no publisher, too."
    )
    parser.add_argument("--include-hidden-topics", action="store_true", help="Discover and record hidden topics, too.")
    parser.add_argument("--ignore-leaf-topics", action="store_true", help="Ignore topics without a subscription.")
    parser.add_argument("--no-discovery", action="store_true", help="Only topics present at startup are recorded.")
    parser.add_argument(
        "-p", "--polling-interval", type=positive_int, default=100, help="Time in ms between queries for new topics."
    )
    parser.add_argument("--qos-profile-overrides-path", help="YAML file of QoS profiles for specific topics.")
    parser.add_argument(
        "-b",
        "--max-bag-size",
        type=count,
        default=0,
        help="Bytes at which a file of the bag is split (default: never).",
    )
    parser.add_argument(
        "-d", "--max-bag-duration", type=count, default=0, help="Seconds after which a file is split (default: never)."
    )
    parser.add_argument("--max-cache-size", type=count, default=0, help="Accepted: each message is written at once.")
    parser.add_argument("--disable-keyboard-controls", action="store_true", help="Accepted: there are none.")
    parser.add_argument("--use-sim-time", action="store_true", help="Times of messages are those of /clock.")
    parser.add_argument("--node-name", default="rosbag2_recorder", help="Name of the node (default: %(default)s).")
    parser.add_argument("--custom-data", metavar="KEY=VALUE", nargs="*", default=[], help="Pairs for the metadata.")
    parser.add_argument(
        "--storage-preset-profile", choices=PRESETS, default="none", help="How the MCAP file is written (%(choices)s)."
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warn", "error", "fatal"), default="info", help="Logging level."
    )


def main(args: argparse.Namespace) -> int:
    output = args.output or time.strftime("rosbag2_%Y_%m_%d-%H_%M_%S")
    wanted = Filter(args)
    if os.path.exists(output):
        raise CliError(f"[ERROR] [ros2bag]: Output folder '{output}' already exists.")
    pairs = [pair.partition("=") for pair in args.custom_data]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise CliError(f"[ERROR] [ros2bag]: --custom-data takes KEY=VALUE, not '{key}'")
    from rclpy.executors import ExternalShutdownException
    from rclpy.logging import LoggingSeverity

    from ros2_lite.bags import qos

    try:
        overrides = qos.read_overrides(args.qos_profile_overrides_path)
    except ValueError as error:
        raise CliError(f"[ERROR] [ros2bag]: {error}") from None
    with graph.cli_node(args.node_name, use_sim_time=args.use_sim_time) as node:
        node.get_logger().set_level(LoggingSeverity[args.log_level.upper()])
        try:
            writer = BagWriter(
                output,
                preset=args.storage_preset_profile,
                max_size=args.max_bag_size,
                max_duration_ns=args.max_bag_duration * 10**9,
                custom_data={key: value for key, _, value in pairs},
            )
        except OSError as error:
            raise CliError(f"[ERROR] [ros2bag]: Could not create bag folder '{output}': {error.strerror}") from None
        recorder = Recorder(node, writer, wanted, overrides)
        try:
            recorder.run(args.polling_interval * 1e-3, discovery=not args.no_discovery)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass  # the ordinary end of a recording
        except OSError as error:
            raise CliError(f"[ERROR] [ros2bag]: recording '{output}' stopped: {error.strerror}") from None
        finally:
            writer.close()
        print(f"[INFO] [{args.node_name}]: Recording stopped", flush=True)
    return 0


class Filter:
    """Which topics are to be recorded."""

    def __init__(self, args: argparse.Namespace) -> None:
        """CliError where the options ask for nothing, or for what cannot be."""
        self.names = [graph.absolute(name) for name in [*args.topics, *args.topics_positional]]
        self._types = args.topic_types
        self._all = args.all or args.all_topics
        self._regex = _compile(args.regex)
        self._not_regex = _compile(args.exclude_regex)
        self._not_names = [graph.absolute(name) for name in args.exclude_topics]
        self._not_types = args.exclude_topic_types
        self._hidden = args.include_hidden_topics
        self.unpublished = args.include_unpublished_topics
        self.only_heard = args.ignore_leaf_topics
        if not (self._all or self.names or self._types or args.regex):
            raise CliError(
                "[ERROR] [ros2bag]: Need to specify at least one option out of --all, --all-topics, --topics, "
                "--topic-types or --regex"
            )
        if args.use_sim_time and args.no_discovery:
            raise CliError(
                "[ERROR] [ros2bag]: --use-sim-time and --no-discovery both set, but are incompatible settings. "
                "The /clock topic needs to be discovered to record with sim time."
            )

    @property
    def is_complete_with(self) -> frozenset[str]:
        """The topics after which there is nothing more to look for; none where there may always be more."""
        return frozenset() if self._all or self._types or self._regex else frozenset(self.names)

    def takes(self, name: str, type_name: str) -> bool:
        """Whether a topic is to be recorded."""
        if (
            name in self._not_names
            or type_name in self._not_types
            or (self._not_regex and self._not_regex.search(name))
        ):
            return False
        if graph.is_hidden(name) and not self._hidden and name not in self.names:
            return False
        by_regex = self._regex is not None and self._regex.search(name) is not None
        return self._all or name in self.names or type_name in self._types or by_regex


def _compile(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise CliError(f"[ERROR] [ros2bag]: '{text}' is no regular expression: {error}") from None


class Recorder:
    """Subscribes to topics as they come, and writes what arrives."""

    def __init__(self, node: Any, writer: BagWriter, wanted: Filter, overrides: dict[str, Any]) -> None:
        self._node = node
        self._writer = writer
        self._wanted = wanted
        self._overrides = overrides
        self._recorded: set[str] = set()
        self._refused: set[str] = set()

    def run(self, period: float, discovery: bool) -> None:
        """Record until the context ends or Ctrl-C; look for new topics every `period` [s]."""
        import rclpy

        logger = self._node.get_logger()
        logger.info("Listening for topics...")
        graph.discover(self._node, None) if not discovery else None
        self._look()
        timer = self._node.create_timer(period, self._look) if discovery else None
        logger.info("Recording...")
        while rclpy.ok(context=self._node.context):
            rclpy.spin_once(self._node, timeout_sec=1.0)
            complete = self._wanted.is_complete_with
            if timer is not None and complete and complete <= self._recorded:
                logger.info("All requested topics are subscribed. Stopping discovery...")
                self._node.destroy_timer(timer)
                timer = None

    def _look(self) -> None:
        for name, types in self._node.get_topic_names_and_types():
            if name in self._recorded or name in self._refused or not self._wanted.takes(name, types[0]):
                continue
            if len(types) > 1:
                self._refuse(name, f"has more than one type associated ({', '.join(types)})")
                continue
            offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(name)]
            if not offers and not self._wanted.unpublished:
                continue
            if self._wanted.only_heard and not self._node.count_subscribers(name):
                continue
            self._subscribe(name, types[0], offers)

    def _refuse(self, name: str, reason: str) -> None:
        self._refused.add(name)
        self._node.get_logger().warning(f"Topic '{name}' {reason}; it is not recorded")

    def _subscribe(self, name: str, type_name: str, offers: list[Any]) -> None:
        from ros2_lite.bags import qos

        try:
            message_class = get_message(type_name)
        except CliError as error:
            self._refuse(name, f"has unknown type '{type_name}': {error}")
            return
        self._writer.add_topic(name, type_name, qos.to_text(offers))
        clock = self._node.get_clock()

        def arrived(data: bytes, info: Any) -> None:
            now = clock.now().nanoseconds
            if now:  # simulated time may not have been told yet
                self._writer.write(name, data, now, info["source_timestamp"] or now)

        profile = self._overrides.get(name) or qos.requested_from(offers)
        self._node.create_subscription(message_class, name, arrived, profile, raw=True)
        self._recorded.add(name)
        self._node.get_logger().info(f"Subscribed to topic '{name}'")
