"""`ros2 lifecycle list`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.lifecycle import api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", help="Name of the ROS node")
    parser.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    parser.add_argument("-a", "--all", action="store_true", help="Display all existing transitions")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        for found in api.transitions(node, api.find(node, args.node_name, args.include_hidden_nodes), args.all):
            print(f"- {found.transition.label} [{found.transition.id}]")
            print(f"\tStart: {found.start_state.label}\n\tGoal: {found.goal_state.label}")
