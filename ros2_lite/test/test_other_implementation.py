"""Another implementation of DDS (RustDDS, through dora's ROS 2 bridge) reads and writes the same topics."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ros2_lite.messages.registry import INTERFACES

PEER = """
import json, sys, time
import dora
import pyarrow as pa

context = dora.Ros2Context([sys.argv[1]])
node = context.new_node("peer", "/", dora.Ros2NodeOptions(rosout=False))
qos = dora.Ros2QosPolicies(reliable=True, keep_last=5, max_blocking_time=0.1)
image = node.create_subscription(node.create_topic("/camera/image_raw", "sensor_msgs/Image", qos))
joints = node.create_subscription(node.create_topic("/joint_states", "sensor_msgs/JointState", qos))
chatter = node.create_publisher(node.create_topic("/instruction", "std_msgs/String", qos))
found = {}
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    time.sleep(0.02)
    chatter.publish(pa.array([{"data": "pick up the red block"}]))
    for name, subscription in (("image", image), ("joints", joints)):
        if name not in found:
            message = subscription.next()
            if message is not None:
                found[name] = message.to_pylist()[0]
    if len(found) == 2:
        break
assert len(found) == 2, found.keys()
found["image"]["data"] = [len(found["image"]["data"]), sum(found["image"]["data"])]
print(json.dumps(found), flush=True)
while time.monotonic() < deadline:  # until the test has heard it and ends us
    chatter.publish(pa.array([{"data": "pick up the red block"}]))
    time.sleep(0.05)
"""


def test_it_receives_images_and_joint_states_and_sends_a_string(
    domain_id: int,
    program: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("dora", reason="the independent peer needs dora-rs")
    pytest.importorskip("pyarrow", reason="the independent peer needs pyarrow")
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image, JointState
    from std_msgs.msg import String

    # The peer discovers by multicast only, so this test does too, on the loopback interface.
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.delenv("CYCLONEDDS_URI")  # it knows no tags
    share = tmp_path / "prefix"
    share.mkdir()
    (share / "share").symlink_to(INTERFACES)
    rclpy.init(args=[])
    request.addfinalizer(rclpy.try_shutdown)
    node = rclpy.create_node("robot")
    images = node.create_publisher(Image, "/camera/image_raw", 10)
    joints = node.create_publisher(JointState, "/joint_states", 10)
    heard: list[str] = []
    node.create_subscription(String, "/instruction", lambda message: heard.append(message.data), 10)
    image = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(range(256)) * 36)
    image.header.frame_id = "camera"
    state = JointState(name=["shoulder", "elbow"], position=[0.5, -1.5], velocity=[0.0, 2.0])

    def send() -> None:
        images.publish(image)
        joints.publish(state)

    node.create_timer(0.05, send)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    peer = program(PEER, str(share))
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(peer.stdout.readline()))
    reader.start()
    end = time.monotonic() + 40
    while (reader.is_alive() or not heard) and peer.poll() is None and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    peer.kill()
    reader.join()
    received = json.loads(output[0])
    assert received["image"]["data"] == [9216, sum(range(256)) * 36]
    assert (received["image"]["height"], received["image"]["encoding"]) == (48, "rgb8")
    assert received["image"]["header"]["frame_id"] == "camera"
    assert received["joints"]["name"] == ["shoulder", "elbow"]
    assert received["joints"]["position"] == [0.5, -1.5]
    assert set(heard) == {"pick up the red block"}
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()


TYPED = """
import sys, time
from dataclasses import dataclass
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64, int32, sequence, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32

@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str

@dataclass
class JointState(IdlStruct, typename="sensor_msgs::msg::dds_::JointState_"):
    header: Header
    name: sequence[str]
    position: sequence[float64]
    velocity: sequence[float64]
    effort: sequence[float64]

@dataclass
class String(IdlStruct, typename="std_msgs::msg::dds_::String_"):
    data: str

domain = Domain(int(sys.argv[1]), sys.argv[2])
participant = DomainParticipant(int(sys.argv[1]))
qos = Qos(
    Policy.Reliability.Reliable(10**9),
    Policy.DataRepresentation(use_cdrv0_representation=True),
    Policy.History.KeepLast(10),
)
reader = DataReader(participant, Topic(participant, "rt/joint_states", JointState), qos=qos)
writer = DataWriter(participant, Topic(participant, "rt/instruction", String), qos=qos)
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    writer.write(String("typed"))
    for sample in reader.take(1):
        print(sample.name, list(sample.position))
        time.sleep(0.2)
        sys.exit()
    time.sleep(0.02)
"""


def test_a_peer_that_announces_its_types_in_full_matches_too(ros: int, program: Callable[..., Any]) -> None:
    """As rmw_cyclonedds does since Jazzy: XTypes information on its endpoints, none on ours."""
    import rclpy
    from ros2_lite.dds.domain import discovery_config
    from sensor_msgs.msg import JointState
    from std_msgs.msg import String

    node = rclpy.create_node("robot")
    joints = node.create_publisher(JointState, "/joint_states", 10)
    heard: list[str] = []
    node.create_subscription(String, "/instruction", lambda message: heard.append(message.data), 10)
    node.create_timer(0.02, lambda: joints.publish(JointState(name=["elbow"], position=[1.5])))
    peer = program(TYPED, str(ros), discovery_config())
    while peer.poll() is None:
        rclpy.spin_once(node, timeout_sec=0.1)
    output, errors = peer.communicate()
    assert output == "['elbow'] [1.5]\n", errors
    assert set(heard) == {"typed"}
    node.destroy_node()
