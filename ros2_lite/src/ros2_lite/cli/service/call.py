"""`ros2 service call`."""

from __future__ import annotations

import argparse
import sys
import time

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, positive_float
from ros2_lite.cli.values import get_service, parse_values, set_message_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service_name", help="Name of the ROS service to call to (e.g. '/add_two_ints')")
    parser.add_argument("service_type", help="Type of the ROS service (e.g. 'std_srvs/srv/Empty')")
    parser.add_argument(
        "values",
        nargs="?",
        default="{}",
        help="Values to fill the service request with in YAML format (e.g. '{a: 1, b: 2}'), otherwise the service "
        "request will be published with default values",
    )
    parser.add_argument("--stdin", action="store_true", help="Read values from standard input")
    parser.add_argument(
        "-r", "--rate", metavar="N", type=positive_float, help="Repeat the call at a specific rate in Hz"
    )
    parser.add_argument(
        "--timeout", metavar="N", type=positive_float, help="Give up after N seconds without service or response"
    )


def main(args: argparse.Namespace) -> int:
    import rclpy

    service = get_service(args.service_type)
    request = service.Request()
    set_message_fields(request, parse_values(sys.stdin.read() if args.stdin else args.values))
    with graph.cli_node() as node:
        client = node.create_client(service, args.service_name)
        if not client.wait_for_service(timeout_sec=0.2):
            print("waiting for service to become available...", flush=True)
            if not client.wait_for_service(timeout_sec=args.timeout):
                raise CliError(f"the service '{args.service_name}' did not become available in {args.timeout:g} s")
        while True:
            print(f"requester: making request: {request!r}\n", flush=True)
            begin = time.monotonic()
            future = client.call_async(request)
            rclpy.spin_until_future_complete(node, future, timeout_sec=args.timeout)
            if not future.done():
                raise CliError(f"the service '{args.service_name}' did not answer within {args.timeout:g} s")
            if future.exception() is not None:
                raise CliError(f"Exception while calling service: {future.exception()!r}")
            print(f"response:\n{future.result()!r}\n", flush=True)
            if args.rate is None:
                return 0
            time.sleep(max(0.0, begin + 1.0 / args.rate - time.monotonic()))
