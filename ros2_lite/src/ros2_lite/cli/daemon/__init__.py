"""`ros2 daemon`: there is none here, and scripts that ask are told so."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import verbs

VERBS = {
    "start": "Start the daemon if it isn't running",
    "status": "Output the status of the daemon",
    "stop": "Stop the daemon if it is running",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return verbs.run("daemon", VERBS, arguments)
