"""Validation of fully qualified topic and service names."""

from rclpy._names import check_full_name


def validate_full_topic_name(name: str, *, is_service: bool = False) -> bool:
    """True, or InvalidTopicNameException (InvalidServiceNameException)."""
    check_full_name(name, is_service)
    return True
