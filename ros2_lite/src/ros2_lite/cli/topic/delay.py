"""`ros2 topic delay`."""

from __future__ import annotations

import argparse
import math
from collections import deque
from typing import Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, positive_int
from ros2_lite.cli.topic.hz import subscribe

WINDOW = 10000
_PERIOD = 1.0  # [s] between reports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", help="Topic name to calculate the delay for")
    parser.add_argument(
        "-w",
        "--window",
        type=positive_int,
        default=WINDOW,
        metavar="WINDOW",
        help=f"window size, in # of messages, for calculating rate (default: {WINDOW})",
    )
    graph.add_node_arguments(parser)


def report(delays: list[float]) -> str:
    """The two lines of a report of delays [s]."""
    mean = math.fsum(delays) / len(delays)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in delays) / len(delays))
    return (
        f"average delay: {mean:.3f}\n\tmin: {min(delays):.3f}s max: {max(delays):.3f}s "
        f"std dev: {deviation:.5f}s window: {len(delays)}"
    )


def main(args: argparse.Namespace) -> int:
    delays: deque[float] = deque(maxlen=args.window)
    is_new = False
    with graph.cli_node(use_sim_time=args.use_sim_time) as node:

        def arrived(message: Any) -> None:
            nonlocal is_new
            if not hasattr(message, "header"):
                raise CliError("msg does not have header", "and so no time to measure from")
            now = node.get_clock().now().nanoseconds
            if now:  # simulated time may not have been told yet
                stamp = message.header.stamp
                delays.append((now - stamp.sec * 1_000_000_000 - stamp.nanosec) * 1e-9)
                is_new = True

        subscribe(node, graph.absolute(args.topic), arrived, raw=False)
        while True:
            graph.spin_until(node, lambda: False, _PERIOD)
            if is_new:
                print(report(list(delays)), flush=True)
            elif delays:
                print("no new messages", flush=True)
            is_new = False
