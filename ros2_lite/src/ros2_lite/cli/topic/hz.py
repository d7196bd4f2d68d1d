"""`ros2 topic hz`."""

from __future__ import annotations

import argparse
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, positive_int
from ros2_lite.cli.values import get_message, message_filter

WINDOW = 10000
_PERIOD = 1.0  # [s] between reports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic_name", nargs="+", help="Names of the ROS topic to listen to (e.g. '/chatter')")
    parser.add_argument(
        "-w",
        "--window",
        type=positive_int,
        default=WINDOW,
        metavar="WINDOW",
        help=f"window size, in # of messages, for calculating rate (default: {WINDOW})",
    )
    parser.add_argument(
        "--filter", metavar="EXPR", help="only measure messages matching the Python expression; m is the message"
    )
    parser.add_argument(
        "--wall-time", action="store_true", help="Rates of wall time also where --use-sim-time is given"
    )
    graph.add_node_arguments(parser)


class Rate:
    """The intervals between the arrivals of the last messages."""

    def __init__(self, window: int) -> None:
        self._intervals: deque[float] = deque(maxlen=window)
        self._last: float | None = None
        self._is_new = False

    def arrived(self, now: float) -> None:
        """A message came at `now` [s]."""
        if now <= 0.0:
            return  # simulated time that nobody has told yet
        if self._last is not None and now < self._last:
            print("time has reset, resetting counters", flush=True)
            self._intervals.clear()
        elif self._last is not None:
            self._intervals.append(now - self._last)
            self._is_new = True
        self._last = now

    def report(self) -> tuple[float, float, float, float, int] | None:
        """Rate [Hz], min, max and standard deviation of the interval [s], window; None without a new message."""
        if not self._is_new:
            return None
        self._is_new = False
        intervals = list(self._intervals)
        mean = math.fsum(intervals) / len(intervals)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in intervals) / len(intervals))
        return (1.0 / mean if mean > 0 else 0.0), min(intervals), max(intervals), deviation, len(intervals)


def main(args: argparse.Namespace) -> int:
    fits = message_filter(args.filter)
    rates = {graph.absolute(name): Rate(args.window) for name in args.topic_name}
    with graph.cli_node(use_sim_time=args.use_sim_time) as node:

        def now() -> float:
            if args.use_sim_time and not args.wall_time:
                return float(node.get_clock().now().nanoseconds) * 1e-9
            return time.perf_counter()

        try:
            for name, rate in rates.items():

                def arrived(message: Any, rate: Rate = rate) -> None:
                    if fits(message):
                        rate.arrived(now())

                # Raw without a filter: a camera's rate does not depend on how fast its images are decoded here.
                subscribe(node, name, arrived, raw=args.filter is None)
                if len(rates) > 1:
                    print(f"Subscribed to [{name}]", flush=True)
            while True:
                graph.spin_until(node, lambda: False, _PERIOD)
                _print(rates)
        except KeyboardInterrupt:
            return 0


def subscribe(node: Any, name: str, callback: Callable[[Any], None], *, raw: bool) -> None:
    """Wait until a topic is there, and listen to it."""
    from rclpy.qos import qos_profile_sensor_data

    try:
        type_name = graph.find_topic(node, name)
    except CliError:
        print(f"WARNING: topic [{name}] does not appear to be published yet", flush=True)
        type_name = graph.find_topic(node, name, None)
    node.create_subscription(get_message(type_name), name, callback, qos_profile_sensor_data, raw=raw)


def _print(rates: dict[str, Rate]) -> None:
    reports = {name: report for name, rate in rates.items() if (report := rate.report()) is not None}
    if len(rates) == 1:
        for rate, least, most, deviation, window in reports.values():
            print(f"average rate: {rate:.3f}")
            print(f"\tmin: {least:.3f}s max: {most:.3f}s std dev: {deviation:.5f}s window: {window}", flush=True)
        return
    if reports:
        header = ["topic", "rate", "min_delta", "max_delta", "std_dev", "window"]
        rows = [
            [name, f"{r[0]:.3f}", f"{r[1]:.3f}", f"{r[2]:.3f}", f"{r[3]:.5f}", str(r[4])] for name, r in reports.items()
        ]
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        print("   ".join(text.center(width) for text, width in zip(header, widths, strict=True)))
        print("=" * (sum(widths) + 3 * (len(header) - 1)))
        for row in rows:
            print("   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
        print(flush=True)
