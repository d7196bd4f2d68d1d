"""`ros2 bag info`."""

from __future__ import annotations

import argparse
import time

from ros2_lite.bags.metadata import BagInfo
from ros2_lite.bags.reader import Bag
from ros2_lite.cli.bag import add_reader_arguments

_INDENT = " " * 19
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reader_arguments(parser)
    parser.add_argument("-t", "--topic-name", action="store_true", help="Only display topic names.")
    parser.add_argument("-v", "--verbose", action="store_true", help="Accepted: there is no more to tell of services")


def main(args: argparse.Namespace) -> None:
    info = Bag(args.bag_path).info
    if args.topic_name:
        for topic in info.topics:
            print(topic.name)
    else:
        print(text(info))


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"


def _moment(time_ns: int) -> str:
    """Local time, and seconds since the epoch."""
    local = time.localtime(time_ns // 10**9)
    day = f"{time.strftime('%b', local)} {local.tm_mday:2d} {local.tm_year}"
    return f"{day} {time.strftime('%H:%M:%S', local)}.{time_ns % 10**9:09d} ({_seconds(time_ns)})"


def _size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.{1 if unit else 0}f} {_UNITS[unit]}"


def text(info: BagInfo) -> str:
    """The description of a bag, as rosbag2 lays it out."""
    topics = [
        f"Topic: {topic.name} | Type: {topic.type} | Count: {topic.count} | "
        f"Serialization Format: {topic.serialization_format}"
        for topic in info.topics
    ]
    rows = (
        ("Files:", f"\n{_INDENT}".join(one.path for one in info.files)),
        ("Bag size:", _size(info.size)),
        ("Storage id:", info.storage),
        ("ROS Distro:", info.ros_distro or "unknown"),
        ("Duration:", f"{_seconds(max(0, info.end_ns - info.start_ns))}s"),
        ("Start:", _moment(info.start_ns)),
        ("End:", _moment(info.end_ns)),
        ("Messages:", str(info.count)),
        ("Topic information:", f"\n{_INDENT}".join(topics)),
        ("Service:", "0"),
    )
    lines = [f"{title:<19}{value}" for title, value in rows]
    return "\n" + "\n".join(lines) + "\nService information: "
