"""Publishers."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ros2_lite.dds.entities import Writer
from ros2_lite.dds.lib import DDSError

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.duration import Duration
from rclpy.impl import rcutils_logger

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.context import Context
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.qos import QoSProfile


class Publisher:
    """Publishes messages of one type on a topic.  Made by `Node.create_publisher`."""

    def __init__(
        self,
        writer: Writer,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile,
        *,
        event_callbacks: PublisherEventCallbacks | None,
        callback_group: CallbackGroup,
        context: Context,
        on_destroy: Callable[[Publisher], None],
    ) -> None:
        self._writer = writer
        self.msg_type = msg_type
        self.topic = topic
        self.qos_profile = qos_profile
        self.event_callbacks = event_callbacks
        self.event_handlers: list[Any] = []
        self._callback_group = callback_group
        self._context = context
        self._on_destroy = on_destroy
        self._codec = msg_type._codec

    @property
    def topic_name(self) -> str:
        """The resolved name."""
        return self.topic

    @property
    def handle(self) -> Writer:
        return self._writer

    @property
    def logger_name(self) -> str:
        return self._logger_name

    _logger_name = ""

    def publish(self, msg: Any) -> None:
        """Send a message, or one that is serialised already (bytes).

        Raises TypeError for anything else, InvalidHandle when destroyed, RCLError when it cannot be sent.
        """
        if isinstance(msg, self.msg_type):
            chunks = self._codec.encode(msg)
        elif isinstance(msg, (bytes, bytearray)):
            chunks = [msg]
        else:
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        if not self._writer.is_open:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        if not self._context.ok():
            raise RCLError("Failed to publish: publisher's context is invalid")
        try:
            self._writer.write(chunks)
        except (DDSError, ValueError) as error:
            raise RCLError(f"Failed to publish: {error}") from None

    def get_subscription_count(self) -> int:
        """How many subscriptions it is matched with."""
        if not self._writer.is_open:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        return self._writer.matched()

    def assert_liveliness(self) -> None:
        """Say that it is alive (needed with MANUAL_BY_TOPIC liveliness)."""
        self._writer.assert_liveliness()

    def wait_for_all_acked(self, timeout: Duration = Duration(seconds=-1)) -> bool:
        """Wait until all reliable subscriptions have everything; False after `timeout` (negative: never)."""
        limit = timeout.nanoseconds
        return self._writer.wait_for_acks(2**63 - 1 if limit < 0 else limit)

    def destroy(self) -> None:
        if self._writer.is_open:
            self._writer.close()
            self._on_destroy(self)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy()


def wait_until(condition: Callable[[], bool], timeout_sec: float | None, context: Context, step: float = 0.005) -> bool:
    """Poll with a growing pause until the condition is true; False at the timeout or at shutdown."""
    deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
    while True:
        if condition():
            return True
        left = None if deadline is None else deadline - time.monotonic()
        if not context.ok() or (left is not None and left <= 0):
            return False
        time.sleep(step if left is None else min(step, left))
        step = min(step * 1.5, 0.1)


def rosout_sink(publisher: Publisher) -> Callable[..., None]:
    """What sends log messages to ``/rosout``; it does not keep the publisher, and with it the node, alive."""
    reference = weakref.ref(publisher)

    def send(now: int, severity: Any, name: str, message: str, file: str, function: str, line: int) -> None:
        publisher = reference()
        if publisher is None:
            rcutils_logger._sinks.pop(name, None)
            return
        log = publisher.msg_type(name=name, msg=message, file=file, function=function, line=line, level=int(severity))
        log.stamp.sec, log.stamp.nanosec = divmod(now, 10**9)
        try:
            publisher.publish(log)
        except (RCLError, InvalidHandle):
            rcutils_logger._sinks.pop(name, None)

    return send
