"""`ros2 topic type`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("--include-hidden-topics", action="store_true", help="Consider hidden topics as well")
    parser.add_argument("topic_name", help="Name of the ROS topic to get type (e.g. '/chatter')")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        try:
            print(
                graph.find_topic(
                    node, args.topic_name, args.spin_time or graph.KNOWN_WITHIN, args.include_hidden_topics
                )
            )
        except CliError as error:
            raise CliError("", f"{error}; {error.hint}") from None  # the original says nothing
