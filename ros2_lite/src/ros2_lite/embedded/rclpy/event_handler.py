"""Events of publishers and subscriptions: what happened to the quality of service that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ros2_lite.dds.entities import Reader, Writer

from rclpy._entity import Entity, Work
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.qos import QoSPolicyKind

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup


class QoSOfferedIncompatibleQoSInfo(NamedTuple):
    """A subscription asks for more than the publisher offers."""

    total_count: int
    total_count_change: int
    last_policy_kind: int


class QoSRequestedIncompatibleQoSInfo(NamedTuple):
    """A publisher offers less than the subscription asks for."""

    total_count: int
    total_count_change: int
    last_policy_kind: int


class _Callbacks:
    def __init__(
        self,
        *,
        incompatible_qos: Callable[[Any], None] | None = None,
        deadline: Callable[[Any], None] | None = None,
        liveliness: Callable[[Any], None] | None = None,
        matched: Callable[[Any], None] | None = None,
        message_lost: Callable[[Any], None] | None = None,
        incompatible_type: Callable[[Any], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.incompatible_qos = incompatible_qos
        self.deadline = deadline
        self.liveliness = liveliness
        self.matched = matched
        self.message_lost = message_lost
        self.incompatible_type = incompatible_type
        self.use_default_callbacks = use_default_callbacks


class SubscriptionEventCallbacks(_Callbacks):
    """Callbacks of a subscription's events; only `incompatible_qos` is called so far."""


class PublisherEventCallbacks(_Callbacks):
    """Callbacks of a publisher's events; only `incompatible_qos` is called so far."""


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
    """Hears of endpoints that do not match for their quality of service."""

    def __init__(self, callback: Callable[[Any], None], group: CallbackGroup, endpoint: Writer | Reader) -> None:
        super().__init__(group)
        self.callback = callback
        self._endpoint = endpoint
        self._offered = isinstance(endpoint, Writer)
        endpoint.watch_incompatible_qos()
        self.condition = endpoint.handle

    def _take(self) -> Work | None:
        if not self._endpoint.is_open:
            return None
        total, change, policy = self._endpoint.incompatible_qos()
        if change == 0:
            return None
        kind = QoSOfferedIncompatibleQoSInfo if self._offered else QoSRequestedIncompatibleQoSInfo
        return self.callback, (kind(total, change, _POLICIES.get(policy, QoSPolicyKind.INVALID)),)


def default_callback(topic: str, offered: bool, logger: RcutilsLogger) -> Callable[[Any], None]:
    """Warns, as ROS 2 does, when nothing will flow between two endpoints."""
    text = (
        "New subscription discovered on topic '{}', requesting incompatible QoS. No messages will be sent to it."
        if offered
        else "New publisher discovered on topic '{}', offering incompatible QoS. No messages will be received from it."
    ).format(topic)

    def warn(event: Any) -> None:
        logger.warning(f"{text} Last incompatible policy: {QoSPolicyKind(event.last_policy_kind).name}")

    return warn
