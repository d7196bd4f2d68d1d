"""`ros2 param set`."""

from __future__ import annotations

import argparse
import sys

from ros2_lite.cli import graph, parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)
    parser.add_argument("parameter_name", help="Name of the parameter")
    parser.add_argument("value", help="Value of the parameter, by YAML's rules")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
        result = parameters.set_one(node, name, args.parameter_name, parameters.from_text(args.value))
    reason = f": {result.reason}" if result.reason else ""
    if not result.successful:
        print(f"Setting parameter failed{reason}", file=sys.stderr)  # and exit with 0, as the original
        return
    print(f"Set parameter successful{reason}")
