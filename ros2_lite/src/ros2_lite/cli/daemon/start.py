"""`ros2 daemon start`."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--debug", action="store_true", help="Print debug messages")


def main(args: argparse.Namespace) -> None:
    del args
    print("ros2_lite has no daemon and needs none: each command looks at the graph itself", file=sys.stderr)
