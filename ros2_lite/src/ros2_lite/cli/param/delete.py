"""`ros2 param delete`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import CliError


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
        raise CliError(f"Deleting parameter failed{reason}")
    print(f"Deleted parameter successfully{reason}")
