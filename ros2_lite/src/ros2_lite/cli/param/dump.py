"""`ros2 param dump`."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from ros2_lite.cli import graph, parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parameters.add_node_arguments(parser)


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        name = parameters.find_node(node, args)
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
