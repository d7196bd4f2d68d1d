"""`ros2 doctor`: checks of this machine and of the graph, and reports about them.

What the original asks of the network (the newest version of each package of the distribution) is left out: there is no
distribution here.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ros2_lite.cli import graph
from ros2_lite.cli.errors import Parser

if TYPE_CHECKING:
    from rclpy.node import Node

_ALWAYS_ONE_SIDED = ("/parameter_events", "/rosout")
_FLAGS = (
    "UP", "BROADCAST", "DEBUG", "LOOPBACK", "PTP", "NOTRAILERS", "RUNNING", "NOARP", "PROMISC", "ALLMULTI", "MASTER",
    "SLAVE", "MULTICAST", "PORTSEL", "AUTOMEDIA", "DYNAMIC",
)  # fmt: skip
"""The bits of SIOCGIFFLAGS, from the lowest (netdevice(7))."""
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFMTU = 0x8921


class Finding(NamedTuple):
    """Something that is not as it should be."""

    is_error: bool
    text: str


Items = list[tuple[str, Any]]


class Category(NamedTuple):
    """A check, if the category has one, and its reports by title."""

    name: str
    check: Callable[[Node], list[Finding]] | None
    reports: dict[str, Callable[[Node], Items]]


def main(arguments: Sequence[str], prog: str = "ros2 doctor") -> int:
    """Run the command; 0 also where checks fail, as the original."""
    parser = Parser(prog=prog, description="Check ROS setup and other potential issues.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-r", "--report", action="store_true", help="Print all reports.")
    which.add_argument("-rf", "--report-failed", action="store_true", help="Print reports of failed checks only.")
    parser.add_argument("-ep", "--exclude-packages", action="store_true", help="Exclude package checks or report.")
    parser.add_argument("-iw", "--include-warnings", action="store_true", help="Include warnings as failed checks.")
    args = parser.parse_args(arguments)
    with graph.cli_node() as node:
        graph.discover(node, None)
        categories = [c for c in CATEGORIES if not (args.exclude_packages and c.name == "package")]
        if args.report:
            _print_reports(node, categories)
            return 0
        total, failed = 0, []
        for category in categories:
            if category.check is None:
                continue
            total += 1
            findings = category.check(node)
            for finding in findings:
                print(f"ros2doctor: UserWarning: {'ERROR: ' * finding.is_error}{finding.text}", file=sys.stderr)
            if any(finding.is_error or args.include_warnings for finding in findings):
                failed.append(category)
        if not failed:
            print(f"\nAll {total} checks passed\n")
            return 0
        print(f"\n{len(failed)}/{total} check(s) failed\n")
        print("Failed modules:", *(category.name for category in failed))
        if args.report_failed:
            _print_reports(node, failed)
    return 0


def _print_reports(node: Node, categories: Sequence[Category]) -> None:
    for category in categories:
        for title, report in category.reports.items():
            print("\n  ", title)
            items = report(node)
            longest = max((len(name) for name, _ in items), default=0)
            padding = longest + 4 if longest >= 8 else 8
            for name, value in items:
                print(f"{name:{padding}}: {value}")


# -- platform --------------------------------------------------------------------------------------------------------


def _check_platform(_: Node) -> list[Finding]:
    from ros2_lite import select

    reason = select.decide()[1]
    if os.environ.get("ROS_DISTRO"):
        return [Finding(False, f"ROS_DISTRO is {os.environ['ROS_DISTRO']}, but ros2_lite is in use: {reason}")]
    return []


def _report_platform(_: Node) -> Items:
    return [
        ("system", platform.system()),
        ("platform info", platform.platform()),
        ("release", platform.release()),
        ("processor", platform.processor()),
        ("python", f"{platform.python_version()} ({sys.executable})"),
    ]


def _report_ros(node: Node) -> Items:
    from ros2_lite import __version__, select

    reason = select.decide()[1]
    return [
        ("distribution name", f"ros2_lite {__version__} ({reason})"),
        ("domain", node.context.get_domain_id()),
        *((name.lower(), value) for name in _VARIABLES if (value := os.environ.get(name)) is not None),
    ]


_VARIABLES = (
    "ROS_DISTRO", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY", "RMW_IMPLEMENTATION",
    "CYCLONEDDS_URI", "AMENT_PREFIX_PATH",
)  # fmt: skip


# -- network ---------------------------------------------------------------------------------------------------------


def _interfaces() -> dict[str, set[str]]:
    """The network interfaces with their flags; empty where the system does not tell."""
    found: dict[str, set[str]] = {}
    for _, name in socket.if_nameindex():
        answer = _ask(name, _SIOCGIFFLAGS)
        if answer is not None:
            bits = int.from_bytes(answer[16:18], sys.byteorder)
            found[name] = {flag for index, flag in enumerate(_FLAGS) if bits & (1 << index)}
    return found


def _ask(interface: str, request: int) -> bytes | None:
    """What Linux answers about an interface, a ``struct ifreq``; None where it does not."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            return fcntl.ioctl(one.fileno(), request, interface.encode()[:15].ljust(256, b"\0"))
        except OSError:
            return None


