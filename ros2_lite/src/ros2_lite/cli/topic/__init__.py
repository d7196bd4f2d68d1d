"""`ros2 topic`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "bw": "Display bandwidth used by topic",
    "delay": "Display delay of topic from timestamp in header",
    "echo": "Output messages from a topic",
    "find": "Output a list of available topics of a given type",
    "hz": "Print the average publishing rate to screen",
    "info": "Print information about a topic",
    "list": "Output a list of available topics",
    "pub": "Publish a message to a topic",
    "type": "Print a topic's type",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("topic", VERBS, arguments, "--include-hidden-topics")
