"""`ros2 param set`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import CliError


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
        raise CliError(f"Setting parameter failed{reason}")
    print(f"Set parameter successful{reason}")
