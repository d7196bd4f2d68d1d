"""`ros2 topic echo`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import yaml

from ros2_lite.cli import graph, qos
from ros2_lite.cli.errors import CliError, count, positive_float
from ros2_lite.cli.values import (
    as_text,
    get_message,
    message_filter,
    message_to_csv,
    message_to_yaml,
    select_field,
)

TRUNCATE_LENGTH = 128
_KNOWN_WITHIN = 1.2  # [s] for a topic that is there already
_SETTLE = 0.1  # [s] for the endpoints of a topic whose name has just become known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("topic_name", help="Name of the ROS topic to listen to (e.g. '/chatter')")
    parser.add_argument("message_type", nargs="?", help="Type of the ROS message (e.g. 'std_msgs/msg/String')")
    qos.add_qos_arguments(parser, "subscribe", "sensor_data")
    parser.add_argument("--csv", action="store_true", help="Output all recursive fields separated by commas")
    parser.add_argument(
        "--field", help="Echo a selected field of a message; '.' selects sub-fields, e.g. --field pose.pose.position"
    )
    add_length_arguments(parser)
    parser.add_argument("--no-lost-messages", action="store_true", help="Don't report when a message is lost")
    parser.add_argument("--raw", action="store_true", help="Echo the raw binary representation")
    parser.add_argument(
        "--filter", metavar="EXPR", help="Python expression to filter messages that are printed; m is the message"
    )
    parser.add_argument("--once", action="store_true", help="Print the first message received and then exit.")
    parser.add_argument("--timeout", metavar="N", type=positive_float, help="Set a timeout in seconds for waiting")
    parser.add_argument("-i", "--include-message-info", action="store_true", help="Shows the associated message info")


def add_length_arguments(parser: argparse.ArgumentParser) -> None:
    """How much of a message is printed, and how; `service echo` has the same."""
    parser.add_argument(
        "-f", "--full-length", action="store_true", help="Output all elements of arrays, bytes and strings"
    )
    parser.add_argument(
        "-l",
        "--truncate-length",
        type=count,
        default=TRUNCATE_LENGTH,
        help=f"The length to truncate arrays, bytes and strings to (default: {TRUNCATE_LENGTH})",
    )
    parser.add_argument("--no-arr", action="store_true", help="Don't print array fields of messages")
    parser.add_argument("--no-str", action="store_true", help="Don't print string fields of messages")
    parser.add_argument("--flow-style", action="store_true", help="Print collections in the flow style")


def main(args: argparse.Namespace) -> int:
    path = None
    if args.field is not None:
        path = [part for part in args.field.split(".") if part]
        if not path:
            raise CliError(f"Invalid field value '{args.field}'")
    fits = message_filter(args.filter)
    with graph.cli_node(use_sim_time=args.use_sim_time) as node:
        name = graph.absolute(args.topic_name)
        type_name = args.message_type or _type_of(node, name, args.spin_time)
        message_class = get_message(type_name)
        if path and not args.raw:
            select_field(message_class(), path)  # a wrong name shows before the first message, not with it
        profile = qos.profile(args)
        if not qos.is_given(args):
            graph.spin_until(node, lambda: False, _SETTLE)
            _match_publishers(node, name, profile)
        return _echo(args, node, name, message_class, profile, path, fits)


def _type_of(node: Any, name: str, spin_time: float | None) -> str:
    try:
        return graph.find_topic(node, name, spin_time or _KNOWN_WITHIN)
    except CliError:
        print(f"WARNING: topic [{name}] does not appear to be published yet", flush=True)
        raise


def _match_publishers(node: Any, name: str, profile: Any) -> None:
    """Ask for what all publishers offer: reliable and transient local only where every one of them is."""
    from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy

    offers = [info.qos_profile for info in node.get_publishers_info_by_topic(name)]
    if not offers:
        return
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("reliability", QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT),
        ("durability", QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE),
    )
    for policy, strict, loose in pairs:
        strict_ones = sum(getattr(offer, policy) == strict for offer in offers)
        setattr(profile, policy, strict if strict_ones == len(offers) else loose)
        if 0 < strict_ones < len(offers):
            print(
                f"Some, but not all, publishers are offering {type(strict).__name__}.{strict.name}. "
                f"Falling back to {type(loose).__name__}.{loose.name} as it will connect to all publishers"
            )


def _echo(
    args: argparse.Namespace,
    node: Any,
    name: str,
    message_class: Any,
    profile: Any,
    path: Any,
    fits: Callable[[Any], bool],
) -> int:
    options = {
        "truncate": None if args.full_length else args.truncate_length,
        "no_arr": args.no_arr,
        "no_str": args.no_str,
    }
    received = 0

    def show(message: Any, info: Any) -> None:
        nonlocal received
        if args.once and received:
            return
        value = message if args.raw or path is None else select_field(message, path)
        if not fits(value):
            return
        received += 1
        if not hasattr(value, "get_fields_and_field_types"):
            if args.include_message_info:
                print(f"---Got new message, message info:---\n{info}\n---Message data:---")
            print(value if args.raw else as_text(value), end="\n---\n", flush=True)
        elif args.csv:
            stamps = ",".join(map(str, info.values())) + "," if args.include_message_info else ""
            print(stamps + message_to_csv(value, **options), flush=True)
        else:
            if args.include_message_info:
                print(yaml.safe_dump(dict(info)), end="---\n")
            print(message_to_yaml(value, flow_style=args.flow_style, **options), end="---\n", flush=True)

    node.create_subscription(
        message_class, name, show, profile, raw=args.raw, event_callbacks=None if args.no_lost_messages else _losses()
    )
    begin = time.monotonic()

    def done() -> bool:
        too_late = args.timeout is not None and time.monotonic() - begin > args.timeout
        return bool(args.once and received) or too_late

    graph.spin_until(node, done, None)
    return 0


def _losses() -> Any:
    """Callbacks that say when a message was lost."""
    from rclpy.event_handler import SubscriptionEventCallbacks

    def lost(status: Any) -> None:
        print(
            f"A message was lost!!!\n\ttotal count change:{status.total_count_change}"
            f"\n\ttotal count: {status.total_count}",
            end="---\n",
            flush=True,
        )

    return SubscriptionEventCallbacks(message_lost=lost)
