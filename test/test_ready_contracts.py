"""Each shipped contract drives its robot over real topics: names, units, frames, stamps, and how motion ends."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Twist
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.contract import share_directory
from robovlm_ros.errors import UserError
from robovlm_ros.nodes import description
from robovlm_ros.sim.model import URDF

from .worlds import World, patient

SHIPPED = sorted(path.stem for path in (share_directory() / "config" / "robots").glob("*.yaml"))


@pytest.fixture
def world(domain_id: int, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(request.param, tmp_path / "policy")
    yield made
    made.close()


@pytest.mark.parametrize("world", [patient(name, width=64, height=48) for name in SHIPPED], ids=SHIPPED, indirect=True)
def test_every_command_comes_with_its_names_frame_stamp_and_limits(world: World) -> None:
    robot, begin_ns = world.robot, int(world.robot.get_clock().now().nanoseconds)
    world.begin()
    end_ns = int(robot.get_clock().now().nanoseconds)
    for command in robot.contract.commands:
        names, lengths = [dim.name for dim in command.dims], []
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
                lengths.append(len(points))
        if lengths:  # of a late decision no more than its end is left
            assert (max(lengths) > 1) == (command.trajectory == "chunk")


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
    domain_id: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
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
        said = capfd.readouterr().err
        assert said.count("camera 'front' are in frame 'camera', the contract says 'camera_optical_frame'") == 1, said
    finally:
        world.close()


def test_a_policy_keeps_the_limits_of_the_urdf_that_its_robot_publishes(
    domain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = dataclasses.replace(patient("tabletop_joints", width=64, height=64), urdf_topic="/robot_description")
    urdf = URDF.read_text().replace('lower="-2.9" upper="2.9"', 'lower="0.3" upper="0.4"')
    world = World(contract, tmp_path / "policy", urdf=urdf)
    try:
        world.begin()
        sent = [message.data[0] for _, message in list(world.robot.received["arm"])]
        assert min(sent) >= 0.3 - 1e-9
        monkeypatch.setattr(description, "WAIT_S", 0.2)
        silent = dataclasses.replace(contract, urdf_topic="/nobody")
        with pytest.raises(UserError, match=r"no URDF came on /nobody within 0.2 s \(contract: urdf_topic\)"):
            description.within_description(world.robot, silent)
    finally:
        world.close()
