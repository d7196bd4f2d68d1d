"""The graph of nodes and topics, as the verbs see it.

There is no daemon: each verb starts a node of its own for as long as it takes. A node learns of the others within some
tenths of a second, so questions about the whole graph wait until nothing new has come for `QUIET` seconds, and at least
`AT_LEAST`; a question about one topic, service or node is answered as soon as that is known.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ros2_lite.cli.errors import CliError, choices, positive_float

if TYPE_CHECKING:
    from rclpy.node import Node

AT_LEAST = 0.5  # [s]
QUIET = 0.3  # [s]
AT_MOST = 3.0  # [s]
KNOWN_WITHIN = 2.0  # [s] for something that is there already
_POLL = 0.02  # [s]
HIDDEN = "_"


class NodeName(NamedTuple):
    """A node's name, namespace and both."""

    name: str
    namespace: str
    full: str


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that makes a node."""
    parser.add_argument(
        "--spin-time",
        type=positive_float,
        metavar="SPIN_TIME",
        help=f"Spin time in seconds to wait for discovery (by default at least {AT_LEAST}, until nothing new comes)",
    )
    parser.add_argument("-s", "--use-sim-time", action="store_true", help="Enable ROS simulation time")


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every verb about the graph has."""
    add_node_arguments(parser)
    parser.add_argument("--no-daemon", action="store_true", help="Accepted and without effect: there is no daemon")


@contextmanager
def cli_node(name: str | None = None, *, use_sim_time: bool = False) -> Iterator[Node]:
    """A hidden node for the time of the block."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.parameter import Parameter

    try:
        rclpy.init(args=[])
    except (RuntimeError, ValueError, OSError) as error:  # no such domain, no network, ...
        raise CliError(f"cannot join the ROS graph: {error}") from error
    node = executor = None
    try:
        node = rclpy.create_node(
            name or f"_ros2cli_{os.getpid()}",
            start_parameter_services=False,
            enable_rosout=False,
            parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)],
        )
        # Once, and not for each look: an executor that has a node keeps what is ready in turn.
        executor = rclpy.get_global_executor()
        executor.add_node(node)
        yield node
    except ExternalShutdownException:
        raise SystemExit(143) from None  # 128 + SIGTERM, as shells say it
    finally:
        if node is not None:
            if executor is not None:
                executor.remove_node(node)
            node.destroy_node()
        rclpy.try_shutdown()


def spin_until(node: Node, done: Callable[[], bool], timeout: float | None) -> bool:
    """Let the node work until `done()`; False where `timeout` [s] passes first."""
    import rclpy

    end = None if timeout is None else time.monotonic() + timeout
    while not done():
        if end is not None and time.monotonic() > end:
            return False
        rclpy.spin_once(node, timeout_sec=_POLL)
    return True


def discover(node: Node, spin_time: float | None) -> None:
    """Wait until the graph is known."""
    begin = time.monotonic()
    seen: Any = None
    changed = begin

    def settled() -> bool:
        nonlocal seen, changed
        now = time.monotonic()
        state = (node.get_topic_names_and_types(), sorted(node.get_node_names_and_namespaces()))
        if state != seen:
            seen, changed = state, now
        return now - begin >= (spin_time or AT_LEAST) and now - changed >= QUIET

    spin_until(node, settled, max(AT_MOST, spin_time or 0.0))


def is_hidden(name: str) -> bool:
    """Whether a part of a name begins with an underscore."""
    return any(part.startswith(HIDDEN) for part in name.split("/"))


def absolute(name: str) -> str:
    """The name with a leading slash."""
    return name if name.startswith("/") else f"/{name}"


def topics(node: Node, include_hidden: bool = False) -> list[tuple[str, list[str]]]:
    """Names and types of the topics, sorted."""
    return [(n, t) for n, t in sorted(node.get_topic_names_and_types()) if include_hidden or not is_hidden(n)]


def services(node: Node, include_hidden: bool = False) -> list[tuple[str, list[str]]]:
    """Names and types of the services, sorted."""
    return [(n, t) for n, t in sorted(node.get_service_names_and_types()) if include_hidden or not is_hidden(n)]


def nodes(node: Node, include_hidden: bool = False) -> list[NodeName]:
    """The nodes, sorted by full name; one entry for each, also where several share a name."""
    found = []
    for name, namespace in node.get_node_names_and_namespaces():
        if include_hidden or not name.startswith(HIDDEN):
            found.append(NodeName(name, namespace, f"{namespace.rstrip('/')}/{name}"))
    return sorted(found, key=lambda item: item.full)


def find_node(node: Node, name: str, timeout: float = KNOWN_WITHIN, include_hidden: bool = True) -> NodeName:
    """The node of that name, as soon as it is known; CliError with the names of those that are there."""
    wanted = absolute(name)

    def known() -> bool:
        return any(item.full == wanted for item in nodes(node, include_hidden))

    if not spin_until(node, known, timeout):
        here = choices(item.full for item in nodes(node))
        raise CliError("Node not found", f"there is no node '{wanted}'; nodes here: {here}")
    return next(item for item in nodes(node, include_hidden) if item.full == wanted)


def find_topic(node: Node, name: str, timeout: float | None = KNOWN_WITHIN, include_hidden: bool = True) -> str:
    """The type of a topic, as soon as it is known; CliError with the names of those that are there."""
    wanted = absolute(name)

    def types() -> list[str]:
        return next((list(t) for n, t in topics(node, include_hidden) if n == wanted), [])

    if not spin_until(node, lambda: bool(types()), timeout):
        here = choices(n for n, _ in topics(node))
        raise CliError(
            "Could not determine the type for the passed topic",
            f"[{wanted}] does not appear to be published yet; topics here: {here}",
        )
    found = types()
    if len(found) > 1:
        raise CliError(f"Cannot echo topic '{wanted}', as it contains more than one type: [{', '.join(found)}]")
    return found[0]


def call(node: Node, service_type: Any, name: str, request: Any, timeout: float = 5.0) -> Any:
    """The response of a service; CliError where it does not come within `timeout` [s]."""
    import rclpy

    client = node.create_client(service_type, name)
    try:
        if not client.wait_for_service(timeout_sec=timeout):
            raise CliError(f"Wait for service timed out waiting for '{name}'")
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future, timeout_sec=timeout)
        if not future.done():
            future.cancel()
            raise CliError(f"the service '{name}' did not answer within {timeout:g} s")
        if future.exception() is not None:
            raise CliError(f"Exception while calling service '{name}': {future.exception()}")
        return future.result()
    finally:
        node.destroy_client(client)
