"""`ros2 interface list`."""

from __future__ import annotations

import argparse

from ros2_lite.cli.interface.packages import add_kind_arguments, kinds
from ros2_lite.messages import registry

_TITLES = {"msg": "Messages", "srv": "Services", "action": "Actions"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kind_arguments(parser, "Print out only the {} types")


def main(args: argparse.Namespace) -> None:
    for kind in kinds(args):
        print(f"{_TITLES[kind]}:")
        for package in registry.packages():
            for name in registry.names(package, kind):
                print(f"    {package}/{kind}/{name}")
