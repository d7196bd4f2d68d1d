"""`ros2 topic pub`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from ros2_lite.cli import graph, qos
from ros2_lite.cli.errors import CliError, count, positive_float
from ros2_lite.cli.values import get_message, parse_values, set_message_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic_name", help="Name of the ROS topic to publish to (e.g. '/chatter')")
    parser.add_argument("message_type", help="Type of the ROS message (e.g. 'std_msgs/msg/String')")
    parser.add_argument(
        "values",
        nargs="?",
        default="{}",
        help="Values to fill the message with in YAML format (e.g. 'data: Hello World'); a Header may be 'auto' and a "
        "Time 'now'; otherwise the message will be published with default values",
    )
    parser.add_argument("--stdin", action="store_true", help="Read values from standard input")
    parser.add_argument(
        "-r", "--rate", metavar="N", type=positive_float, default=1.0, help="Publishing rate in Hz (default: 1)"
    )
    parser.add_argument(
        "-p", "--print", metavar="N", type=count, default=1, help="Only print every N-th published message (default: 1)"
    )
    times = parser.add_mutually_exclusive_group()
    times.add_argument("-1", "--once", action="store_true", help="Publish one message and exit")
    times.add_argument("-t", "--times", type=count, default=0, help="Publish this number of times and then exit")
    parser.add_argument(
        "-w",
        "--wait-matching-subscriptions",
        type=count,
        help="Wait until finding the specified number of matching subscriptions (default: 1 with --once or --times)",
    )
    parser.add_argument(
        "--max-wait-time-secs", type=positive_float, help="The longest wait for subscriptions in seconds"
    )
    parser.add_argument(
        "--keep-alive",
        metavar="N",
        type=positive_float,
        default=0.1,
        help="Keep publishing node alive for N seconds after the last msg (default: 0.1)",
    )
    parser.add_argument("-n", "--node-name", help="Name of the created publishing node")
    qos.add_qos_arguments(parser, "publish", "default")
    graph.add_node_arguments(parser)


def main(args: argparse.Namespace) -> int:
    times = 1 if args.once else args.times
    wait_for = args.wait_matching_subscriptions
    if wait_for is None:
        wait_for = int(times != 0)
    if not wait_for and args.max_wait_time_secs is not None:
        raise CliError(
            "--max-wait-time-secs option is only effective with --wait-matching-subscriptions, --once or --times"
        )
    message = get_message(args.message_type)()
    stamps = set_message_fields(message, parse_values(sys.stdin.read() if args.stdin else args.values))
    with graph.cli_node(args.node_name, use_sim_time=args.use_sim_time) as node:
        publisher = node.create_publisher(type(message), args.topic_name, qos.profile(args))
        _wait_for_subscriptions(node, publisher, wait_for, args.max_wait_time_secs)
        print("publisher: beginning loop", flush=True)
        published = 0

        def publish() -> None:
            nonlocal published
            if times and published >= times:
                return
            now = node.get_clock().now().to_msg()
            for set_stamp in stamps:
                set_stamp(now)
            published += 1
            if args.print and published % args.print == 0:
                print(f"publishing #{published}: {message!r}\n", flush=True)
            publisher.publish(message)

        publish()
        if times != 1:
            node.create_timer(1.0 / args.rate, publish)
        graph.spin_until(node, lambda: bool(times) and published >= times, None)
        time.sleep(args.keep_alive)  # the last message may still be on its way
    return 0


def _wait_for_subscriptions(node: Any, publisher: Any, count: int, timeout: float | None) -> None:
    """Wait for so many subscriptions, and say so each second; CliError after `timeout` [s]."""
    begin = next_word = time.monotonic()
    deadline = float("inf") if timeout is None else begin + timeout
    wait = 0.0
    while not graph.spin_until(node, lambda: publisher.get_subscription_count() >= count, wait):
        now = time.monotonic()
        if now >= next_word:
            print(f"Waiting for at least {count} matching subscription(s)...", flush=True)
            next_word += 1.0
        if now >= deadline:
            raise CliError(
                f"Timed out waiting for subscribers: Expected {count} subcribers but only got "
                f"{publisher.get_subscription_count()} subscribers"
            )
        wait = min(next_word, deadline) - now
