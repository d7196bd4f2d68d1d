"""Validation of topic and service names as users write them."""

from rclpy._names import check_name


def validate_topic_name(name: str, *, is_service: bool = False) -> bool:
    """True, or InvalidTopicNameException (InvalidServiceNameException)."""
    check_name(name, is_service)
    return True
