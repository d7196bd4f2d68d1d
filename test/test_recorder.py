"""The recorder over real topics: nothing is lost, nothing is changed, and what is replayed is what was seen."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
import yaml
from rclpy.executors import MultiThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Int32, String
from std_srvs.srv import SetBool

from robovlm_ros import messages
from robovlm_ros.alignment import Aligner
from robovlm_ros.bags import Episode, observations, read_episode, recording
from robovlm_ros.contract import Contract
from robovlm_ros.nodes.recorder_node import RecorderNode
from robovlm_ros.observation import Observation
from robovlm_ros.training.cache import Cache
from robovlm_ros.training.windows import WindowDataset, read_recordings

from .makers import processor_for
from .robots import CONTRACT, LATCHED, RELIABLE, STEP, Robot, end, start_recorder, wait_until


@pytest.fixture
def recorder(domain_id: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_recorder(tmp_path / "episodes", "operator:=ada")
    yield process
    if process.poll() is None:
        end(process)


@pytest.fixture
def robot(domain_id: int) -> Iterator[Robot]:
    made = Robot(CONTRACT)
    yield made
    made.close()


def assert_holds(episode: Episode, sent: list[tuple[str, bytes]]) -> None:
    """The episode has these messages and no others; on the wire DDS may pad them up to a multiple of four bytes."""
    found = sorted((message.topic, message.data) for message in episode.messages())
    assert [topic for topic, _ in found] == [topic for topic, _ in sorted(sent)]
    for (_, data), (_, original) in zip(found, sorted(sent), strict=True):
        assert data[: len(original)] == original
        assert len(data) - len(original) < 4


def test_an_episode_holds_every_message_between_start_and_stop_unchanged(
    recorder: subprocess.Popen[str], robot: Robot
) -> None:
    robot.wait_for_recorder()
    robot.instruct("reach the green block")
    for act in robot.step(time.time_ns(), 99):
        act()
    time.sleep(0.1)
    before = len(robot.sent) - 1
    path = Path(robot.call("start").message)
    for i in range(30):
        for act in robot.step(time.time_ns(), i):
            act()
    assert not path.exists()
    response = robot.call("stop")
    assert (response.success, response.message) == (True, str(path))
    episode = read_episode(path)
    assert (episode.instruction, episode.operator, episode.outcome) == ("reach the green block", "ada", "unknown")
    assert_holds(episode, [robot.sent[0], *robot.sent[before + 1 :]])
    response = robot.call("mark", SetBool.Request(data=True))
    assert response.success
    assert read_episode(path).outcome == "success"
    output = end(recorder)
    assert "received 181, written 181, dropped 0 (" in output


def test_services_answer_with_the_reason_when_they_cannot(recorder: subprocess.Popen[str], robot: Robot) -> None:
    robot.wait_for_recorder()
    for name in ("stop", "discard", "mark"):
        response = robot.call(name, SetBool.Request(data=True) if name == "mark" else None)
        assert not response.success
        assert "start begins" in response.message or "nothing to mark" in response.message
    directory = Path(robot.call("start").message).parent
    assert "already" in robot.call("start").message
    assert "nothing is kept" in robot.call("stop").message
    assert robot.call("start").success
    for act in robot.step(time.time_ns(), 0):
        act()
    assert robot.call("discard").success
    assert list(directory.iterdir()) == []
    assert robot.call("start").success
    assert robot.call("mark", SetBool.Request(data=False)).success
    for act in robot.step(time.time_ns(), 0):
        act()
    assert read_episode(robot.call("stop").message).outcome == "failure"


def test_sigint_while_recording_keeps_the_episode(recorder: subprocess.Popen[str], robot: Robot) -> None:
    robot.wait_for_recorder()
    path = Path(robot.call("start").message)
    for act in robot.step(time.time_ns(), 0):
        act()
    time.sleep(0.2)
    end(recorder)
    assert recorder.returncode == 0
    assert_holds(read_episode(path), robot.sent)


def test_the_instruction_counts_once_from_latched_and_from_plain_publishers(
    recorder: subprocess.Popen[str], robot: Robot
) -> None:
    robot.instruct("old")
    robot.wait_for_recorder()
    path = Path(robot.call("start").message)
    robot.instruct("reach the red block")
    time.sleep(0.3)  # topics have no order among each other: without it an image may come first
    for act in robot.step(time.time_ns(), 0):
        act()
    time.sleep(0.3)
    plain = robot.node.create_publisher(String, CONTRACT.instruction_topic, 10)
    wait_until(lambda: plain.get_subscription_count() > 0, "subscription")
    plain.publish(String(data="reach the blue block"))
    time.sleep(0.3)
    robot.call("stop")
    episode = read_episode(path)
    assert episode.counts[CONTRACT.instruction_topic] == 3
    assert [text for _, text in episode.instructions] == ["old", "reach the red block", "reach the blue block"]
    assert episode.instruction == "reach the red block"  # in force when the first image came


def test_best_effort_cameras_and_extra_topics_are_recorded(domain_id: int, tmp_path: Path) -> None:
    robot = Robot(CONTRACT, QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    extra = robot.node.create_publisher(Int32, "/extra", LATCHED)
    recorder = start_recorder(tmp_path, "extra_topics:=[/extra]")
    try:
        robot.wait_for_recorder()
        wait_until(lambda: extra.get_subscription_count() > 0, "subscription to the extra topic")
        path = Path(robot.call("start").message)
        for i in range(5):
            for act in robot.step(time.time_ns(), i):
                act()
            extra.publish(Int32(data=i))
            time.sleep(0.02)
        robot.call("stop")
    finally:
        robot.close()
        end(recorder)
    episode = read_episode(path)
    assert episode.counts[CONTRACT.cameras[0].topic] == 5
    assert [m.decode().data for m in episode.messages(["/extra"])] == list(range(5))
    info = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    offered = {
        topic["topic_metadata"]["name"]: yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])[0]
        for topic in info["topics_with_message_count"]
    }
    assert (offered["/extra"]["durability"], offered[CONTRACT.cameras[0].topic]["reliability"]) == (1, 2)


def test_a_full_disk_is_said_and_finished_episodes_stay(domain_id: int, tmp_path: Path) -> None:
    limit = 300_000  # bytes of one file, as a disk that fills up

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    robot = Robot(CONTRACT)
    recorder = start_recorder(tmp_path, "compress:=false", preexec_fn=small_files)
    try:
        robot.wait_for_recorder()
        robot.call("start")
        for act in robot.step(time.time_ns(), 0):
            act()
        good = robot.call("stop").message
        robot.call("start")
        for i in range(60):
            for act in robot.step(time.time_ns(), i):
                act()
            time.sleep(0.005)
        response = robot.call("stop")
        assert not response.success
        assert "File too large" in response.message
        assert robot.call("start").success  # it goes on
        assert robot.call("discard").success
    finally:
        robot.close()
        output = end(recorder)
    assert "broke off: File too large" in output
    assert len(list(read_episode(good).messages())) == 6


def test_messages_that_had_to_be_dropped_are_an_error_and_the_rest_is_kept(
    robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CAPACITY_BYTES", 10_000)  # an image is larger, all else is smaller
    rclpy.init(args=["--ros-args", "-p", f"directory:={tmp_path}"])
    node = RecorderNode()
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        robot.wait_for_recorder()
        path = Path(robot.call("start").message)
        for act in robot.step(time.time_ns(), 0):
            act()
        response = robot.call("stop")
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()
        rclpy.try_shutdown()
    assert not response.success
    assert f"messages are missing: {CONTRACT.cameras[0].topic} 1" in response.message
    kept = [message.topic for message in read_episode(path).messages()]
    assert sorted(kept) == sorted(part.topic for part in (*CONTRACT.state, *CONTRACT.commands))


def test_bad_parameters_end_in_one_line(domain_id: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory, parameter, said in (
        (tmp_path, "contract:=nosuch", "no contract 'nosuch'"),
        (tmp_path / "file" / "sub", "operator:=x", "cannot be made"),
    ):
        process = start_recorder(directory, parameter)
        output, _ = process.communicate(timeout=15)
        assert process.returncode == 1
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert said in errors[0]
        assert "Traceback" not in output


def jpeg_wrist() -> Contract:
    cameras = (
        CONTRACT.cameras[0],
        dataclasses.replace(
            CONTRACT.cameras[1], topic="/wrist_camera/compressed", type="sensor_msgs/msg/CompressedImage"
        ),
    )
    return dataclasses.replace(CONTRACT, cameras=cameras)


def test_observations_and_model_inputs_live_and_from_the_bag_are_byte_identical(domain_id: int, tmp_path: Path) -> None:
    """Topics are delayed, dropped and reordered against each other; the oracle is a live node with the aligner."""
    contract = jpeg_wrist()
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(contract.to_dict()))
    robot = Robot(contract)
    aligner, live, lock = Aligner(contract), [], threading.Lock()

    def listen(topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            with lock:
                aligner.add_message(topic, message, time.time_ns())
                while (observation := aligner.next_observation()) is not None:
                    live.append(observation)

        return receive

    for part in (*contract.cameras, *contract.state):
        robot.node.create_subscription(messages.message_class(part.type), part.topic, listen(part.topic), RELIABLE)
    robot.node.create_subscription(String, contract.instruction_topic, listen(contract.instruction_topic), LATCHED)
    recorder = start_recorder(tmp_path / "episodes", f"contract:={tmp_path / 'robot.yaml'}")
    try:
        robot.wait_for_recorder()
        heard = [robot.publishers[part.topic] for part in (*contract.cameras, *contract.state)]
        wait_until(lambda: all(publisher.get_subscription_count() > 1 for publisher in heard), "all subscriptions")
        robot.instruct("reach the red block")
        time.sleep(0.1)
        path = Path(robot.call("start").message)
        rng = np.random.default_rng(0)
        start = time.time_ns()
        late: list[Callable[[], None]] = []
        for i in range(25):
            dropped = tuple(topic for topic in robot.publishers if rng.random() < 0.1)
            acts = robot.step(start + i * STEP, i, but=dropped if 0 < i < 24 else ())
            order = rng.permutation(len(acts))
            now = [acts[k] for k in order]
            held, late = [act for act in now if rng.random() < 0.25], late
            for act in [*late, *(act for act in now if act not in held)]:
                act()
            late = held
        for act in late:
            act()
        time.sleep(0.2)
        robot.call("stop")
    finally:
        robot.close()
        end(recorder)
    assert_holds(read_episode(path), robot.sent)
    replayed = [step.observation for step in observations(read_episode(path))]
    assert len(live) >= 15
    assert [o.stamp_ns for o in live] == [o.stamp_ns for o in replayed]
    policy_sees, training_sees = processor_for(contract), processor_for(contract)
    for a, b in zip(live, replayed, strict=True):
        assert_identical(a, b)
        model_inputs = [policy_sees(a), training_sees(b)]
        one, other = ({name: tensor.numpy().tobytes() for name, tensor in each.items()} for each in model_inputs)
        assert one == other
        assert {"input_ids", "pixel_values", "state"} <= set(one)
    for _ in range(2):  # decoded into the cache, and read from there
        chunk = len(live) + 2  # so long that no observation is left out for want of a command
        [recording] = read_recordings([read_episode(path)], training_sees, chunk, None, cache=Cache(tmp_path / "cache"))
        learned = WindowDataset([recording], training_sees)
        assert len(learned) == len(live)
        for item, a in enumerate(live):
            assert all(torch.equal(learned[item][name], tensor) for name, tensor in policy_sees(a).items())


def assert_identical(a: Observation, b: Observation) -> None:
    assert a.instruction == b.instruction
    assert a.state.tobytes() == b.state.tobytes()
    assert {name: image.tobytes() for name, image in a.images.items()} == {
        name: image.tobytes() for name, image in b.images.items()
    }
