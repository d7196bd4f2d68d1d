"""Publishers and subscriptions over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.wait_for_message import wait_for_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String


def spin_until(node: Node, condition: Callable[[], Any], timeout: float = 5.0) -> bool:
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    return bool(condition())


def test_a_subscription_receives_what_a_publisher_sends_in_order(ros: int) -> None:
    node = Node("talker")
    received: list[str] = []
    node.create_subscription(String, "chatter", lambda message: received.append(message.data), 10)
    publisher = node.create_publisher(String, "chatter", 10)
    for number in range(5):
        publisher.publish(String(data=f"hello {number}"))
    assert spin_until(node, lambda: len(received) == 5)
    assert received == [f"hello {number}" for number in range(5)]
    assert publisher.get_subscription_count() == 1
    node.destroy_node()


def test_a_raw_subscription_gets_bytes_and_bytes_can_be_published(ros: int) -> None:
    node = Node("raw")
    received: list[bytes] = []
    node.create_subscription(JointState, "joints", received.append, 10, raw=True)
    publisher = node.create_publisher(JointState, "joints", 10)
    message = JointState(name=["a", "b"], position=[1.0, 2.0])
    publisher.publish(serialize_message(message))
    assert spin_until(node, lambda: received)
    assert isinstance(received[0], bytes)
    assert deserialize_message(received[0], JointState) == message
    node.destroy_node()


def test_damaged_bytes_are_refused_before_they_reach_the_network(ros: int) -> None:
    node = Node("raw")
    publisher = node.create_publisher(JointState, "joints", 10)
    with pytest.raises(RuntimeError, match="no valid sample"):
        publisher.publish(b"\x00\x01\x00\x00\xff\xff\xff\xff")
    with pytest.raises(TypeError):
        publisher.publish(String())
    node.destroy_node()


def test_a_callback_with_two_arguments_also_gets_the_source_timestamp(ros: int) -> None:
    node = Node("info")
    infos: list[Any] = []
    node.create_subscription(String, "chatter", lambda message, info: infos.append(info), 10)
    before = time.time_ns()
    node.create_publisher(String, "chatter", 10).publish(String())
    assert spin_until(node, lambda: infos)
    assert before <= infos[0]["source_timestamp"] <= time.time_ns()
    node.destroy_node()


def test_a_late_joiner_gets_the_last_transient_local_message(ros: int) -> None:
    node = Node("latched")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(String, "instruction", latched)
    publisher.publish(String(data="old"))
    publisher.publish(String(data="pick up the red block"))
    received: list[str] = []
    node.create_subscription(String, "instruction", lambda message: received.append(message.data), latched)
    assert spin_until(node, lambda: received)
    assert received == ["pick up the red block"]
    node.destroy_node()


def test_a_reliable_subscription_gets_nothing_from_a_best_effort_publisher_and_says_so(
    ros: int, capfd: pytest.CaptureFixture[str]
) -> None:
    node = Node("qos")
    received: list[Any] = []
    node.create_subscription(String, "chatter", received.append, 10)
    publisher = node.create_publisher(String, "chatter", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    publisher.publish(String())
    assert not spin_until(node, lambda: received, timeout=0.5)
    assert publisher.get_subscription_count() == 0
    errors = capfd.readouterr().err
    assert "offering incompatible QoS" in errors
    assert "RELIABILITY" in errors
    node.destroy_node()


def test_wait_for_message_needs_no_spinning(ros: int) -> None:
    node = Node("waiter")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(String, "state", latched).publish(String(data="ready"))
    done, message = wait_for_message(String, node, "state", qos_profile=latched, time_to_wait=2.0)
    assert done
    assert message.data == "ready"
    assert wait_for_message(String, node, "silence", time_to_wait=0.05) == (False, None)
    node.destroy_node()


def test_images_cross_processes_whole_and_with_their_stamps(ros: int, program: Callable[..., Any]) -> None:
    program(
        """
        import time, numpy as np, rclpy
        from sensor_msgs.msg import Image
        rclpy.init()
        node = rclpy.create_node("camera")
        publisher = node.create_publisher(Image, "image", 10)
        while publisher.get_subscription_count() == 0:
            time.sleep(0.01)
        pixels = np.arange(640 * 480 * 3, dtype=np.uint32)
        image = Image(height=480, width=640, encoding="rgb8", step=1920)
        def send():
            image.header.stamp.sec += 1
            image.data = ((pixels + image.header.stamp.sec) % 251).astype(np.uint8).tobytes()
            publisher.publish(image)
        node.create_timer(1 / 30, send)
        rclpy.spin(node)
        """
    )
    node = Node("viewer")
    stamps: list[int] = []
    pixels = np.arange(640 * 480 * 3, dtype=np.uint32)

    def receive(message: Image) -> None:
        stamps.append(message.header.stamp.sec)
        assert np.array_equal(np.asarray(message.data), (pixels + stamps[-1]) % 251)

    node.create_subscription(Image, "image", receive, 10)
    assert spin_until(node, lambda: len(stamps) >= 30, timeout=60)
    assert stamps == sorted(set(stamps))
    node.destroy_node()
