"""Each shipped contract drives its robot over real topics: names, units, frames, stamps, and how motion ends."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from geometry_msgs.msg import Twist
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.nodes.policy_node import PolicyNode
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

from .robots import end_spinning, picture

PATIENCE_S = 3.0
"""Ages that a busy machine keeps, in place of a robot's [s]."""
SHIPPED = sorted(path.stem for path in (share_directory() / "config" / "robots").glob("*.yaml"))


def patient(name: str, **size: int) -> Contract:
    """A shipped contract for a machine that does much else."""
    contract = Contract.load(name)
    cameras = tuple(dataclasses.replace(camera, max_age_s=PATIENCE_S, **size) for camera in contract.cameras)
    state = tuple(dataclasses.replace(source, max_age_s=PATIENCE_S) for source in contract.state)
    return dataclasses.replace(contract, cameras=cameras, state=state)


def make_checkpoint(folder: Path, contract: Contract) -> Path:
    """A tiny policy with random weights for a contract; its actions are small against the limits."""
    size = TinyVLMConfig(hidden_size=32, vision_layers=1, text_layers=1, heads=2)
    words = build_processor(size)
    vlm = build_model(size, words)
    wide = contract.limits[:, 1] - contract.limits[:, 0]
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        cameras=[camera.name for camera in contract.cameras],
        state=list(contract.state_names),
        head={"type": "mlp"},
        action_statistics={"offset": [0.0] * len(wide), "scale": np.where(contract.binary, 1.0, wide / 20).tolist()},
    )
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    with torch.no_grad():
        policy.action_token.normal_()
    save_policy(folder, policy, ActionTokenProcessor(config, words))
    return folder


class Robot(Node):  # type: ignore[misc, unused-ignore]
    """A robot that stands still, seen by its cameras, and writes down the messages that it receives."""

    def __init__(self, contract: Contract) -> None:
        super().__init__("robot")
        self.contract = contract
        self.sees = True
        self.received: dict[str, list[tuple[float, Any]]] = {command.name: [] for command in contract.commands}
        self._cameras = [
            (
                picture(camera.type, camera.width, camera.height, i, 0, 0),
                self.create_publisher(messages.message_class(camera.type), camera.topic, 10),
            )
            for i, camera in enumerate(contract.cameras)
        ]
        self._states = [
            (source, self.create_publisher(messages.message_class(source.type), source.topic, 10))
            for source in contract.state
        ]
        for command in contract.commands:
            self.create_subscription(
                messages.message_class(command.type),
                command.topic,
                lambda message, name=command.name: self.received[name].append((time.monotonic(), message)),
                100,
            )
        self.instruction = self.create_publisher(String, contract.instruction_topic, 1)
        self.create_timer(1.0 / contract.rate_hz, self._observe)

    def _observe(self) -> None:
        stamp_ns = int(self.get_clock().now().nanoseconds)
        for source, publisher in self._states:
            values = np.full(len(source.dims), 0.1)
            message = messages.fill_state(messages.message_class(source.type)(), source, values, stamp_ns)
            if hasattr(message, "name"):  # a driver's own order, with a joint that nobody asked for
                message.name = ["wheel", *reversed(message.name)]
                message.position = [9.0, *reversed(message.position)]
            publisher.publish(message)
        for image, publisher in self._cameras if self.sees else ():
            messages.set_stamp(image, stamp_ns, "camera")
            publisher.publish(image)


class World:
    """A robot and the policy node for it, spinning in this process."""

    def __init__(self, contract: Contract, folder: Path, *parameters: str) -> None:
        texts = (f"checkpoint:={make_checkpoint(folder, contract)}", "max_chunk_age_s:=3.0", *parameters)
        rclpy.init(args=["--ros-args", *(item for text in texts for item in ("-p", text))])
        self._executor = MultiThreadedExecutor(num_threads=4)
        self.robot = Robot(contract)
        self.policy = PolicyNode()
        self._executor.add_node(self.robot)
        self._executor.add_node(self.policy)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def begin(self) -> None:
        self.wait(lambda: self.robot.instruction.get_subscription_count() >= 1, "the policy's subscription")
        self.robot.instruction.publish(String(data="go there"))
        self.wait(lambda: all(len(found) > 3 for found in self.robot.received.values()), "commands on every topic")

    def call(self, name: str) -> Any:
        client = self.robot.create_client(Trigger, f"/policy_node/{name}")
        assert client.wait_for_service(timeout_sec=10.0)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"the answer of {name}")
        return future.result()

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s: {self.policy.failure}"
            time.sleep(0.02)

    def close(self) -> None:
        self.policy.close()
        end_spinning(self._executor, self._thread)


