"""Validation of parameter names."""

from rclpy.exceptions import InvalidParameterException


def validate_parameter_name(name: str) -> bool:
    """True; InvalidParameterException when the name is empty."""
    if not name:
        raise InvalidParameterException(name)
    return True
