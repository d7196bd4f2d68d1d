"""`ros2 multicast`: whether this network carries multicast, by which participants find each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ros2_lite.cli import verbs
from ros2_lite.cli.errors import positive_int

VERBS = {
    "receive": "Receive a single UDP multicast packet",
    "send": "Send a single UDP multicast packet",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("multicast", VERBS, arguments)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of both verbs."""
    parser.add_argument("--group", default="225.0.0.1", help="The multicast group address (default: %(default)s)")
    parser.add_argument("--port", type=positive_int, default=49150, help="The multicast port (default: %(default)s)")
