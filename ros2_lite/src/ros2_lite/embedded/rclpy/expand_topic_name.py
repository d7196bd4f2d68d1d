"""Expansion of topic names."""

from rclpy._names import check_namespace, check_node_name, expand


def expand_topic_name(topic_name: str, node_name: str, node_namespace: str) -> str:
    """The fully qualified name of a topic of a node."""
    check_node_name(node_name)
    check_namespace(node_namespace)
    return expand(topic_name, node_name, node_namespace)
