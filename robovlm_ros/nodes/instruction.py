"""Hearing every instruction, whoever gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from robovlm_ros.contract import Contract
from robovlm_ros.messages import message_class
from robovlm_ros.nodes.overrides import overridable

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks


def no_events() -> Any:
    """Callbacks of a latched subscription that has a volatile one beside it: rclpy would warn that it does not hear
    plain publishers, which the other one does."""
    return SubscriptionEventCallbacks(use_default_callbacks=False)


def hear_instructions(
    node: Node, contract: Contract, receive: Callable[[Any, bool], None], *, depth: int = 1, raw: bool = False
) -> None:
    """Call ``receive(message, latched)`` for each instruction; ``raw``: with its bytes.

    A latched instruction only reaches a transient local subscription, one of a plain `ros2 topic pub` only a volatile
    one: so there are two, and what a latched publisher says while this node runs comes through both. Parameters
    override either (``subscription_latched``, ``subscription_volatile``).
    """
    quiet = no_events()
    for latched in (True, False):
        qos = QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        node.create_subscription(
            message_class(contract.instruction_type),
            contract.instruction_topic,
            lambda message, latched=latched: receive(message, latched),
            qos,
            raw=raw,
            event_callbacks=quiet,
            **overridable("latched" if latched else "volatile"),
        )
