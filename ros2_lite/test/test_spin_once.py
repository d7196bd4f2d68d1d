"""rclpy.spin_once in a loop, as programs with a loop of their own use it."""

from __future__ import annotations

import time

import rclpy
from std_msgs.msg import String


def test_each_topic_has_its_turn_however_much_waits_on_the_others(ros: int) -> None:
    node = rclpy.create_node("listener")
    heard: list[str] = []
    publishers = []
    for name in ("first", "second", "third"):
        node.create_subscription(String, name, lambda message: heard.append(message.data), 100)
        publishers.append(node.create_publisher(String, name, 100))
    for _ in range(20):
        for publisher in publishers:
            publisher.publish(String(data=publisher.topic_name))
    time.sleep(0.2)
    for _ in range(9):
        rclpy.spin_once(node, timeout_sec=1.0)
    assert {name: heard.count(name) for name in ("/first", "/second", "/third")} == {
        "/first": 3,
        "/second": 3,
        "/third": 3,
    }
    node.destroy_node()
