"""Messages to bytes and back."""

from __future__ import annotations

from typing import Any

from ros2_lite.messages.codec import CodecError

from rclpy._rclpy_pybind11 import RMWError


def serialize_message(message: Any) -> bytes:
    """The CDR bytes of a message."""
    return b"".join(bytes(chunk) for chunk in message._codec.encode(message))


def deserialize_message(serialized_message: bytes, message_type: Any) -> Any:
    """The message in CDR bytes.  RMWError when they are no such message."""
    try:
        return message_type._codec.decode(memoryview(serialized_message).cast("B"))
    except CodecError as error:
        raise RMWError(f"failed to deserialize ROS message: {error}") from None
