"""`ros2 param dump`."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import positive_float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", help="Name of the ROS node")
    parser.add_argument(
        "--timeout",
        metavar="N",
        type=positive_float,
        default=graph.KNOWN_WITHIN,
        help="Wait for N seconds until node becomes available (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = graph.find_node(node, args.node_name, args.timeout).full
        names = parameters.list_names(node, name)
        values = parameters.get(node, name, names) if names else []
    tree: dict[str, Any] = {}
    for parameter, value in zip(names, values, strict=True):
        *groups, last = parameter.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = parameters.to_python(value)
    print(yaml.safe_dump({name: {"ros__parameters": tree}}, default_flow_style=False, allow_unicode=True))
