"""`ros2 multicast receive`."""

from __future__ import annotations

import argparse
import socket
import struct

from ros2_lite.cli import multicast
from ros2_lite.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    multicast.add_arguments(parser)


def main(args: argparse.Namespace) -> None:
    print("Waiting for UDP multicast datagram...", flush=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            receiver.bind(("", args.port))
            member = struct.pack("4sl", socket.inet_aton(args.group), socket.INADDR_ANY)
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except (OSError, OverflowError) as error:
            raise CliError(f"cannot listen to {args.group}:{args.port}: {error}") from None
        data, (host, port) = receiver.recvfrom(4096)
    print(f"Received from {host}:{port}: '{data.decode(errors='replace')}'")
