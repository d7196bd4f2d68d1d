"""`ros2 interface show`."""

from __future__ import annotations

import argparse
import re
import sys

from ros2_lite.cli.errors import CliError, choices
from ros2_lite.messages import registry

_NESTED = re.compile(r"([A-Za-z]\w*(?:/[A-Za-z]\w*){0,2})(?:\[[<=\d]*\])?\s+[a-z]\w*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all-comments", action="store_true", help="Show comments of nested definitions as well")
    parser.add_argument("--no-comments", action="store_true", help="Show no comments or whitespace")
    parser.add_argument(
        "type", help="The interface (e.g. 'std_msgs/msg/String'); '-' reads it from stdin (ros2 topic type /x | ...)"
    )


def main(args: argparse.Namespace) -> None:
    name = sys.stdin.readline().strip() if args.type == "-" else args.type
    _show(name, comments=not args.no_comments, nested_comments=args.all_comments, depth=0)


def _text(name: str) -> str:
    parts = name.split("/")
    if len(parts) != 3 or parts[1] not in ("msg", "srv", "action"):
        raise CliError(f"Invalid name '{name}'. Expected three parts separated by '/', such as std_msgs/msg/String")
    package, kind, type_name = parts
    if package not in registry.packages():
        raise CliError(f"Unknown package '{package}'; packages are: {choices(registry.packages())}")
    known = registry.names(package, kind)
    if type_name not in known:
        raise CliError(f"Could not find the interface '{name}'", f"{package}/{kind} has: {choices(known, 60)}")
    return registry.text_of(package, kind, type_name)


def _show(name: str, *, comments: bool, nested_comments: bool, depth: int) -> None:
    package = name.split("/")[0]
    for line in _text(name).splitlines():
        code = line.partition("#")[0].rstrip()
        shown = line.rstrip() if comments else code
        if shown or comments:
            print("\t" * depth + shown if shown else "")
        nested = _nested(code, package)
        if nested:
            _show(nested, comments=nested_comments, nested_comments=nested_comments, depth=depth + 1)


def _nested(line: str, package: str) -> str | None:
    """The full name of the message that a line's field holds; None for other lines."""
    match = _NESTED.match(line.strip())
    if match is None or "=" in line.split("#")[0].replace("<=", ""):
        return None
    parts = match[1].split("/")
    if len(parts) == 1:
        if not parts[0][0].isupper():
            return None  # a primitive
        parts = ["std_msgs" if parts[0] == "Header" and package != "std_msgs" else package, parts[0]]
    return f"{parts[0]}/msg/{parts[-1]}"
