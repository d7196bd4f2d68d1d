"""`ros2 param`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "delete": "Delete parameter",
    "describe": "Show descriptive information about declared parameters",
    "dump": "Show all of the parameters of a node in a YAML file format",
    "get": "Get parameter",
    "list": "Output a list of available parameters",
    "load": "Load parameter file for a node",
    "set": "Set parameter",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("param", VERBS, arguments)
