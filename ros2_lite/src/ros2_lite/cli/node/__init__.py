"""`ros2 node`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "info": "Output information about a node",
    "list": "Output a list of available nodes",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("node", VERBS, arguments)
