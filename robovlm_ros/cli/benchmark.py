"""Measure how fast parts of this package are on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from robovlm_ros.cli import (
    benchmark_all,
    benchmark_control,
    benchmark_convert,
    benchmark_data,
    benchmark_forward,
    benchmark_record,
    benchmark_training,
    benchmark_transport,
)
from robovlm_ros.cli.command import parser, run

PARTS = (
    benchmark_all,
    benchmark_control,
    benchmark_convert,
    benchmark_data,
    benchmark_forward,
    benchmark_record,
    benchmark_training,
    benchmark_transport,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``ros2 run robovlm_ros benchmark``."""

    def command() -> int:
        top = parser("benchmark", __doc__)
        commands = top.add_subparsers(title="what to measure", required=True, metavar="WHAT")
        for part in PARTS:
            part.add_command(commands)
        options = top.parse_args(arguments)
        status: int = options.command(options)
        return status

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
