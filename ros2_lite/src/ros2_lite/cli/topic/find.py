"""`ros2 topic find`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("topic_type", help="Name of the ROS topic type to filter for (e.g. 'std_msgs/msg/String')")
    parser.add_argument(
        "-c", "--count-topics", action="store_true", help="Only display the number of topics discovered"
    )
    parser.add_argument("--include-hidden-topics", action="store_true", help="Consider hidden topics as well")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        found = [name for name, types in graph.topics(node, args.include_hidden_topics) if args.topic_type in types]
    print(len(found)) if args.count_topics else print(*found, sep="\n", end="\n" if found else "")
