"""`ros2 lifecycle get`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError
from ros2_lite.cli.lifecycle import api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", nargs="?", help="Name of the ROS node; the states of all nodes without it")
    parser.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        if args.node_name:
            state = api.state(node, api.find(node, args.node_name, args.include_hidden_nodes))
            print(f"{state.label} [{state.id}]")
            return
        graph.discover(node, args.spin_time)
        for name in api.names(node, args.include_hidden_nodes):
            try:
                state = api.state(node, name)
            except CliError as error:  # one that does not answer hides no other
                error.report()
                continue
            print(f"{name}: {state.label} [{state.id}]")
