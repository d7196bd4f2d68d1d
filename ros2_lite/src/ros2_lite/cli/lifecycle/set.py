"""`ros2 lifecycle set`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, positive_float
from ros2_lite.cli.lifecycle import api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", help="Name of the ROS node")
    parser.add_argument("transition", help="The lifecycle transition: its label or its number")
    parser.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    parser.add_argument(
        "--timeout",
        metavar="N",
        type=positive_float,
        default=600.0,
        help="Give up after N seconds without an answer: loading a model may take long (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = api.find(node, args.node_name, args.include_hidden_nodes)
        available = [found.transition for found in api.transitions(node, name)]
        # By label first: the number is for those who script by it.
        wanted = [t for t in available if t.label == args.transition] or [
            t for t in available if str(t.id) == args.transition
        ]
        if not wanted:
            lines = "".join(f"\n- {t.label} [{t.id}]" for t in available)
            raise CliError(f"Unknown transition requested, available ones are:{lines}")
        if not api.change(node, name, wanted[0], args.timeout):
            raise CliError("Transitioning failed")
    print("Transitioning successful")
