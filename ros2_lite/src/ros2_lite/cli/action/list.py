"""`ros2 action list`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("-t", "--show-types", action="store_true", help="Additionally show the action type")
    parser.add_argument(
        "-c", "--count-actions", action="store_true", help="Only display the number of actions discovered"
    )


def main(args: argparse.Namespace) -> None:
    from rclpy.action import get_action_names_and_types

    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        found = get_action_names_and_types(node)
    if args.count_actions:
        print(len(found))
        return
    for name, types in found:
        print(f"{name} [{', '.join(types)}]" if args.show_types else name)
