"""`ros2 topic bw`."""

from __future__ import annotations

import argparse
import time
from collections import deque
from typing import Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import positive_int
from ros2_lite.cli.topic.hz import subscribe

WINDOW = 100
_PERIOD = 1.0  # [s] between reports
_UNITS = ((1e6, "MB", 2), (1e3, "KB", 2), (1.0, "B", 0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", help="Topic name to monitor for bandwidth utilization")
    parser.add_argument(
        "-w",
        "--window",
        type=positive_int,
        default=WINDOW,
        metavar="WINDOW",
        help=f"maximum window size, in # of messages, for calculating rate (default: {WINDOW})",
    )
    graph.add_node_arguments(parser)


def report(arrivals: list[tuple[float, int]], now: float) -> str | None:
    """The two lines of a report of (time [s], size [bytes]) at `now` [s]; None of fewer than two messages."""
    if len(arrivals) < 2 or now <= arrivals[0][0]:
        return None
    sizes = [size for _, size in arrivals]
    rate = sum(sizes) / (now - arrivals[0][0])
    # One unit for all four figures, that of the rate.
    scale, unit, digits = next((entry for entry in _UNITS if rate >= entry[0]), _UNITS[-1])
    bandwidth, mean, least, most = (
        f"{value / scale:.{digits}f} {unit}" for value in (rate, sum(sizes) / len(sizes), min(sizes), max(sizes))
    )
    return f"{bandwidth}/s from {len(sizes)} messages\n\tMessage size mean: {mean} min: {least} max: {most}"


def main(args: argparse.Namespace) -> int:
    arrivals: deque[tuple[float, int]] = deque(maxlen=args.window)

    def arrived(data: Any) -> None:
        arrivals.append((time.monotonic(), len(data)))

    with graph.cli_node(use_sim_time=args.use_sim_time) as node:
        subscribe(node, graph.absolute(args.topic), arrived, raw=True)
        print(f"Subscribed to [{graph.absolute(args.topic)}]", flush=True)
        while True:
            graph.spin_until(node, lambda: False, _PERIOD)
            text = report(list(arrivals), time.monotonic())
            if text is not None:
                print(text, flush=True)
