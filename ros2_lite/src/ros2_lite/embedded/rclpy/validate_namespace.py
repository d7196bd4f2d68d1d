"""Validation of namespaces."""

from rclpy._names import check_namespace


def validate_namespace(namespace: str) -> bool:
    """True, or InvalidNamespaceException."""
    check_namespace(namespace)
    return True
