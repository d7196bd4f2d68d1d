"""`ros2 lifecycle nodes`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.lifecycle import api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("-a", "--all", action="store_true", help="Display all nodes even hidden ones")
    parser.add_argument("-c", "--count-nodes", action="store_true", help="Only display the number of nodes discovered")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        names = api.names(node, args.all)
    print(len(names)) if args.count_nodes else print(*names, sep="\n", end="\n" if names else "")
