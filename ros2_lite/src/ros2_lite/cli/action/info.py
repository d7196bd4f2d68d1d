"""`ros2 action info`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("action_name", help="Name of the ROS action to get info (e.g. '/fibonacci')")
    parser.add_argument("-t", "--show-types", action="store_true", help="Additionally show the action type")
    parser.add_argument(
        "-c", "--count", action="store_true", help="Only display the number of action clients and action servers"
    )


def main(args: argparse.Namespace) -> None:
    from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node

    wanted = graph.absolute(args.action_name)
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        here = graph.nodes(node, include_hidden=True)
        print(f"Action: {args.action_name}")
        for title, ask in (
            ("Action clients", get_action_client_names_and_types_by_node),
            ("Action servers", get_action_server_names_and_types_by_node),
        ):
            found = [(item.full, dict(ask(node, item.name, item.namespace)).get(wanted)) for item in here]
            having = [(name, types) for name, types in found if types is not None]
            print(f"{title}: {len(having)}")
            for name, types in () if args.count else having:
                print(f"    {name} [{', '.join(types)}]" if args.show_types else f"    {name}")
