"""Subscriptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

from ros2_lite.dds.entities import Reader
from ros2_lite.messages.codec import CodecError

from rclpy._entity import Entity, Work
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.impl.rcutils_logger import RcutilsLogger

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.event_handler import SubscriptionEventCallbacks
    from rclpy.qos import QoSProfile


class MessageInfo(TypedDict):
    """What is known of a received message besides its content; times in nanoseconds since 1970."""

    source_timestamp: int
    received_timestamp: int
    publication_sequence_number: int | None
    reception_sequence_number: int | None


class Subscription(Entity):
    """Calls back with each message of a topic.  Made by `Node.create_subscription`."""

    class CallbackType(Enum):
        """Whether the callback also wants a MessageInfo."""

        MessageOnly = 0
        WithMessageInfo = 1

    def __init__(
        self,
        reader: Reader,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        callback_group: CallbackGroup,
        qos_profile: QoSProfile,
        raw: bool,
        *,
        event_callbacks: SubscriptionEventCallbacks | None,
        logger: RcutilsLogger,
        on_destroy: Callable[[Subscription], None],
    ) -> None:
        super().__init__(callback_group)
        self._reader = reader
        self.condition = reader.condition
        self.msg_type = msg_type
        self.topic = topic
        self.callback = callback
        self.qos_profile = qos_profile
        self.raw = raw
        self.event_callbacks = event_callbacks
        self.event_handlers: list[Any] = []
        self._logger = logger
        self._on_destroy = on_destroy

    @property
    def callback(self) -> Callable[..., Any]:
        return self._callback

    @callback.setter
    def callback(self, value: Callable[..., Any]) -> None:
        self._callback = value
        kinds = Subscription.CallbackType
        self._callback_type = kinds.WithMessageInfo if _wants_info(value) else kinds.MessageOnly

    @property
    def callback_type(self) -> CallbackType:
        return self._callback_type

    @property
    def topic_name(self) -> str:
        """The resolved name."""
        return self.topic

    @property
    def handle(self) -> Reader:
        return self._reader

    def take_message(self) -> tuple[Any, MessageInfo] | None:
        """The next message, if there is one, without any callback."""
        try:
            return self._reader.take_message(self.msg_type, self.raw)  # type: ignore[return-value]
        except CodecError as error:
            # The library checked it against the type; what still fails here is one bad message, not the topic.
            self._logger.error(f"dropped a message on '{self.topic}': {error}", throttle_duration_sec=1.0)
            return None

    def _take(self) -> Work | None:
        taken = self.take_message() if self._open else None
        if taken is None:
            return None
        with_info = self._callback_type is Subscription.CallbackType.WithMessageInfo
        return self._callback, taken if with_info else taken[:1]

    def get_publisher_count(self) -> int:
        """How many publishers it is matched with."""
        if not self._open:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        return self._reader.matched()

    def destroy(self) -> None:
        if self._open:
            super().destroy()
            self._reader.close()
            self._on_destroy(self)


def _wants_info(callback: Callable[..., Any]) -> bool:
    """Whether the callback takes (message, info).  RuntimeError when it takes neither one nor two arguments."""
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return False  # built-in callables have no signature; they get the message
    marker = object()
    for count in (1, 2):
        try:
            signature.bind(*[marker] * count)
        except TypeError:
            continue
        return count == 2
    raise RuntimeError(
        "Subscription callback has an invalid signature. Expected 'callback(msg)' or 'callback(msg, info)'"
    )
