"""`ros2 node info`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", help="Fully qualified node name to request information")
    parser.add_argument("--include-hidden", action="store_true", help="Display hidden topics and services as well")


def main(args: argparse.Namespace) -> None:
    from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node

    with graph.cli_node() as node:
        try:
            found = graph.find_node(node, args.node_name, include_hidden=args.include_hidden)
        except CliError as error:
            raise CliError(f"Unable to find node '{args.node_name}'", error.hint) from None
        graph.discover(node, args.spin_time)
        same = sum(item.full == found.full for item in graph.nodes(node, True))
        if same > 1:
            print(
                f'There are {same} nodes in the graph with the exact name "{found.full}". '
                "You are seeing information about only one of them.",
                file=sys.stderr,
            )
        print(found.full)
        sections = (
            ("Subscribers", node.get_subscriber_names_and_types_by_node),
            ("Publishers", node.get_publisher_names_and_types_by_node),
            ("Service Servers", node.get_service_names_and_types_by_node),
            ("Service Clients", node.get_client_names_and_types_by_node),
        )
        for title, ask in sections:
            _print(title, ask(found.name, found.namespace), args.include_hidden)
        for title, of_node in (
            ("Action Servers", get_action_server_names_and_types_by_node),
            ("Action Clients", get_action_client_names_and_types_by_node),
        ):
            _print(title, of_node(node, found.name, found.namespace), args.include_hidden)


def _print(title: str, names_and_types: Sequence[tuple[str, list[str]]], include_hidden: bool) -> None:
    print(f"  {title}:")
    lines = [f"    {n}: {', '.join(t)}" for n, t in sorted(names_and_types) if include_hidden or not graph.is_hidden(n)]
    print("\n".join(lines))
