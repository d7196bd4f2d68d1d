"""`ros2 node list`."""

from __future__ import annotations

import argparse
import sys

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("-a", "--all", action="store_true", help="Display all nodes even hidden ones")
    parser.add_argument("-c", "--count-nodes", action="store_true", help="Only display the number of nodes discovered")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        names = [item.full for item in graph.nodes(node, args.all)]
    if args.count_nodes:
        print(len(names))
        return
    if len(set(names)) < len(names):
        print(
            "WARNING: Be aware that there are nodes in the graph that share an exact name, "
            "which can have unintended side effects.",
            file=sys.stderr,
        )
    for name in names:
        print(name)
