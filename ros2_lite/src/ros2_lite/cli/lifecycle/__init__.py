"""`ros2 lifecycle`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "get": "Get lifecycle state for one or more nodes",
    "list": "Output a list of available transitions",
    "nodes": "Output a list of nodes with lifecycle",
    "set": "Trigger lifecycle state transition",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("lifecycle", VERBS, arguments)
