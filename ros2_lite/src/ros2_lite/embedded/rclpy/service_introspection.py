"""What a client or a service tells about its calls, on ``SERVICE/_service_event``, when it is asked to (REP-2012)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ros2_lite.messages.classes import message_class

if TYPE_CHECKING:
    from rclpy.clock import Clock
    from rclpy.publisher import Publisher
    from rclpy.qos import QoSProfile

MakePublisher = Callable[[Any, str, "QoSProfile"], "Publisher"]
TOPIC_POSTFIX = "/_service_event"
REQUEST_SENT, REQUEST_RECEIVED, RESPONSE_SENT, RESPONSE_RECEIVED = range(4)
"""Numbers of service_msgs/msg/ServiceEventInfo."""


class ServiceIntrospectionState(IntEnum):
    """How much is told: nothing, that there was a call, or also what was in it."""

    OFF = 0
    METADATA = 1
    CONTENTS = 2


class Introspection:
    """Publishes the events of one client or service."""

    def __init__(self, srv_type: Any, srv_name: str, make_publisher: MakePublisher) -> None:
        self._type = srv_type
        self._topic = f"{srv_name}{TOPIC_POSTFIX}"
        self._make_publisher = make_publisher
        self._publisher: Publisher | None = None
        self._state = ServiceIntrospectionState.OFF
        self._clock: Clock | None = None

    def configure(self, clock: Clock, qos: QoSProfile, state: ServiceIntrospectionState) -> None:
        """Tell from now on as much as `state` says, with times of `clock`."""
        self.close()
        self._state = ServiceIntrospectionState(state)
        if self._state != ServiceIntrospectionState.OFF:
            self._clock, self._publisher = clock, self._make_publisher(self._type.Event, self._topic, qos)

    def tell(self, kind: int, client: int, sequence_number: int, content: Any) -> None:
        """Publish one event, if that was asked for; `client` is the 64-bit id that requests carry."""
        if self._publisher is None or self._clock is None:
            return
        info = message_class("service_msgs/msg/ServiceEventInfo")(event_type=kind, sequence_number=sequence_number)
        info.stamp = self._clock.now().to_msg()
        info.client_gid = list(client.to_bytes(16, "little"))
        event = self._type.Event(info=info)
        if self._state == ServiceIntrospectionState.CONTENTS:
            setattr(event, "request" if kind in (REQUEST_SENT, REQUEST_RECEIVED) else "response", [content])
        self._publisher.publish(event)

    def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.destroy()
