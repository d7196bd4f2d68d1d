"""`ros2 service info`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("service_name", help="Name of the ROS service to get info (e.g. '/add_two_ints')")


def main(args: argparse.Namespace) -> None:
    name = graph.absolute(args.service_name)
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        types = next((list(t) for n, t in graph.services(node, True) if n == name), None)
        if types is None:
            known = choices(n for n, _ in graph.services(node))
            raise CliError(f"Unknown service '{name}'", f"services here: {known}")
        print(f"Type: {types[0] if len(types) == 1 else types}")
        print(f"Clients count: {node.count_clients(name)}")
        print(f"Services count: {node.count_services(name)}")
