"""What a node checks before it makes something."""

from __future__ import annotations

from typing import Any

from ros2_lite.messages.classes import full_name_of

from rclpy._arguments import Arguments
from rclpy._names import check_namespace, check_node_name
from rclpy.exceptions import NoTypeSupportImportedException
from rclpy.qos import QoSProfile


def node_identity(name: str, namespace: str, sources: list[Arguments]) -> tuple[str, str]:
    """Name and namespace after ``__node`` and ``__ns``; checked."""
    check_node_name(name)
    for source in reversed(sources):
        new_name, new_namespace = source.node_identity(name)
        name, namespace = new_name or name, namespace if new_namespace is None else new_namespace
    if not namespace.startswith("/"):
        namespace = "/" + namespace
    check_node_name(name)
    check_namespace(namespace)
    return name, namespace


def logger_name(namespace: str, name: str) -> str:
    return ".".join([part for part in namespace.split("/") if part] + [name])


def profile_of(qos: QoSProfile | int) -> QoSProfile:
    if isinstance(qos, QoSProfile):
        return qos
    if isinstance(qos, bool) or not isinstance(qos, int):
        raise TypeError(f"Expected QoSProfile or int, but received {type(qos)!r}")
    if qos < 0:
        raise ValueError("depth must be greater than or equal to zero")
    return QoSProfile(depth=qos)


def message_spec(msg_type: Any) -> Any:
    try:
        full_name_of(msg_type)
        return msg_type._spec
    except (TypeError, AttributeError):
        raise NoTypeSupportImportedException from None


def check_service_type(srv_type: Any) -> None:
    try:
        full_name_of(srv_type)
        assert hasattr(srv_type, "Request")
    except (TypeError, AssertionError):
        raise NoTypeSupportImportedException from None
