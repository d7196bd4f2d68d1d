"""`ros2 interface`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "list": "List all interface types available",
    "package": "Output a list of available interface types within one package",
    "packages": "Output a list of packages that provide interfaces",
    "proto": "Output an interface prototype",
    "show": "Output the interface definition",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("interface", VERBS, arguments)
