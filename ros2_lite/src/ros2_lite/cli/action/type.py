"""`ros2 action type`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("action_name", help="Name of the ROS action to get info (e.g. '/fibonacci')")


def main(args: argparse.Namespace) -> None:
    from rclpy.action import get_action_names_and_types

    with graph.cli_node() as node:

        def types() -> list[str]:
            return dict(get_action_names_and_types(node)).get(args.action_name, [])

        if not graph.spin_until(node, lambda: bool(types()), args.spin_time or graph.KNOWN_WITHIN):
            known = choices(name for name, _ in get_action_names_and_types(node))
            raise CliError("", f"Unknown action '{args.action_name}'; actions here: {known}")
        print(*types(), sep="\n")
