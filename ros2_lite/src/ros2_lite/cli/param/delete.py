"""`ros2 param delete`."""

from __future__ import annotations

import argparse
import sys

from ros2_lite.cli import graph, parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)
    parser.add_argument("parameter_name", help="Name of the parameter")


def main(args: argparse.Namespace) -> None:
    from rcl_interfaces.msg import ParameterValue

    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
        result = parameters.set_one(node, name, args.parameter_name, ParameterValue())  # not set: that is to delete it
    reason = f": {result.reason}" if result.reason else ""
    if not result.successful:
        print(f"Deleting parameter failed{reason}", file=sys.stderr)  # and exit with 0, as the original
        return
    print(f"Deleted parameter successfully{reason}")
