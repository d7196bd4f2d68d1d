"""`ros2 topic info`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("topic_name", help="Name of the ROS topic to get info (e.g. '/chatter')")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="Prints detailed information like the node name, node namespace, topic type, topic type hash, GUID and "
        "QoS profile of the publishers and subscribers to this topic",
    )


def main(args: argparse.Namespace) -> None:
    name = graph.absolute(args.topic_name)
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        types = next((list(t) for n, t in graph.topics(node, True) if n == name), None)
        if types is None:
            known = choices(n for n, _ in graph.topics(node))
            raise CliError(f"Unknown topic '{name}'", f"topics here: {known}")
        end = "\n\n" if args.verbose else "\n"
        print(f"Type: {types[0] if len(types) == 1 else types}", end=end)
        publishers = node.get_publishers_info_by_topic(name)
        print(f"Publisher count: {len(publishers)}", end=end)
        if args.verbose:
            for info in publishers:
                print(info, end=end)
        subscriptions = node.get_subscriptions_info_by_topic(name)
        print(f"Subscription count: {len(subscriptions)}", end=end)
        if args.verbose:
            for info in subscriptions:
                print(info, end=end)
