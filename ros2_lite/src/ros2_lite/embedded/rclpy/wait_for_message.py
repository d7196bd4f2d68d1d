"""Waiting for one message without a callback."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile


def wait_for_message(
    msg_type: Any, node: Node, topic: str, *, qos_profile: QoSProfile | int = 1, time_to_wait: float = -1
) -> tuple[bool, Any]:
    """``(True, message)`` with the next message of a topic, or ``(False, None)`` after `time_to_wait` [s].

    A negative time waits until shutdown.  Needs no spinning.
    """
    from ros2_lite.dds.entities import GuardCondition, WaitSet
    from ros2_lite.dds.lib import INFINITY

    deadline = None if time_to_wait < 0 else time.monotonic_ns() + int(time_to_wait * 1e9)
    # The node's own executor must not take the message away: the subscription is in no group that it could run.
    subscription = node.create_subscription(msg_type, topic, lambda message: None, qos_profile)
    node._subscriptions.remove(subscription)
    node._rclpy_changed()
    waitset, guard = WaitSet(), GuardCondition()
    try:
        waitset.attach(guard.handle, 0)
        waitset.attach(subscription.condition, 1)
        node.context.on_shutdown(guard.set)
        while node.context.ok():
            taken = subscription.take_message()
            if taken is not None:
                return True, taken[0]
            left = INFINITY if deadline is None else deadline - time.monotonic_ns()
            if left <= 0:
                break
            waitset.wait(left)
        return False, None
    finally:
        subscription.destroy()
        waitset.close()
        guard.close()