@pytest.fixture
def world(domain_id: int, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(request.param, tmp_path / "policy")
    yield made
    made.close()


@pytest.mark.parametrize("world", [patient(name) for name in SHIPPED], ids=SHIPPED, indirect=True)
def test_every_command_comes_with_its_names_frame_stamp_and_limits(world: World) -> None:
    robot, begin_ns = world.robot, int(world.robot.get_clock().now().nanoseconds)
    world.begin()
    end_ns = int(robot.get_clock().now().nanoseconds)
    for command in robot.contract.commands:
        names = [dim.name for dim in command.dims]
        low, high = np.array([dim.limits for dim in command.dims]).T
        for _, message in list(robot.received[command.name]):
            values = messages.command_values(message, command)
            sent = np.where([dim.kind == "binary" for dim in command.dims], np.where(values > 0.5, high, low), values)
            assert (sent >= low - 1e-9).all()
            assert (sent <= high + 1e-9).all()
            if hasattr(message, "header"):
                assert message.header.frame_id == command.frame
                stamp_ns = messages.stamp_ns(message)
                assert stamp_ns is not None
                assert begin_ns <= stamp_ns <= end_ns + 1_000_000_000
            if hasattr(message, "joint_names"):
                assert list(message.joint_names) == names
                points = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
                assert points == sorted(points)
                assert points[0] > 0
                assert (len(points) > 1) == (command.trajectory == "chunk")


@pytest.mark.parametrize(
    "world", [patient(name, width=64, height=48) for name in ("diff_drive", "moveit_servo")], indirect=True
)
@pytest.mark.parametrize("ends", ["the camera", "stop"])
def test_a_velocity_ends_with_zero_when_the_policy_cannot_go_on(world: World, ends: str) -> None:
    robot = world.robot
    world.begin()
    command, received = robot.contract.commands[0], robot.received[robot.contract.commands[0].name]

    def moves() -> bool:
        return bool(messages.command_values(received[-1][1], command).any())

    world.wait(moves, "motion")
    if ends == "the camera":
        robot.sees = False
    else:
        stop = robot.create_client(Trigger, "/policy_node/stop")
        assert stop.wait_for_service(timeout_sec=5.0)
        stop.call_async(Trigger.Request())
    world.wait(lambda: not moves(), "zero velocity")
    world.wait(lambda: time.monotonic() - received[-1][0] > 0.5, "silence")  # others may command now
    assert not moves()


def test_a_velocity_ends_with_zero_when_the_node_is_ended(domain_id: int, tmp_path: Path) -> None:
    contract = patient("diff_drive", width=64, height=48)
    world = World(contract, tmp_path / "policy")
    try:
        world.begin()
        received, base = world.robot.received["base"], contract.commands[0]
        world.wait(lambda: messages.command_values(received[-1][1], base).any(), "motion")
        world.policy.close()
        world.wait(lambda: not messages.command_values(received[-1][1], base).any(), "zero velocity")
    finally:
        world.close()


def test_an_emergency_stop_ends_motion_until_it_is_reset_and_started(domain_id: int, tmp_path: Path) -> None:
    contract = patient("diff_drive", width=64, height=48)
    world = World(contract, tmp_path / "policy")
    try:
        world.begin()
        received, base = world.robot.received["base"], contract.commands[0]

        def moves() -> bool:
            return bool(messages.command_values(received[-1][1], base).any())

        button = world.robot.create_publisher(Bool, "/emergency_stop", 1)
        world.wait(lambda: button.get_subscription_count() > 0 and moves(), "motion, and somebody to stop it")
        button.publish(Bool(data=True))
        world.wait(lambda: not moves(), "zero velocity")
        assert not world.call("start").success
        assert not world.call("reset").success  # it is still pressed
        button.publish(Bool(data=False))
        world.wait(lambda: world.call("reset").success, "the reset")
        world.wait(lambda: time.monotonic() - received[-1][0] > 0.6, "silence")
        count = len(received)
        time.sleep(0.3)
        assert len(received) == count  # a reset alone starts nothing
        assert world.call("start").success
        world.wait(moves, "motion")
        assert world.call("emergency_stop").success
        world.wait(lambda: not moves(), "zero velocity")
    finally:
        world.close()


def test_without_the_dead_mans_switch_nothing_is_sent_and_a_dry_run_sends_elsewhere(
    domain_id: int, tmp_path: Path
) -> None:
    contract = patient("diff_drive", width=64, height=48)
    world = World(contract, tmp_path / "policy", "dead_man_topic:=/held", "dead_man_timeout_s:=2.0", "dry_run:=true")
    try:
        robot, shown = world.robot, []
        robot.create_subscription(Twist, "/policy_node/dry_run/base", shown.append, 10)
        world.wait(lambda: robot.instruction.get_subscription_count() > 0, "the policy's subscription")
        robot.instruction.publish(String(data="go there"))
        world.wait(lambda: world.policy.count_subscribers("/policy_node/dry_run/base") > 0, "the subscription")
        time.sleep(0.5)
        assert shown == []
        held = robot.create_publisher(Bool, "/held", 1)
        timer = robot.create_timer(0.1, lambda: held.publish(Bool(data=True)))
        world.wait(lambda: len(shown) > 3, "commands", 30.0)
        timer.cancel()
        world.wait(lambda: not messages.command_values(shown[-1], contract.commands[0]).any(), "zero velocity")
        assert robot.received["base"] == []
    finally:
        world.close()
