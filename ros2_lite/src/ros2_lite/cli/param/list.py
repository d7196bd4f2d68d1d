"""`ros2 param list`."""

from __future__ import annotations

import argparse
import re

from ros2_lite.cli import graph, parameters
from ros2_lite.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", nargs="?", help="Name of the ROS node; all by default")
    parser.add_argument("--filter", help="Only show parameters matching the regular expression")
    parser.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    parser.add_argument("--param-prefixes", nargs="+", default=[], help="Only list parameters with these prefixes")
    parser.add_argument("--param-type", action="store_true", help="Print parameter types with parameter names")


def main(args: argparse.Namespace) -> None:
    try:
        pattern = re.compile(args.filter or "")
    except re.error as error:
        raise CliError(f"--filter '{args.filter}' is no regular expression: {error}") from None
    with graph.cli_node() as node:
        if args.node_name:
            names = [graph.find_node(node, args.node_name, include_hidden=args.include_hidden_nodes).full]
        else:
            graph.discover(node, args.spin_time)
            names = sorted({item.full for item in graph.nodes(node, args.include_hidden_nodes)})
        for name in names:
            try:
                found = parameters.list_names(node, name, args.param_prefixes)
            except CliError as error:
                if args.node_name:
                    raise
                error.report()  # a node without parameter services hides no other
                continue
            found = [item for item in found if pattern.match(item)]
            if found and not args.node_name:
                print(f"{name}:")
            types = [d.type for d in parameters.describe(node, name, found)] if args.param_type else []
            for index, item in enumerate(found):
                print(f"  {item} (type: {parameters.type_name(types[index])})" if types else f"  {item}")
