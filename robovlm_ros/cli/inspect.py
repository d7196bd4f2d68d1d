"""Look at what was recorded, at what learns, and at what was learned."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from robovlm_ros.cli import inspect_cache, inspect_episodes, inspect_replay, inspect_token, inspect_trainable
from robovlm_ros.cli.command import parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``ros2 run robovlm_ros inspect``."""

    def command() -> int:
        top = parser("inspect", __doc__)
        commands = top.add_subparsers(title="what to look at", required=True, metavar="WHAT")
        for part in (inspect_episodes, inspect_trainable, inspect_token, inspect_replay, inspect_cache):
            part.add_command(commands)
        options = top.parse_args(arguments)
        status: int = options.command(options)
        return status

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
