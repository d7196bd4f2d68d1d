"""The ``ros2`` command.

Each command lives in a module of its own that is imported when it is used; `launch`, `run` and `pkg` never load DDS.
Where a real ROS 2 is in use, the command steps aside for the ``ros2`` that follows on PATH.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

COMMANDS = {
    "action": "Various action related sub-commands",
    "bag": "Various rosbag related sub-commands",
    "daemon": "Various daemon related sub-commands",
    "doctor": "Check ROS setup and other potential issues",
    "interface": "Show information about ROS interfaces",
    "launch": "Run a launch file",
    "lifecycle": "Various lifecycle related sub-commands",
    "multicast": "Various multicast related sub-commands",
    "node": "Various node related sub-commands",
    "param": "Various param related sub-commands",
    "pkg": "Various package related sub-commands",
    "run": "Run a package specific executable",
    "service": "Various service related sub-commands",
    "topic": "Various topic related sub-commands",
    "wtf": "Use `wtf` as alias to `doctor`",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; bad input is one line on stderr and a non-zero code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from ros2_lite.cli.errors import CliError

    try:
        _step_aside(arguments)
        return _dispatch(arguments)
    except CliError as error:
        error.report()
        return 1
    except KeyboardInterrupt:
        return int(signal.SIGINT)
    except BrokenPipeError:  # `ros2 topic echo ... | head`
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: list[str]) -> int:
    import argparse

    from ros2_lite.cli.errors import Parser

    listing = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="ros2",
        description="ros2 is an extensible command-line tool for ROS 2; this one is ros2_lite's.",
        usage="%(prog)s [-h] COMMAND ...",
        epilog=f"Commands:\n{listing}\n\n  Call `ros2 COMMAND -h` for more detailed usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, nargs="?", help=argparse.SUPPRESS)
    if not arguments:
        parser.print_help()
        return 0
    command = parser.parse_args(arguments[:1]).command
    import importlib

    module = importlib.import_module(f"ros2_lite.cli.{command}")
    return int(module.main(arguments[1:]) or 0)


def _step_aside(arguments: list[str]) -> None:
    """Become the real ``ros2`` where a real ROS 2 is in use; return where this one is to go on."""
    from ros2_lite.cli.errors import CliError
    from ros2_lite.select import FINDER, decide

    try:
        decision = FINDER.decision or decide()[0]
    except ImportError as error:
        raise CliError(str(error)) from None
    if decision != "real":
        return
    here = os.path.realpath(sys.argv[0])
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(folder, "ros2")
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate) and os.path.realpath(candidate) != here:
            os.execv(candidate, [candidate, *arguments])
    raise CliError(
        "a real ROS 2 is in use here, but no other `ros2` command is on PATH: source its setup.bash, "
        "or set ROS2_LITE=always to use ros2_lite instead of it"
    )
