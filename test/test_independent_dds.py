"""An independent implementation of DDS (RustDDS, through dora's ROS 2 bridge) works with our nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robovlm_ros.cli.processes import Nodes
from robovlm_ros.contract import Contract

from .peers import let_them_meet, start_peer

PEER = """
import json, sys, time
import dora
import pyarrow as pa

context = dora.Ros2Context([sys.argv[1]])
node = context.new_node("peer", "/", dora.Ros2NodeOptions(rosout=False))
qos = dora.Ros2QosPolicies(reliable=True, keep_last=5, max_blocking_time=0.1)
image = node.create_subscription(node.create_topic(sys.argv[2], "sensor_msgs/Image", qos))
joints = node.create_subscription(node.create_topic(sys.argv[3], "sensor_msgs/JointState", qos))
speaker = node.create_publisher(node.create_topic(sys.argv[4], "std_msgs/String", qos))
found = {}
deadline = time.monotonic() + 40
while time.monotonic() < deadline and len(found) < 2:
    time.sleep(0.02)
    for name, subscription in (("image", image), ("joints", joints)):
        message = subscription.next()
        if message is not None and name not in found:
            found[name] = message.to_pylist()[0]
found["image"]["data"] = len(found["image"]["data"])
print(json.dumps(found), flush=True)
while True:
    speaker.publish(pa.array([{"data": "a word from RustDDS"}]))
    time.sleep(0.2)
"""


def test_it_sees_camera_and_joints_and_its_instruction_is_recorded(
    domain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from std_srvs.srv import Trigger

    from robovlm_ros.bags import read_episode
    from robovlm_ros.cli.session import Session

    let_them_meet(monkeypatch)
    contract = Contract.load("tabletop")
    camera, joints = contract.cameras[0], contract.state[0]
    with Nodes() as nodes:
        nodes.start("sim_node", {"contract": "tabletop"})
        nodes.start("recorder_node", {"contract": "tabletop", "directory": tmp_path / "episodes"})
        peer = start_peer(PEER, tmp_path, camera.topic, joints.topic, contract.instruction_topic)
        try:
            assert peer.stdout is not None
            received = json.loads(peer.stdout.readline())
            with Session(contract, "tester", nodes.check) as session:
                start = session.node.create_client(Trigger, "/recorder_node/start")
                stop = session.node.create_client(Trigger, "/recorder_node/stop")
                said: list[str] = []
                for _ in range(8):  # until the recorder has discovered the peer's writer
                    session.trigger(start)
                    session.spin(1.0)
                    episode = read_episode(Path(session.trigger(stop)))
                    said += [text for _, text in episode.instructions]
                    if said:
                        break
        finally:
            peer.kill()
            peer.communicate()
    assert received["image"]["data"] == camera.width * camera.height * 3
    assert (received["image"]["encoding"], received["image"]["header"]["frame_id"]) == ("rgb8", camera.frame)
    assert set(joints.dims) <= set(received["joints"]["name"])
    assert set(said) == {"a word from RustDDS"}
