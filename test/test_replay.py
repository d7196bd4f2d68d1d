"""Replay: an episode's commands back to a robot through the filter, and a policy over a recorded episode."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from std_srvs.srv import Trigger

from robovlm_ros.bags import Commands, read_episode
from robovlm_ros.bags.replay import Replay
from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.cli.inspect_replay import Replayed, errors
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.replay_node import ReplayNode

from .robots import end_spinning, wait_until
from .test_bags import START, STEP, episode_messages, joints, pose
from .test_bags import record as record_bag
from .test_policy_node import TOOL, Robot
from .test_token_ablation import write_policy

CONTRACT = Contract.load("tabletop")
PERIOD_S = 1.0 / CONTRACT.command_rate_hz
X = [0.30 + 0.01 * i for i in range(8)]


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    """The arm goes along x, from a place a little behind where the test's robot stands; the gripper opens once."""
    found = []
    for topic, data, receive_ns in episode_messages(len(X)):
        i = (receive_ns - START) // STEP
        if topic == "/arm/target_pose":
            data = pose(START + i * STEP, X[i], 0.0, 0.2)
        elif topic == "/gripper/command":
            data = joints(START + i * STEP, ["gripper"], [0.04 * (i > 3)])
        found.append((topic, data, receive_ns))
    return record_bag(tmp_path / "episode", found)


class World:
    """A robot that stands still and a replay node in this process, spinning."""

    def __init__(self, episode: Path, *parameters: str) -> None:
        texts = (f"episode:={episode}", *parameters)
        rclpy.init(args=["--ros-args", *(item for text in texts for item in ("-p", text))])
        self._executor = MultiThreadedExecutor(num_threads=4)
        self.robot = Robot()
        self.robot.play()
        self._executor.add_node(self.robot)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()
        self.replay: ReplayNode | None = None

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def begin(self) -> None:
        self.replay = ReplayNode()
        self._executor.add_node(self.replay)

    def call(self, name: str) -> Trigger.Response:
        client = self.robot.create_client(Trigger, f"/replay_node/{name}")
        assert client.wait_for_service(timeout_sec=10.0)
        future = client.call_async(Trigger.Request())
        wait_until(future.done, f"the answer of {name}")
        return future.result()

    def close(self) -> None:
        end_spinning(self._executor, self._thread)


@pytest.fixture
def world(domain_id: int, episode: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(episode, *getattr(request, "param", ()))
    yield made
    made.close()


def test_an_episodes_commands_come_back_through_the_filter_and_the_node_ends_with_them(world: World) -> None:
    world.begin()
    wait_until(lambda: not rclpy.ok(), "the end of the episode")
    arm = np.array(world.robot.of("arm"))
    assert len(arm) == pytest.approx(0.7 / PERIOD_S, abs=5)
    assert abs(arm[0, 0] - TOOL["x"]) <= 0.8 * 2 * PERIOD_S + 1e-9  # from where the robot stands
    assert np.abs(np.diff(arm[:, 0])).max() <= 0.8 * 2 * PERIOD_S + 1e-9
    np.testing.assert_allclose(arm[-1], [X[-1], 0.0, 0.2], atol=1e-9)
    gripper = np.array(world.robot.of("gripper"))[:, 0]
    assert gripper[0] == 0.0
    assert gripper[-1] == 1.0
    assert np.count_nonzero(np.diff(gripper)) == 1


@pytest.mark.parametrize("world", [("speed:=0.2",)], indirect=True)
def test_an_emergency_stop_holds_the_episode_until_reset_and_start(world: World) -> None:
    world.begin()
    wait_until(lambda: len(world.robot.of("arm")) > 10, "commands")
    assert world.call("emergency_stop").success
    time.sleep(0.1)
    count = len(world.robot.commands)
    assert not world.call("start").success
    assert world.call("reset").success
    time.sleep(0.2)
    assert len(world.robot.commands) == count
    before = world.robot.of("arm")[-1]
    assert world.call("start").success
    wait_until(lambda: len(world.robot.commands) > count + 20, "commands after ~/start")
    assert X[0] <= world.robot.of("arm")[-1][0] <= X[3]  # where it was, and not where time would have been
    assert abs(world.robot.of("arm")[-1][0] - before[0]) < 0.03


def test_who_else_commands_the_robot_is_named_and_nothing_is_sent(world: World) -> None:
    stranger = rclpy.create_node("stranger")
    stranger.create_publisher(PoseStamped, "/arm/target_pose", 1)
    with pytest.raises(UserError, match=r"stranger also commands this robot \(/arm/target_pose\)"):
        world.begin()
    stranger.destroy_node()


def test_a_replay_goes_at_its_own_pace_and_waits_until_it_is_advanced(episode: Path) -> None:
    replay = Replay(Commands.of(read_episode(episode)), speed=0.5)
    for _ in range(3):
        assert replay.wanted()[0] == X[0]  # nothing was sent yet
    seen = []
    while not replay.over:
        seen.append(float(replay.wanted()[0]))
        replay.advance(STEP)
    assert seen == [x for x in X for _ in range(2)][: len(seen)]
    assert replay.share == 1.0
    with pytest.raises(UserError, match="speed must be above 0"):
        Replay(Commands.of(read_episode(episode)), speed=0.0)


def test_an_episode_without_commands_cannot_be_replayed(tmp_path: Path) -> None:
    path = record_bag(tmp_path / "mute", [m for m in episode_messages() if m[0] != "/gripper/command"])
    with pytest.raises(UserError, match="no command on /gripper/command"):
        Replay(Commands.of(read_episode(path)))


def test_inspect_replay_compares_only_where_a_command_was_in_force() -> None:
    recorded = np.zeros((4, 2, 2))  # observations, steps, actions
    recorded[:, :, 0] = np.array([0.0, 1.0, 2.0, 3.0])[:, None]
    predicted = recorded.copy()
    predicted[:, 0, 0] += 0.5
    predicted[1, 0, 1] = 1.0
    valid = np.ones((4, 2), np.bool_)
    valid[3, 1], predicted[3, 1, 0] = False, 99.0
    stamps = np.arange(4, dtype=np.int64)
    found = errors(
        Replayed(stamps_ns=stamps, predicted=predicted, recorded=recorded, valid=valid), np.array([False, True])
    )
    assert found["first_action"] == [0.5, 0.25]
    assert found["all_actions"] == pytest.approx([2.0 / 7, 1.0 / 7])
    assert found["largest"] == [0.5, 1.0]
    assert found["share_of_deviation"] == pytest.approx(0.5 / np.std([0, 1, 2, 3]))


def test_inspect_replay_runs_the_policy_over_an_episode_and_draws_it(tmp_path: Path, episode: Path) -> None:
    write_policy(tmp_path / "policy")
    figures = tmp_path / "figures.json"
    flags = ["--episode", str(episode), "--output", str(tmp_path / "out"), "--json", str(figures)]
    assert inspect(["replay", str(tmp_path / "policy"), *flags]) == 0
    (found,) = json.loads(figures.read_text())["episodes"]
    assert found["observations"] == len(X)
    assert found["deviation"][0] == pytest.approx(np.std(X), abs=0.005)
    assert (tmp_path / "out" / "episode_replay.png").stat().st_size > 10_000
