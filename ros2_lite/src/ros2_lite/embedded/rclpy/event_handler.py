"""Events of publishers and subscriptions: what happened to the quality of service that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from ros2_lite.dds.entities import Reader, Writer

from rclpy._entity import Entity, Work
from rclpy._rclpy_pybind11 import UnsupportedEventTypeError as UnsupportedEventTypeError
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.qos import QoSPolicyKind, qos_policy_name_from_kind

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup


class QoSPublisherEventType(IntEnum):
    """The events of publishers."""

    RCL_PUBLISHER_OFFERED_DEADLINE_MISSED = 0
    RCL_PUBLISHER_LIVELINESS_LOST = 1
    RCL_PUBLISHER_OFFERED_INCOMPATIBLE_QOS = 2
    RCL_PUBLISHER_INCOMPATIBLE_TYPE = 3
    RCL_PUBLISHER_MATCHED = 4


class QoSSubscriptionEventType(IntEnum):
    """The events of subscriptions."""

    RCL_SUBSCRIPTION_REQUESTED_DEADLINE_MISSED = 0
    RCL_SUBSCRIPTION_LIVELINESS_CHANGED = 1
    RCL_SUBSCRIPTION_REQUESTED_INCOMPATIBLE_QOS = 2
    RCL_SUBSCRIPTION_MESSAGE_LOST = 3
    RCL_SUBSCRIPTION_INCOMPATIBLE_TYPE = 4
    RCL_SUBSCRIPTION_MATCHED = 5


class QoSRequestedDeadlineMissedInfo(NamedTuple):
    """A publisher was late for the deadline that the subscription asked for."""

    total_count: int
    total_count_change: int


class QoSOfferedDeadlineMissedInfo(NamedTuple):
    """The publisher was late for its own deadline."""

    total_count: int
    total_count_change: int


class QoSLivelinessLostInfo(NamedTuple):
    """The publisher did not say in time that it is alive."""

    total_count: int
    total_count_change: int


class QoSMessageLostInfo(NamedTuple):
    """Messages did not get to the subscription."""

    total_count: int
    total_count_change: int


class IncompatibleTypeInfo(NamedTuple):
    """The same topic has another type elsewhere."""

    total_count: int
    total_count_change: int


class QoSLivelinessChangedInfo(NamedTuple):
    """Publishers came to life, or ceased to say that they are alive."""

    alive_count: int
    not_alive_count: int
    alive_count_change: int
    not_alive_count_change: int


class QoSRequestedIncompatibleQoSInfo(NamedTuple):
    """One side asks for more than the other offers."""

    total_count: int
    total_count_change: int
    last_policy_kind: int


QoSOfferedIncompatibleQoSInfo = QoSRequestedIncompatibleQoSInfo


class QoSSubscriptionMatchedInfo(NamedTuple):
    """Endpoints were matched, or left."""

    total_count: int
    total_count_change: int
    current_count: int
    current_count_change: int


QoSPublisherMatchedInfo = QoSSubscriptionMatchedInfo

_PUBLISHER = QoSPublisherEventType
_SUBSCRIPTION = QoSSubscriptionEventType
_NEVER = ""
"""For events that can be asked for and do not come: Cyclone DDS reports no topics of another type, in ROS 2 either."""
_EVENTS: dict[IntEnum, tuple[str, Any]] = {
    _PUBLISHER.RCL_PUBLISHER_OFFERED_DEADLINE_MISSED: ("offered_deadline_missed", QoSOfferedDeadlineMissedInfo),
    _PUBLISHER.RCL_PUBLISHER_LIVELINESS_LOST: ("liveliness_lost", QoSLivelinessLostInfo),
    _PUBLISHER.RCL_PUBLISHER_OFFERED_INCOMPATIBLE_QOS: ("offered_incompatible_qos", QoSOfferedIncompatibleQoSInfo),
    _PUBLISHER.RCL_PUBLISHER_INCOMPATIBLE_TYPE: (_NEVER, IncompatibleTypeInfo),
    _PUBLISHER.RCL_PUBLISHER_MATCHED: ("publication_matched", QoSPublisherMatchedInfo),
}
_SUBSCRIPTION_EVENTS: dict[IntEnum, tuple[str, Any]] = {
    _SUBSCRIPTION.RCL_SUBSCRIPTION_REQUESTED_DEADLINE_MISSED: (
        "requested_deadline_missed",
        QoSRequestedDeadlineMissedInfo,
    ),
    _SUBSCRIPTION.RCL_SUBSCRIPTION_LIVELINESS_CHANGED: ("liveliness_changed", QoSLivelinessChangedInfo),
    _SUBSCRIPTION.RCL_SUBSCRIPTION_REQUESTED_INCOMPATIBLE_QOS: (
        "requested_incompatible_qos",
        QoSRequestedIncompatibleQoSInfo,
    ),
    _SUBSCRIPTION.RCL_SUBSCRIPTION_MESSAGE_LOST: ("sample_lost", QoSMessageLostInfo),
    _SUBSCRIPTION.RCL_SUBSCRIPTION_INCOMPATIBLE_TYPE: (_NEVER, IncompatibleTypeInfo),
    _SUBSCRIPTION.RCL_SUBSCRIPTION_MATCHED: ("subscription_matched", QoSSubscriptionMatchedInfo),
}
_POLICIES = {
    2: QoSPolicyKind.DURABILITY,
    4: QoSPolicyKind.DEADLINE,
    8: QoSPolicyKind.LIVELINESS,
    11: QoSPolicyKind.RELIABILITY,
    13: QoSPolicyKind.HISTORY,
    21: QoSPolicyKind.LIFESPAN,
}
"""DDS's numbers of policies (DDS 1.4, 2.2.3) as ROS names them."""


