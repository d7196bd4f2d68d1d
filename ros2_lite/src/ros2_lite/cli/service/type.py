"""`ros2 service type`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("service_name", help="Name of the ROS service to get type (e.g. '/trigger')")


def main(args: argparse.Namespace) -> None:
    name = graph.absolute(args.service_name)
    with graph.cli_node() as node:

        def types() -> list[str]:
            return next((list(t) for n, t in graph.services(node, True) if n == name), [])

        if not graph.spin_until(node, lambda: bool(types()), args.spin_time or graph.KNOWN_WITHIN):
            known = choices(n for n, _ in graph.services(node))
            raise CliError("", f"Unknown service '{name}'; services here: {known}")
        for type_name in types():
            print(type_name)
