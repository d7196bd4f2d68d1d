"""`ros2 interface list`."""

from __future__ import annotations

import argparse

from ros2_lite.messages import registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--only-msgs", action="store_true", help="Print out only the message types")
    parser.add_argument("-s", "--only-srvs", action="store_true", help="Print out only the service types")


def main(args: argparse.Namespace) -> None:
    both = args.only_msgs == args.only_srvs
    for kind, title, wanted in (("msg", "Messages", args.only_msgs), ("srv", "Services", args.only_srvs)):
        if both or wanted:
            print(f"{title}:")
            for package in registry.packages():
                for name in registry.names(package, kind):
                    print(f"    {package}/{kind}/{name}")
    if both:
        print("Actions:")
