"""Checks of message and service classes."""

from __future__ import annotations

from typing import Any

from ros2_lite.messages.classes import full_name_of

from rclpy.exceptions import NoTypeSupportImportedException


def check_for_type_support(msg_or_srv_type: Any) -> None:
    """AttributeError when it is neither a message nor a service class.

    NoTypeSupportImportedException when it is one that rosidl generated, for C code that is not here.
    """
    try:
        full_name_of(msg_or_srv_type)
    except TypeError as error:
        if hasattr(type(msg_or_srv_type), "_TYPE_SUPPORT"):
            raise NoTypeSupportImportedException from None
        raise AttributeError(
            f"{error}. This might be a ROS 1 message type but it should be a ROS 2 message type."
        ) from None


def check_is_valid_msg_type(msg_type: Any) -> None:
    """RuntimeError when it is a service class; AttributeError when it is no class of an interface at all."""
    check_for_type_support(msg_type)
    if not hasattr(msg_type, "_spec"):
        raise RuntimeError(
            f"The message type provided is not valid ({msg_type}), this might be a service or action"
        ) from None


def check_is_valid_srv_type(srv_type: Any) -> None:
    """RuntimeError when it is a message class; AttributeError when it is no class of an interface at all."""
    check_for_type_support(srv_type)
    if not hasattr(srv_type, "Request") or not hasattr(srv_type, "Response"):
        raise RuntimeError(
            f"The service type provided is not valid ({srv_type}), this might be a message or action"
        ) from None
