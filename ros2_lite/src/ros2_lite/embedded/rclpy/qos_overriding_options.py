"""Quality of service that parameters override: ``qos_overrides./topic.publisher.depth`` and so on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult

from rclpy.duration import Duration
from rclpy.exceptions import ParameterAlreadyDeclaredException
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyEnum,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos import QoSPolicyKind as QoSPolicyKind
from rclpy.subscription import Subscription

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter

QosCallbackResult = SetParametersResult
QosCallbackType = Callable[[QoSProfile], Any]

_ENUMS: dict[QoSPolicyKind, type[QoSPolicyEnum]] = {
    QoSPolicyKind.HISTORY: HistoryPolicy,
    QoSPolicyKind.RELIABILITY: ReliabilityPolicy,
    QoSPolicyKind.DURABILITY: DurabilityPolicy,
    QoSPolicyKind.LIVELINESS: LivelinessPolicy,
}
_DURATIONS = (QoSPolicyKind.LIFESPAN, QoSPolicyKind.DEADLINE, QoSPolicyKind.LIVELINESS_LEASE_DURATION)


class InvalidQosOverridesError(Exception):
    """The callback refused what the parameters made of a profile."""


class QoSOverridingOptions:
    """Which policies of a publisher or subscription parameters may set, and what checks the result."""

    def __init__(
        self,
        policy_kinds: Iterable[QoSPolicyKind],
        *,
        callback: QosCallbackType | None = None,
        entity_id: str | None = None,
    ) -> None:
        """`entity_id` tells publishers (or subscriptions) of one topic in one node apart."""
        self._policy_kinds = policy_kinds
        self._callback = callback
        self._entity_id = entity_id

    @property
    def policy_kinds(self) -> Iterable[QoSPolicyKind]:
        return self._policy_kinds

    @property
    def callback(self) -> QosCallbackType | None:
        return self._callback

    @property
    def entity_id(self) -> str | None:
        return self._entity_id

    @classmethod
    def with_default_policies(
        cls, *, callback: QosCallbackType | None = None, entity_id: str | None = None
    ) -> QoSOverridingOptions:
        """History, depth and reliability."""
        kinds = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
        return cls(kinds, callback=callback, entity_id=entity_id)


def overridden(
    entity_type: type[Publisher | Subscription],
    node: Node,
    topic_name: str,
    qos: QoSProfile,
    options: QoSOverridingOptions | None,
) -> QoSProfile:
    """The profile with the node's overrides, a copy.  InvalidQosOverridesError when the options' callback refuses."""
    if options is None:
        return qos
    profile = copy.copy(qos)
    _declare_qos_parameters(entity_type, node, topic_name, profile, options)
    return profile


def _declare_qos_parameters(
    entity_type: type[Publisher | Subscription],
    node: Node,
    topic_name: str,
    qos: QoSProfile,
    options: QoSOverridingOptions,
) -> None:
    """Declare the read-only parameters of an endpoint, and change its profile to what they say."""
    if not issubclass(entity_type, (Publisher, Subscription)):
        raise TypeError("Argument `entity_type` should be a subclass of Publisher or Subscription")
    role = "publisher" if issubclass(entity_type, Publisher) else "subscription"
    suffix = "" if options.entity_id is None else f"_{options.entity_id}"
    about = f"for {role} `{topic_name}` with id `{options.entity_id}`"
    for kind in options.policy_kinds:
        if kind == QoSPolicyKind.LIFESPAN and role == "subscription":
            continue  # only publishers have one
        policy = kind.name.lower()
        name = f"qos_overrides.{topic_name}.{role}{suffix}.{policy}"
        descriptor = ParameterDescriptor(description=f"{policy} {about}", read_only=True)
        try:
            parameter = node.declare_parameter(name, _get_qos_policy_parameter(qos, kind), descriptor)
        except ParameterAlreadyDeclaredException:
            parameter = node.get_parameter(name)
        _override_qos_policy_with_param(qos, kind, parameter)
    if options.callback is not None:
        result = options.callback(qos)
        if not result.successful:
            raise InvalidQosOverridesError(f"Provided QoS overrides {about}, are not valid: {result.reason}")


def _get_qos_policy_parameter(qos: QoSProfile, policy: QoSPolicyKind) -> str | int | bool:
    """A policy as a parameter has it: policies by name, durations in nanoseconds."""
    value = getattr(qos, policy.name.lower())
    if isinstance(value, QoSPolicyEnum):
        if value.name == "UNKNOWN":
            raise ValueError("User provided QoS profile is invalid")
        return value.name.lower()
    return value.nanoseconds if isinstance(value, Duration) else value


def _override_qos_policy_with_param(qos: QoSProfile, policy: QoSPolicyKind, param: Parameter) -> None:
    value = param.value
    if policy in _ENUMS:
        try:
            value = _ENUMS[policy][value.upper()]
        except KeyError:
            choices = ", ".join(item.name.lower() for item in _ENUMS[policy] if item.name != "UNKNOWN")
            raise RuntimeError(
                f"Unexpected QoS override for policy `{policy.name.lower()}`: `{param.value}`; choose from {choices}"
            ) from None
    elif policy in _DURATIONS:
        value = Duration(nanoseconds=value)
    setattr(qos, policy.name.lower(), value)
