"""`ros2 topic type`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("topic_name", help="Name of the ROS topic to get type (e.g. '/chatter')")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        print(graph.find_topic(node, args.topic_name, args.spin_time or graph.KNOWN_WITHIN))