def _check_network(_: Node) -> list[Finding]:
    flags = list(_interfaces().values())
    if not flags:
        return [Finding(False, f"Interface flags are not available on {platform.system()}.")]
    findings = []
    if not any("LOOPBACK" in one for one in flags):
        findings.append(Finding(True, "No loopback IP address is found."))
    if all("LOOPBACK" in one for one in flags):
        findings.append(Finding(False, "Only loopback IP address is found."))
    if not any("MULTICAST" in one for one in flags):
        findings.append(Finding(False, "No multicast IP address is found."))
    return findings


def _report_network(_: Node) -> Items:
    items: Items = []
    for name, flags in _interfaces().items():
        address = _ask(name, _SIOCGIFADDR)
        if address is not None:
            items.append(("inet", socket.inet_ntoa(address[20:24])))
        items += [("device", name), ("flags", f"<{','.join(flag for flag in _FLAGS if flag in flags)}>")]
        mtu = _ask(name, _SIOCGIFMTU)
        if mtu is not None:
            items.append(("mtu", int.from_bytes(mtu[16:20], sys.byteorder)))
    return items


# -- packages, topics, middleware ------------------------------------------------------------------------------------


def _report_packages(_: Node) -> Items:
    import xml.etree.ElementTree as ElementTree

    from ament_index_python.packages import get_package_share_directory, get_packages_with_prefixes

    items: Items = []
    for name in sorted(get_packages_with_prefixes()):
        try:
            share = get_package_share_directory(name)
            version = ElementTree.parse(os.path.join(share, "package.xml")).getroot().findtext("version")
        except (LookupError, OSError, ElementTree.ParseError):
            version = None
        items.append((name, f"latest=N/A, local={version or ''}"))
    return items


def _topics(node: Node) -> list[str]:
    return [name for name, _ in graph.topics(node, True) if name not in _ALWAYS_ONE_SIDED]


def _check_topics(node: Node) -> list[Finding]:
    findings = []
    for name in _topics(node):
        publishers, subscribers = node.count_publishers(name), node.count_subscribers(name)
        if publishers and not subscribers:
            findings.append(Finding(False, f"Publisher without subscriber detected on {name}."))
        elif subscribers and not publishers:
            findings.append(Finding(False, f"Subscriber without publisher detected on {name}."))
    return findings


def _report_topics(node: Node) -> Items:
    items: Items = []
    for name in _topics(node):
        items += [
            ("topic", name),
            ("publisher count", node.count_publishers(name)),
            ("subscriber count", node.count_subscribers(name)),
        ]
    return items or [("topic", "none"), ("publisher count", 0), ("subscriber count", 0)]


def _pairs(node: Node) -> list[tuple[str, Any, Any, Any, str]]:
    """Topic, publisher, subscription, their compatibility and why, of each pair in the graph."""
    from rclpy.qos import qos_check_compatible

    return [
        (name, publisher, subscription, *qos_check_compatible(publisher.qos_profile, subscription.qos_profile))
        for name, _ in graph.topics(node, True)
        for publisher in node.get_publishers_info_by_topic(name)
        for subscription in node.get_subscriptions_info_by_topic(name)
    ]


def _check_qos(node: Node) -> list[Finding]:
    from rclpy.qos import QoSCompatibility

    findings = []
    for name, _, _, compatibility, reason in _pairs(node):
        word = compatibility.name.lower()
        if compatibility != QoSCompatibility.OK:
            is_error = compatibility == QoSCompatibility.ERROR
            text = reason.removeprefix(f"{compatibility.name}: ")
            findings.append(Finding(is_error, f"QoS compatibility {word} found on topic '{name}': {text}"))
    return findings


def _report_qos(node: Node) -> Items:
    from rclpy.qos import QoSCompatibility

    items: Items = []
    for name, publisher, subscription, compatibility, reason in _pairs(node):
        items += [
            ("topic [type]", f"{name} [{publisher.topic_type}]"),
            ("publisher node", publisher.node_name),
            ("subscriber node", subscription.node_name),
            ("compatibility status", "OK" if compatibility == QoSCompatibility.OK else reason),
        ]
    return items or [("compatibility status", "No publisher/subscriber pairs found")]


def _report_rmw(_: Node) -> Items:
    from rclpy.utilities import get_rmw_implementation_identifier

    return [("middleware name", get_rmw_implementation_identifier())]


CATEGORIES = (
    Category("network", _check_network, {"NETWORK CONFIGURATION": _report_network}),
    Category("package", None, {"PACKAGE VERSIONS": _report_packages}),
    Category("platform", _check_platform, {"PLATFORM INFORMATION": _report_platform, "ROS 2 INFORMATION": _report_ros}),
    Category("middleware", _check_qos, {"QOS COMPATIBILITY LIST": _report_qos, "RMW MIDDLEWARE": _report_rmw}),
    Category("topic", _check_topics, {"TOPIC LIST": _report_topics}),
)
