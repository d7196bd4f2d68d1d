"""Every type of command, as an implementation of DDS receives it that is not ours (RustDDS, by dora's ROS 2 bridge)."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from robovlm_ros.contract import Contract

from .peers import PACKAGES, let_them_meet, start_peer
from .worlds import PATIENCE_S, World

PEER = """
import json, sys, time
import dora

context = dora.Ros2Context([sys.argv[1]])
node = context.new_node("peer", "/", dora.Ros2NodeOptions(rosout=False))
qos = dora.Ros2QosPolicies(reliable=True, keep_last=50, max_blocking_time=0.1)
inputs = [
    (topic, node.create_subscription(node.create_topic(topic, kind, qos)))
    for topic, kind in json.loads(sys.argv[2]).items()
]
found = {}
end = time.monotonic() + 60
while len(found) < len(inputs) and time.monotonic() < end:
    time.sleep(0.01)
    for topic, subscription in inputs:
        message = subscription.next()
        if message is not None and topic not in found:
            found[topic] = [time.time_ns(), message.to_pylist()[0]]
print(json.dumps(found), flush=True)
sys.stdin.read()
"""
DECIDED = [
    *(0.125, -0.25, 0.375, 0.5, -0.625, 0.75, 0.875, -1.0),
    *(1.125, 1.25, -0.0625, 0.3125, 0.4375, -0.5625, 0.6875),
]
"""What the policy decides, in the order of the actions below; the first two relative to where the robot stands."""
STANDS = 0.1
"""Where each joint of the test's robot stands [rad]."""


def everything() -> Contract:
    """A robot that is commanded by every type of message, with joints that are not in alphabetical order."""

    def command(topic: str, kind: str, names: list[str], unit: str, **more: Any) -> dict[str, Any]:
        dims = [{"name": name, "unit": unit, "limits": [-2.0, 2.0]} for name in names]
        return {"topic": topic, "type": kind, "dims": dims, **more}

    commands = {
        "path": command("/path", "trajectory_msgs/msg/JointTrajectory", ["j2", "j1"], "rad", trajectory="chunk"),
        "point": command("/point", "trajectory_msgs/msg/JointTrajectory", ["p2", "p1"], "rad"),
        "group": command("/group", "std_msgs/msg/Float64MultiArray", ["g2", "g1"], "rad"),
        "joints": command("/joints", "sensor_msgs/msg/JointState", ["s2", "s1"], "m"),
        "rates": command("/rates", "sensor_msgs/msg/JointState", ["r1"], "rad/s"),
        "base": command("/base", "geometry_msgs/msg/Twist", ["linear_x"], "m/s"),
        "servo": command("/servo", "geometry_msgs/msg/TwistStamped", ["angular_z"], "rad/s", frame="tool0"),
        "pose": command(
            "/pose", "geometry_msgs/msg/PoseStamped", ["z", "x", "y"], "m", frame="base", orientation=[0.6, 0, 0.8, 0]
        ),
        "gripper": command("/gripper", "std_msgs/msg/Float64MultiArray", ["finger"], "m"),
    }
    if "control_msgs" in PACKAGES:
        commands["hand"] = command("/hand", "control_msgs/msg/GripperCommand", ["hand"], "m", max_effort=40.0)
    for dim in commands["path"]["dims"]:
        dim["reference"] = f"arm.{dim['name']}"
    return Contract.from_dict(
        {
            "name": "everything",
            "rate_hz": 10.0,
            "command_rate_hz": 50.0,
            "cameras": {"front": {"topic": "/image", "width": 64, "height": 48, "max_age_s": PATIENCE_S}},
            "state": {
                "arm": {
                    "topic": "/joint_states",
                    "type": "sensor_msgs/msg/JointState",
                    "dims": ["j1", "j2"],
                    "unit": "rad",
                    "max_age_s": PATIENCE_S,
                }
            },
            "commands": commands,
        }
    )


def test_every_command_has_its_values_by_name_unit_frame_and_stamp(
    domain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_them_meet(monkeypatch)
    contract = everything()
    kinds = {command.topic: command.type.replace("/msg/", "/") for command in contract.commands}
    decides = [*DECIDED, *[0.75] * (len(contract.action_dims) - len(DECIDED))]
    world, begin_ns = World(contract, tmp_path / "policy", decides=decides), time.time_ns()
    peer = start_peer(PEER, tmp_path, json.dumps(kinds))
    try:
        world.begin()
        assert peer.stdout is not None
        received = json.loads(peer.stdout.readline())
    finally:
        world.close()  # while the peer acknowledges what it received: writers wait for that
        peer.kill()
        peer.communicate()
    assert received.keys() == kinds.keys()
    for topic, frame in (("/path", ""), ("/point", ""), ("/servo", "tool0"), ("/pose", "base"), ("/joints", "")):
        when_ns, message = received[topic]
        stamp = message["header"]["stamp"]
        assert begin_ns <= stamp["sec"] * 10**9 + stamp["nanosec"] <= when_ns, topic
        assert message["header"]["frame_id"] == frame, topic
    said = {topic: message for topic, (_, message) in received.items()}

    def close(*values: float) -> Any:
        return pytest.approx(values, abs=1e-6)

    path = said["/path"]
    assert path["joint_names"] == ["j2", "j1"]
    assert len(path["points"]) > 1
    times = [point["time_from_start"] for point in path["points"]]
    times_ns = [time["sec"] * 10**9 + time["nanosec"] for time in times]
    assert times_ns[0] > 0
    assert {after - before for before, after in itertools.pairwise(times_ns)} == {contract.step_ns}
    for point in path["points"]:
        assert point["positions"] == close(STANDS + DECIDED[0], STANDS + DECIDED[1])
    (point,) = said["/point"]["points"]
    assert said["/point"]["joint_names"] == ["p2", "p1"]
    assert (point["positions"], point["time_from_start"]) == (close(*DECIDED[2:4]), {"sec": 0, "nanosec": 100_000_000})
    assert said["/group"]["data"] == close(*DECIDED[4:6])
    assert (said["/joints"]["name"], said["/joints"]["position"]) == (["s2", "s1"], close(*DECIDED[6:8]))
    assert said["/joints"]["velocity"] == []
    assert (said["/rates"]["name"], said["/rates"]["velocity"]) == (["r1"], close(DECIDED[8]))
    assert said["/rates"]["position"] == []
    zero = {"x": 0.0, "y": 0.0, "z": 0.0}
    assert said["/base"]["linear"] | {"x": 0.0} == said["/base"]["angular"] == zero
    assert said["/base"]["linear"]["x"] == pytest.approx(DECIDED[9], abs=1e-6)
    assert said["/servo"]["twist"]["angular"] | {"z": 0.0} == said["/servo"]["twist"]["linear"] == zero
    assert said["/servo"]["twist"]["angular"]["z"] == pytest.approx(DECIDED[10], abs=1e-6)
    place, turn = said["/pose"]["pose"]["position"], said["/pose"]["pose"]["orientation"]
    assert [place[name] for name in "zxy"] == close(*DECIDED[11:14])
    assert turn == {"x": 0.6, "y": 0.0, "z": 0.8, "w": 0.0}
    assert said["/gripper"]["data"] == close(DECIDED[14])
    if "/hand" in said:
        assert (said["/hand"]["position"], said["/hand"]["max_effort"]) == (pytest.approx(0.75, abs=1e-6), 40.0)
