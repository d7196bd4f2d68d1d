"""`ros2 service`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "call": "Call a service",
    "echo": "Echo a service",
    "find": "Output a list of available services of a given type",
    "info": "Print information about a service",
    "list": "Output a list of available services",
    "type": "Output a service's type",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("service", VERBS, arguments, "--include-hidden-services")
