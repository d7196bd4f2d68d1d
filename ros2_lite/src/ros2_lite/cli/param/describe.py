"""`ros2 param describe`."""

from __future__ import annotations

import argparse
from typing import Any

from ros2_lite.cli import graph, parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)
    parser.add_argument("parameter_names", nargs="+", help="Names of the parameters")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
        for descriptor in parameters.describe(node, name, args.parameter_names):
            print(text(descriptor))


def text(descriptor: Any) -> str:
    """The lines about one rcl_interfaces/msg/ParameterDescriptor."""
    lines = [f"Parameter name: {descriptor.name}", f"  Type: {parameters.type_name(descriptor.type)}"]
    if descriptor.description:
        lines.append(f"  Description: {descriptor.description}")
    lines.append("  Constraints:")
    if descriptor.read_only:
        lines.append("    Read only: true")
    for limits in [*descriptor.floating_point_range, *descriptor.integer_range][:1]:
        lines += [f"    Min value: {limits.from_value}", f"    Max value: {limits.to_value}"]
        if limits.step:
            lines.append(f"    Step: {limits.step}")
    if descriptor.additional_constraints:
        lines.append(f"    Additional constraints: {descriptor.additional_constraints}")
    return "\n".join(lines)
