"""`ros2 service list`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("-t", "--show-types", action="store_true", help="Additionally show the service type")
    parser.add_argument(
        "-c", "--count-services", action="store_true", help="Only display the number of services discovered"
    )
    parser.add_argument("--include-hidden-services", action="store_true", help="Consider hidden services as well")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        found = graph.services(node, args.include_hidden_services)
    if args.count_services:
        print(len(found))
        return
    for name, types in found:
        print(f"{name} [{', '.join(types)}]" if args.show_types else name)
