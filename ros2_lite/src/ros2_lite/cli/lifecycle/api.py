"""Nodes with a lifecycle, and their services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ros2_lite.cli import graph
from ros2_lite.cli.errors import CliError, choices

if TYPE_CHECKING:
    from rclpy.node import Node

_STATE = "lifecycle_msgs/srv/GetState"


def names(node: Node, include_hidden: bool = False) -> list[str]:
    """The full names of the nodes that tell their state, sorted."""
    telling = {name for name, types in graph.services(node, True) if _STATE in types}
    return sorted({n.full for n in graph.nodes(node, include_hidden) if f"{n.full}/get_state" in telling})


def find(node: Node, name: str, include_hidden: bool) -> str:
    """The full name of a node, as soon as its lifecycle is known; CliError with those that are there."""
    wanted = graph.absolute(name)
    if not graph.spin_until(node, lambda: wanted in names(node, include_hidden), graph.KNOWN_WITHIN):
        here = choices(names(node))
        raise CliError("Node not found", f"there is no '{wanted}'; nodes with a lifecycle here: {here}")
    return wanted


def state(node: Node, name: str) -> Any:
    """The lifecycle_msgs/msg/State of a node."""
    from lifecycle_msgs.srv import GetState

    return graph.call(node, GetState, f"{name}/get_state", GetState.Request()).current_state


def transitions(node: Node, name: str, every: bool = False) -> list[Any]:
    """The transitions that are possible now, or all of the node's graph."""
    from lifecycle_msgs.srv import GetAvailableTransitions

    service = f"{name}/get_transition_graph" if every else f"{name}/get_available_transitions"
    response = graph.call(node, GetAvailableTransitions, service, GetAvailableTransitions.Request())
    return list(response.available_transitions)


def change(node: Node, name: str, transition: Any, timeout: float) -> bool:
    """Trigger a transition and wait for its end; whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request(transition=transition)
    return bool(graph.call(node, ChangeState, f"{name}/change_state", request, timeout).success)
