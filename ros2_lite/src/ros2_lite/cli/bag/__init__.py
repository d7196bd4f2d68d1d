"""`ros2 bag`: a verb is a module of this package and a line below."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ros2_lite.bags.metadata import BagError
from ros2_lite.cli import verbs
from ros2_lite.cli.errors import CliError

VERBS = {
    "info": "Print information about a bag to the screen",
    "play": "Play back ROS data from a bag",
    "record": "Record ROS data to a bag",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    try:
        return verbs.run("bag", VERBS, arguments)
    except BagError as error:
        raise CliError(str(error)) from None


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """What the verbs that read a bag have in common."""
    parser.add_argument("bag_path", type=_existing, help="Bag to open")
    parser.add_argument(
        "-s", "--storage", choices=("mcap", "sqlite3"), help="Accepted: the storage of a bag is known from the bag"
    )


def _existing(text: str) -> str:
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"Bag path '{text}' does not exist!")
    return text
