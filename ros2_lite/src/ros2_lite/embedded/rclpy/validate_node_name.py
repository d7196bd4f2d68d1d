"""Validation of node names."""

from rclpy._names import check_node_name


def validate_node_name(node_name: str) -> bool:
    """True, or InvalidNodeNameException."""
    check_node_name(node_name)
    return True
