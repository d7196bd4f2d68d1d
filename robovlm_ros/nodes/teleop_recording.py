"""Episodes by keys: the services of the recorder, and of the simulator for a new scene."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from robovlm_ros.keyboard import EPISODES

_SERVICES = {
    "begin": ("recorder_node/start",),
    "success": ("recorder_node/mark", "recorder_node/stop"),
    "failure": ("recorder_node/mark", "recorder_node/stop"),
    "discard": ("recorder_node/discard",),
    "scene": ("sim_node/reset",),
}
"""Order → the services that fulfil it, one after the other."""


class EpisodeOrders:
    """Calls what an order needs and logs what is answered; nothing here waits."""

    def __init__(self, node: Node) -> None:
        self._node = node
        names = {name for services in _SERVICES.values() for name in services}
        self._services = {
            name: node.create_client(SetBool if name.endswith("/mark") else Trigger, name) for name in sorted(names)
        }

    def fulfil(self, order: str) -> None:
        """One of `keyboard.EPISODES`."""
        self._call(order, _SERVICES[order])

    def _call(self, order: str, services: tuple[str, ...]) -> None:
        client = self._services[services[0]]
        if not client.service_is_ready():
            self._node.get_logger().warning(f"cannot {EPISODES[order]}: no {services[0].partition('/')[0]} runs")
            return
        mark = services[0].endswith("/mark")
        request = SetBool.Request(data=order == "success") if mark else Trigger.Request()
        client.call_async(request).add_done_callback(lambda future: self._go_on(order, services[1:], future.result()))

    def _go_on(self, order: str, services: tuple[str, ...], response: Any) -> None:
        if not response.success:
            self._node.get_logger().warning(f"cannot {EPISODES[order]}: {response.message}")
        elif services:
            self._call(order, services)
        else:
            self._node.get_logger().info(f"{EPISODES[order]}: {response.message}")
