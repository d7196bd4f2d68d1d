"""`ros2 multicast send`."""

from __future__ import annotations

import argparse
import socket

from ros2_lite.cli import multicast
from ros2_lite.cli.errors import CliError, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    multicast.add_arguments(parser)
    parser.add_argument("--ttl", type=positive_int, help="The multicast TTL")


def main(args: argparse.Namespace) -> None:
    print("Sending one UDP multicast datagram...")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if args.ttl is not None:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, args.ttl)
        try:
            sender.sendto(b"Hello World!", (args.group, args.port))
        except (OSError, OverflowError) as error:
            raise CliError(f"cannot send to {args.group}:{args.port}: {error}") from None
