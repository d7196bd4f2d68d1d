"""`ros2 action`: a verb is a module of this package and a line below."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "info": "Print information about an action",
    "list": "Output a list of action names",
    "send_goal": "Send an action goal",
    "type": "Print a action's type",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("action", VERBS, arguments)
