"""`ros2 service find`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument(
        "service_type", help="Name of the ROS service type to filter for (e.g. 'rcl_interfaces/srv/ListParameters')"
    )
    parser.add_argument(
        "-c", "--count-services", action="store_true", help="Only display the number of services discovered"
    )
    parser.add_argument("--include-hidden-services", action="store_true", help="Consider hidden services as well")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        found = [n for n, types in graph.services(node, args.include_hidden_services) if args.service_type in types]
    print(len(found)) if args.count_services else print(*found, sep="\n", end="\n" if found else "")
