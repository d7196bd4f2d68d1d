"""Expansion of topic names."""

from rclpy._names import check_namespace, check_node_name, expand
from rclpy.exceptions import NameValidationException


def expand_topic_name(topic_name: str, node_name: str, node_namespace: str) -> str:
    """The fully qualified name of a topic of a node.  ValueError when one of the three is not valid."""
    try:
        check_node_name(node_name)
        check_namespace(node_namespace)
        return expand(topic_name, node_name, node_namespace)
    except NameValidationException as error:
        raise ValueError(str(error)) from None