class EventHandler(Entity):
    """Calls back with what changed.  UnsupportedEventTypeError for events that the middleware does not report."""

    def __init__(
        self,
        *,
        callback_group: CallbackGroup,
        callback: Callable[[Any], Any],
        event_type: IntEnum,
        parent_impl: Writer | Reader,
    ) -> None:
        super().__init__(callback_group)
        known = _EVENTS if isinstance(parent_impl, Writer) else _SUBSCRIPTION_EVENTS
        if event_type not in known:
            raise UnsupportedEventTypeError(f"this middleware does not report {event_type!r}")
        callback_group.add_entity(self)
        self.callback = callback
        self.event_type = event_type
        self._endpoint = parent_impl
        self._status, self._info = known[event_type]
        if self._status != _NEVER:
            parent_impl.watch(self._status)
        self.condition = parent_impl.handle

    def _take(self) -> Work | None:
        if not self._endpoint.is_open or not self._open or self._status == _NEVER:
            return None
        status = self._endpoint.status(self._status)
        values = {name: getattr(status, name) for name in self._info._fields if hasattr(status, name)}
        if not any(value for name, value in values.items() if name.endswith("_change")):
            return None
        if "last_policy_kind" in self._info._fields:
            values["last_policy_kind"] = _POLICIES.get(status.last_policy_id, QoSPolicyKind.INVALID)
        return self.callback, (self._info(**values),)


class QoSEventHandler(EventHandler):
    """The former name of `EventHandler`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("QoSEventHandler is deprecated, use EventHandler instead.", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **kwargs)


class SubscriptionEventCallbacks:
    """Callbacks of a subscription's events; without one for incompatible QoS, a warning is logged."""

    def __init__(
        self,
        *,
        deadline: Callable[[QoSRequestedDeadlineMissedInfo], None] | None = None,
        incompatible_qos: Callable[[QoSRequestedIncompatibleQoSInfo], None] | None = None,
        liveliness: Callable[[QoSLivelinessChangedInfo], None] | None = None,
        message_lost: Callable[[QoSMessageLostInfo], None] | None = None,
        incompatible_type: Callable[[IncompatibleTypeInfo], None] | None = None,
        matched: Callable[[QoSSubscriptionMatchedInfo], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.deadline = deadline
        self.incompatible_qos = incompatible_qos
        self.liveliness = liveliness
        self.message_lost = message_lost
        self.incompatible_type = incompatible_type
        self.matched = matched
        self.use_default_callbacks = use_default_callbacks

    def _wanted(self, topic: str, logger: RcutilsLogger) -> list[tuple[IntEnum, Callable[[Any], Any]]]:
        incompatible = self.incompatible_qos
        if incompatible is None and self.use_default_callbacks:
            incompatible = _warning(_NEW_PUBLISHER.format(topic), logger)
        other_type = self.incompatible_type
        if other_type is None and self.use_default_callbacks:
            other_type = _type_warning(topic, logger)
        return [
            (event, callback)
            for event, callback in (
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_REQUESTED_DEADLINE_MISSED, self.deadline),
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_REQUESTED_INCOMPATIBLE_QOS, incompatible),
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_LIVELINESS_CHANGED, self.liveliness),
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_MESSAGE_LOST, self.message_lost),
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_INCOMPATIBLE_TYPE, other_type),
                (_SUBSCRIPTION.RCL_SUBSCRIPTION_MATCHED, self.matched),
            )
            if callback is not None
        ]


