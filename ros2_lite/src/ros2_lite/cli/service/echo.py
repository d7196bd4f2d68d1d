"""`ros2 service echo`: the events of services whose introspection is on."""

from __future__ import annotations

import argparse
from typing import Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError
from ros2_lite.cli.topic.echo import add_length_arguments
from ros2_lite.cli.values import dict_to_yaml, get_service, message_to_csv, message_to_dict

_KINDS = ("REQUEST_SENT", "REQUEST_RECEIVED", "RESPONSE_SENT", "RESPONSE_RECEIVED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service_name", help="Name of the ROS service to echo (e.g. '/add_two_ints')")
    parser.add_argument("service_type", nargs="?", help="Type of the ROS service (e.g. 'std_srvs/srv/Trigger')")
    parser.add_argument("--csv", action="store_true", help="Output all recursive fields separated by commas")
    add_length_arguments(parser)


def main(args: argparse.Namespace) -> None:
    from rclpy.qos import qos_profile_services_default
    from rclpy.service_introspection import TOPIC_POSTFIX

    options = {
        "truncate": None if args.full_length else args.truncate_length,
        "no_arr": args.no_arr,
        "no_str": args.no_str,
    }

    def show(message: Any) -> None:
        if args.csv:
            print(message_to_csv(message, **options), flush=True)
            return
        values = message_to_dict(message, **options)
        values["info"]["event_type"] = _KINDS[values["info"]["event_type"]]
        print(f"{dict_to_yaml(values, args.flow_style)}---", flush=True)

    name = graph.absolute(args.service_name)
    with graph.cli_node() as node:
        service_type = get_service(args.service_type or _type_of(node, name))
        subscription = node.create_subscription(
            service_type.Event, f"{name}{TOPIC_POSTFIX}", show, qos_profile_services_default
        )
        if not graph.spin_until(node, lambda: subscription.get_publisher_count() > 0, graph.KNOWN_WITHIN):
            print(
                f"No publishers on topic '{args.service_name}{TOPIC_POSTFIX}';"
                " is service introspection on the client or server enabled?",
                flush=True,
            )
        graph.spin_until(node, lambda: False, None)


def _type_of(node: Any, name: str) -> str:
    def types() -> list[str]:
        return next((list(types) for known, types in graph.services(node, True) if known == name), [])

    if not graph.spin_until(node, lambda: bool(types()), graph.KNOWN_WITHIN):
        raise CliError("Could not load the type for the passed service", f"nobody offers or calls '{name}' here")
    return types()[0]
