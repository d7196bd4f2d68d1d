"""`ros2 param get`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import CliError, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)
    parser.add_argument("parameter_name", help="Name of the parameter")
    parser.add_argument("--hide-type", action="store_true", help="Hide the type information")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
        values = parameters.get(node, name, [args.parameter_name])
        if not values or parameters.to_python(values[0]) is None:
            known = parameters.list_names(node, name)
            if args.parameter_name not in known:
                raise CliError("Parameter not set", f"parameters of {name} are: {choices(known)}")
            print("Parameter not set.")
            return
        value = parameters.to_python(values[0])
        print(value) if args.hide_type else print(parameters.label(values[0]), value)