class PublisherEventCallbacks:
    """Callbacks of a publisher's events; without one for incompatible QoS, a warning is logged."""

    def __init__(
        self,
        *,
        deadline: Callable[[QoSOfferedDeadlineMissedInfo], None] | None = None,
        liveliness: Callable[[QoSLivelinessLostInfo], None] | None = None,
        incompatible_qos: Callable[[QoSRequestedIncompatibleQoSInfo], None] | None = None,
        incompatible_type: Callable[[IncompatibleTypeInfo], None] | None = None,
        matched: Callable[[QoSPublisherMatchedInfo], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.deadline = deadline
        self.liveliness = liveliness
        self.incompatible_qos = incompatible_qos
        self.incompatible_type = incompatible_type
        self.matched = matched
        self.use_default_callbacks = use_default_callbacks

    def _wanted(self, topic: str, logger: RcutilsLogger) -> list[tuple[IntEnum, Callable[[Any], Any]]]:
        incompatible = self.incompatible_qos
        if incompatible is None and self.use_default_callbacks:
            incompatible = _warning(_NEW_SUBSCRIPTION.format(topic), logger)
        other_type = self.incompatible_type
        if other_type is None and self.use_default_callbacks:
            other_type = _type_warning(topic, logger)
        return [
            (event, callback)
            for event, callback in (
                (_PUBLISHER.RCL_PUBLISHER_OFFERED_DEADLINE_MISSED, self.deadline),
                (_PUBLISHER.RCL_PUBLISHER_LIVELINESS_LOST, self.liveliness),
                (_PUBLISHER.RCL_PUBLISHER_OFFERED_INCOMPATIBLE_QOS, incompatible),
                (_PUBLISHER.RCL_PUBLISHER_INCOMPATIBLE_TYPE, other_type),
                (_PUBLISHER.RCL_PUBLISHER_MATCHED, self.matched),
            )
            if callback is not None
        ]


def handlers_of(
    callbacks: SubscriptionEventCallbacks | PublisherEventCallbacks,
    group: CallbackGroup,
    endpoint: Writer | Reader,
    topic: str,
    logger: RcutilsLogger,
) -> list[EventHandler]:
    """The handlers of an endpoint.  UnsupportedEventTypeError when one is asked for that cannot be."""
    return [
        EventHandler(callback_group=group, callback=callback, event_type=event, parent_impl=endpoint)
        for event, callback in callbacks._wanted(topic, logger)
    ]


_NEW_SUBSCRIPTION = (
    "New subscription discovered on topic '{}', requesting incompatible QoS. No messages will be sent to it."
)
_NEW_PUBLISHER = (
    "New publisher discovered on topic '{}', offering incompatible QoS. No messages will be received from it."
)


def _warning(text: str, logger: RcutilsLogger) -> Callable[[Any], None]:
    """Warns, as ROS 2 does, when nothing will flow between two endpoints."""

    def warn(event: Any) -> None:
        logger.warn(f"{text} Last incompatible policy: {qos_policy_name_from_kind(event.last_policy_kind)}")

    return warn


def _type_warning(topic: str, logger: RcutilsLogger) -> Callable[[Any], None]:
    def warn(event: Any) -> None:
        logger.warn(f"Incompatible type on topic '{topic}', no messages will be sent to it.")

    return warn
