"""Topics and services of the emergency stop and of the dead-man's switch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from robovlm_ros.guard import Guard
from robovlm_ros.nodes.instruction import no_events
from robovlm_ros.nodes.services import answering


def guard_topics(
    node: Node, act: Callable[[Callable[[Guard], None]], None], *, stop_topic: str, dead_man_topic: str
) -> None:
    """Offer ``~/emergency_stop`` and ``~/reset``, and listen to both topics; an empty one is none.

    `act` is called with what is to be done to the guard, and sees to it that the robot obeys before it returns; it may
    raise UserError. All this has a callback group of its own, so that it waits for no sensor.
    """
    group = MutuallyExclusiveCallbackGroup()

    def stop(_request: Any) -> str:
        act(lambda guard: guard.stop("~/emergency_stop"))
        return "stopped until ~/reset"

    def reset(_request: Any) -> str:
        act(Guard.reset)
        return "reset"

    node.create_service(Trigger, "~/emergency_stop", answering(stop), callback_group=group)
    node.create_service(Trigger, "~/reset", answering(reset), callback_group=group)

    def press(message: Any) -> None:
        act(lambda guard: guard.press(bool(message.data), stop_topic))

    def hold(message: Any) -> None:
        act(lambda guard: guard.hold(bool(message.data), time.monotonic_ns()))

    quiet = no_events()
    for durability in (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE) if stop_topic else ():
        # A latched stop only reaches a transient local subscription, a plain one only a volatile one.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        node.create_subscription(Bool, stop_topic, press, qos, event_callbacks=quiet, callback_group=group)
    if dead_man_topic:
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(Bool, dead_man_topic, hold, qos, callback_group=group)
