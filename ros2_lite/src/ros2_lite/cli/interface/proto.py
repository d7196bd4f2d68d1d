"""`ros2 interface proto`."""

from __future__ import annotations

import argparse

from ros2_lite.cli.values import get_action, get_message, get_service, message_to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "type", help="The interface (e.g. 'std_msgs/msg/String'); of a service, its request, of an action, its goal"
    )
    parser.add_argument("--no-quotes", action="store_true", help="if true output has no outer quotes.")


def main(args: argparse.Namespace) -> None:
    kind = args.type.split("/")[1:2]
    if kind == ["srv"]:
        message = get_service(args.type).Request()
    else:
        message = get_action(args.type).Goal() if kind == ["action"] else get_message(args.type)()
    text = message_to_yaml(message)
    print(text if args.no_quotes else f'"{text}"')
