"""Which actions there are: each is known by its feedback, which its servers publish and its clients listen to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

NamesAndTypes = list[tuple[str, list[str]]]
_TOPIC, _TYPE = "/_action/feedback", "_FeedbackMessage"


def get_action_client_names_and_types_by_node(
    node: Node, remote_node_name: str, remote_node_namespace: str
) -> NamesAndTypes:
    """Actions that a node calls.  NodeNameNonExistentError when there is no such node."""
    return _actions(node.get_subscriber_names_and_types_by_node(remote_node_name, remote_node_namespace))


def get_action_server_names_and_types_by_node(
    node: Node, remote_node_name: str, remote_node_namespace: str
) -> NamesAndTypes:
    """Actions that a node serves.  NodeNameNonExistentError when there is no such node."""
    return _actions(node.get_publisher_names_and_types_by_node(remote_node_name, remote_node_namespace))


def get_action_names_and_types(node: Node) -> NamesAndTypes:
    """All actions of the graph with their types."""
    return _actions(node.get_topic_names_and_types())


def _actions(topics: NamesAndTypes) -> NamesAndTypes:
    return [
        (topic.removesuffix(_TOPIC), [kind.removesuffix(_TYPE) for kind in types if kind.endswith(_TYPE)])
        for topic, types in topics
        if topic.endswith(_TOPIC)
    ]
