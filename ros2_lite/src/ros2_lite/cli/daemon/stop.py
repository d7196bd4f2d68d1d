"""`ros2 daemon stop`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(args: argparse.Namespace) -> None:
    del args
    print("The daemon is not running")
