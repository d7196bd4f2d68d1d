"""`ros2 interface package`."""

from __future__ import annotations

import argparse

from ros2_lite.cli.errors import CliError, choices
from ros2_lite.cli.interface.packages import add_kind_arguments, kinds
from ros2_lite.messages import registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kind_arguments(parser, "Print out only the {} types")
    parser.add_argument("package_name", help="Name of the ROS package (e.g. 'std_msgs')")


def main(args: argparse.Namespace) -> None:
    package = args.package_name
    if package not in registry.packages():
        raise CliError(f"Unknown package '{package}'", f"packages are: {choices(registry.packages())}")
    for kind in kinds(args):
        for name in registry.names(package, kind):
            print(f"{package}/{kind}/{name}")
