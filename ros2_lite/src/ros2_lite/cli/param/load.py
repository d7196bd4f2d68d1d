"""`ros2 param load`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import yaml

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)
    parser.add_argument("parameter_file", help="Parameter file")
    parser.add_argument(
        "--no-use-wildcard",
        action="store_true",
        help="Do not load parameters in the '/**' namespace into the node",
    )


def main(args: argparse.Namespace) -> int:
    from rcl_interfaces.srv import SetParameters

    wanted = _read(args.parameter_file, not args.no_use_wildcard, graph.absolute(args.node_name))
    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
        request = SetParameters.Request(parameters=wanted)
        results = graph.call(node, SetParameters, f"{name}/set_parameters", request).results
    failed = False
    for parameter, result in zip(wanted, results, strict=True):
        reason = f": {result.reason}" if result.reason else ""
        if result.successful:
            print(f"Set parameter {parameter.name} successful{reason}")
        else:
            failed = True
            print(f"Set parameter {parameter.name} failed{reason}", file=sys.stderr)
    return int(failed)


def _read(path: str, use_wildcard: bool, node_name: str) -> list[Any]:
    """The parameters of a file; where the file has a section of this very node, those of other nodes are left out."""
    from rclpy.parameter import parameter_dict_from_yaml_file

    def read(targets: list[str] | None) -> list[Any]:
        return list(parameter_dict_from_yaml_file(path, use_wildcard, targets).values())

    try:
        try:
            return read([node_name])
        except RuntimeError:  # no such section: then all of them, as the original reads it
            return read(None)
    except OSError as error:
        raise CliError(f"cannot read the parameter file '{path}': {error.strerror}") from None
    except (RuntimeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise CliError(f"parameter file '{path}': {' '.join(str(error).split())}") from None
