"""Teleoperation on real topics: a gamepad moves the simulated arm, and takes over from the shipped policy."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from geometry_msgs.msg import Twist
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.bags import observations, read_episode
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.intervention import LATCHED, obey_interventions
from robovlm_ros.nodes.policy_node import PolicyNode
from robovlm_ros.nodes.recorder_node import RecorderNode
from robovlm_ros.nodes.sim_node import SimNode
from robovlm_ros.nodes.teleop_node import TeleopNode

CONTRACT = Contract.load("tabletop")
PERIOD_NS = round(1e9 / CONTRACT.command_rate_hz)
DEAD_MAN = 4


class Person(Node):  # type: ignore[misc, unused-ignore]
    """Holds a gamepad, and watches the arm and who commands it: the frame of a pose tells its sender."""

    def __init__(self) -> None:
        super().__init__("person")
        self.axes, self.held = [0.0] * 8, set[int]()
        self.teleop: list[tuple[int, np.ndarray[Any, Any]]] = []
        """(stamp [ns], tool position [m]) of the teleoperation node's commands."""
        self.policy: list[tuple[int, np.ndarray[Any, Any]]] = []
        """Those of the policy."""
        self.poses: list[tuple[int, np.ndarray[Any, Any]]] = []
        """(stamp [ns], measured tool position [m])."""
        self.instruction = self.create_publisher(String, CONTRACT.instruction_topic, LATCHED)
        self._joy = self.create_publisher(Joy, "/joy", 10)
        self.take_over = self.create_client(Trigger, "/teleop_node/take_over")
        self.hand_back = self.create_client(Trigger, "/teleop_node/hand_back")
        pose, arm = CONTRACT.state[1], CONTRACT.commands[0]
        self.create_subscription(
            messages.message_class(pose.type), pose.topic, lambda m: self._see(m, messages.state_values(m, pose)), 50
        )
        self.create_subscription(messages.message_class(arm.type), arm.topic, self._hear, QoSProfile(depth=500))
        self.start = self.create_client(Trigger, "/recorder_node/start")
        self.stop = self.create_client(Trigger, "/recorder_node/stop")
        self._pressing = threading.Lock()
        self.create_timer(0.02, self.press)

    def press(self, *buttons: int) -> None:
        """Hold these buttons, besides those that are held."""
        with self._pressing:
            down = {*self.held, *buttons}
            self._joy.publish(Joy(axes=self.axes, buttons=[int(i in down) for i in range(8)]))

    @property
    def tool(self) -> Any:
        """(3,) where the tool is [m]; None: not known yet."""
        return self.poses[-1][1] if self.poses else None

    def from_measured(self, position: np.ndarray[Any, Any], stamp_ns: int) -> float:
        """How far a command of that time is from where the arm was measured in the second before [m]."""
        recent = [tool for stamp, tool in self.poses if stamp_ns - 1_000_000_000 < stamp <= stamp_ns]
        return float(min(np.abs(position - tool).max() for tool in recent))

    def _see(self, message: Any, position: np.ndarray[Any, Any]) -> None:
        self.poses.append((messages.stamp_ns(message) or 0, position))

    def _hear(self, message: Any) -> None:
        made = self.teleop if message.header.frame_id == "teleop" else self.policy
        made.append((messages.stamp_ns(message) or 0, messages.command_values(message, CONTRACT.commands[0])))


class World:
    """The simulator, a person, and nodes under test, spinning in this process."""

    def __init__(self, contract: Path, **parameters: str) -> None:
        arguments = ["--ros-args", "-p", f"teleop_node:contract:={contract}"]
        arguments += ["-p", f"recorder_node:directory:={contract.parent / 'episodes'}"]
        for name, value in {"input": "joy", "speed": "0.5", **parameters}.items():
            arguments += ["-p", f"teleop_node:{name}:={value}"]
        rclpy.init(args=arguments)
        self.executor = MultiThreadedExecutor(num_threads=6)
        self.listening = SingleThreadedExecutor()
        self.person = Person()
        self.listening.add_node(self.person)
        self.nodes: list[Any] = []
        self.others: list[Any] = []
        self._threads = [threading.Thread(target=self._spin, args=(e,)) for e in (self.executor, self.listening)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _spin(executor: Any) -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    def start(self, kind: Callable[[], Any]) -> Any:
        node = kind()
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
            time.sleep(0.01)

    def call(self, client: Any) -> Any:
        assert client.wait_for_service(10.0)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"the answer of {client.srv_name}")
        return future.result()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.executor.shutdown()
        self.listening.shutdown()
        rclpy.try_shutdown()
        for thread in self._threads:
            thread.join(10.0)
        for node in (
            *self.nodes,
            *self.others,
            self.person,
        ):  # until then they are in the domain, whatever became of the context
            node.destroy_node()


@pytest.fixture
def worlds(domain_id: int, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """A maker of worlds that are closed afterwards; their teleoperation nodes name themselves in their poses."""
    text = (Path(__file__).parent.parent / "config" / "robots" / "tabletop.yaml").read_text()
    contract = tmp_path / "teleop.yaml"
    contract.write_text(text.replace("frame: base_link", "frame: teleop"))
    made: list[World] = []

    def make(**parameters: str) -> World:
        made.append(World(contract, **parameters))
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_a_stick_moves_the_simulated_arm_only_while_the_dead_mans_button_is_held(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    world.start(SimNode)
    teleop = world.start(TeleopNode)
    person = world.person
    world.wait(lambda: person.tool is not None, "the simulator")
    begin = person.tool
    person.axes[1] = 1.0  # forward: x
    time.sleep(0.3)
    assert person.teleop == []
    person.held.add(DEAD_MAN)
    world.wait(lambda: person.tool[0] > begin[0] + 0.05, "motion")
    person.held.clear()
    world.wait(lambda: not teleop._input._source._buttons[DEAD_MAN], "hearing of the release")  # whenever it arrives
    released_ns = person.get_clock().now().nanoseconds
    time.sleep(0.5)
    sent = person.teleop
    assert sent[-1][0] < released_ns + PERIOD_NS
    np.testing.assert_allclose(person.tool[1:], begin[1:], atol=0.01)
    rate = (len(sent) - 1) / ((sent[-1][0] - sent[0][0]) / 1e9)
    assert 0.5 * CONTRACT.command_rate_hz < rate < 1.1 * CONTRACT.command_rate_hz  # the machine may do much else


def test_an_emergency_stop_ends_a_persons_commands_until_it_is_reset(worlds: Callable[..., World]) -> None:
    world = worlds()
    world.start(SimNode)
    world.start(TeleopNode)
    person = world.person
    person.held.add(DEAD_MAN)
    world.wait(lambda: len(person.teleop) > 5, "commands")
    button = person.create_publisher(Bool, "/emergency_stop", LATCHED)
    button.publish(Bool(data=True))
    world.wait(lambda: person.get_clock().now().nanoseconds - person.teleop[-1][0] > 500_000_000, "silence")
    button.publish(Bool(data=False))
    count, reset = len(person.teleop), person.create_client(Trigger, "/teleop_node/reset")
    time.sleep(0.3)
    assert len(person.teleop) == count
    world.wait(lambda: world.call(reset).success, "the reset")
    world.wait(lambda: len(person.teleop) > count + 5, "commands")


def test_a_person_takes_over_from_the_shipped_policy_and_hands_back_and_the_episode_tells_when(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    world.start(SimNode)
    world.start(RecorderNode)
    world.start(PolicyNode)
    person = world.person
    teleop, policy = person.teleop, person.policy
    person.instruction.publish(String(data="reach the red block"))
    world.wait(lambda: len(policy) > 25, "the policy's commands")
    world.start(TeleopNode)
    person.held.add(DEAD_MAN)  # takes nothing over by itself
    time.sleep(0.3)
    assert teleop == []
    path = world.call(person.start).message
    turns = []
    for direction in (1.0, -1.0):
        person.axes[0] = direction  # left, right: y
        seen = len(policy)
        world.wait(lambda: len(policy) > seen + 25, "the policy's commands")  # noqa: B023
        seen = len(teleop)
        answer = world.call(person.take_over)
        assert answer.success, answer.message
        world.wait(lambda: len(teleop) > seen + 40, "the person's commands")  # noqa: B023
        answer = world.call(person.hand_back)
        assert answer.success, answer.message
        turns.append(seen)
    seen = len(policy)
    world.wait(lambda: len(policy) > seen + 25, "the policy's commands")
    assert world.call(person.stop).success

    own = [teleop[: turns[1]], teleop[turns[1] :]]
    for turn in own:
        (first_ns, first), (last_ns, _) = turn[0], turn[-1]
        before = [values for stamp, values in policy if stamp < first_ns]
        after = [(stamp, values) for stamp, values in policy if stamp > last_ns]
        assert len(before) + len(after) == len(policy)  # none while the person commanded,
        jump = min(float(np.abs(before[-1] - first).max()), person.from_measured(first, first_ns))
        assert jump < 0.03  # no jump when they took over,
        assert person.from_measured(after[0][1], after[0][0]) < 0.03  # and none when the policy went on
    episode = read_episode(path)
    assert len(episode.interventions) == 2
    for (begin_ns, end_ns), turn in zip(episode.interventions, own, strict=True):
        assert begin_ns < turn[0][0]
        assert turn[-1][0] < end_ns
    flags = [step.intervention for step in observations(episode, ["static"])]
    changes = sum(one != other for one, other in itertools.pairwise(flags))
    assert (flags[0], changes, flags[-1]) == (False, 4, False)


def test_a_policy_that_starts_while_a_person_commands_waits_until_they_hand_back(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    world.start(SimNode)
    world.start(RecorderNode)
    world.start(TeleopNode)
    person = world.person
    person.instruction.publish(String(data="reach the red block"))
    person.held.add(DEAD_MAN)
    world.wait(lambda: len(person.teleop) > 5, "the person's commands")
    world.start(PolicyNode)
    path = world.call(person.start).message  # the person commands already: the episode knows it
    time.sleep(1.5)
    assert person.policy == []
    assert world.call(person.hand_back).success
    world.wait(lambda: len(person.policy) > 5, "the policy's commands")
    assert world.call(person.stop).success
    flags = [step.intervention for step in observations(read_episode(path), ["static"])]
    assert (flags[0], flags[-1], sorted(flags, reverse=True)) == (True, False, flags)


def test_a_policy_goes_on_yielding_when_the_persons_node_has_died_until_the_next_one_hands_back(
    worlds: Callable[..., World],
) -> None:
    world = worlds()
    policy, obeyed = rclpy.create_node("policy"), list[bool]()
    world.others.append(policy)
    word = world.person.create_publisher(Bool, CONTRACT.intervention_topic, LATCHED)
    world.wait(lambda: policy.count_publishers(CONTRACT.intervention_topic) == 1, "discovery")
    obey_interventions(policy, CONTRACT, obeyed.append)
    assert obeyed == [True]  # somebody may have taken over: it is not the policy's turn before they have spoken
    world.executor.add_node(policy)
    word.publish(Bool(data=True))
    world.wait(lambda: obeyed == [True, True], "the person's word")
    world.person.destroy_publisher(word)
    time.sleep(0.3)
    teleop = world.start(TeleopNode)
    world.wait(lambda: bool(teleop._handover.in_control), "taking the person's place")
    world.wait(lambda: obeyed == [True] * 3, "the new word")
    assert world.call(world.person.hand_back).success
    assert obeyed == [True, True, True, False]


def test_the_expert_commands_in_a_persons_place_through_the_same_filter(worlds: Callable[..., World]) -> None:
    world = worlds(input="expert", instruction="reach the red block")
    sim = world.start(SimNode)
    teleop = world.start(TeleopNode)
    block = next(block for block in sim._world.blocks if block.colour == "red")
    world.wait(
        lambda: world.person.tool is not None and np.abs(world.person.tool[:2] - block.position[:2]).max() < 0.02,
        "reaching",
    )
    assert teleop._operator.reasons == ()


def test_who_commands_without_yielding_is_named_and_keeps_the_person_from_taking_over(
    worlds: Callable[..., World],
) -> None:
    world = worlds(begin="policy")
    stranger = rclpy.create_node("stranger")
    world.others.append(stranger)
    command = CONTRACT.commands[0]
    stranger.create_publisher(messages.message_class(command.type), command.topic, 10)
    said: list[bool] = []
    world.person.create_subscription(Bool, "/intervention", lambda message: said.append(message.data), LATCHED)
    world.start(TeleopNode)
    answer = world.call(world.person.take_over)
    assert not answer.success
    assert answer.message == "/stranger also commands this robot, and does not yield to a person: end it first"
    assert True not in said


def test_a_second_teleoperation_node_that_is_to_command_is_refused(worlds: Callable[..., World]) -> None:
    world = worlds(begin="person")
    world.start(TeleopNode)
    with pytest.raises(UserError, match="/teleop_node also commands this robot"):
        TeleopNode()


def test_a_keyboard_without_a_terminal_is_refused_with_what_to_do(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worlds(input="keyboard")
    with (tmp_path / "empty").open("w+") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(UserError, match=r"needs a terminal.*`ros2 run robovlm_ros teleop_node`"):
            TeleopNode()


@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_robot_that_is_driven_by_velocities_is_stopped_when_the_node_ends(
    domain_id: int, tmp_path: Path, end: signal.Signals
) -> None:
    values = CONTRACT.to_dict()
    dims = [{"name": "linear_x", "unit": "m/s", "limits": [-1.0, 1.0]}]
    values["commands"] = [{"name": "base", "topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist", "dims": dims}]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "robovlm_ros.nodes.teleop_node", "--ros-args", "-p", "input:=joy"]
    rclpy.init()
    node = rclpy.create_node("base")
    process = subprocess.Popen([*command, "-p", f"contract:={tmp_path / 'base.yaml'}"], stdout=subprocess.DEVNULL)
    try:
        speeds: list[float] = []
        node.create_subscription(Twist, "/cmd_vel", lambda message: speeds.append(message.linear.x), 10)
        joy = node.create_publisher(Joy, "/joy", 10)
        forward = Joy(axes=[0.0, 1.0], buttons=[int(i == DEAD_MAN) for i in range(8)])
        node.create_timer(0.02, lambda: joy.publish(forward))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        deadline = time.monotonic() + 30.0
        while len(speeds) < 10 and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
        assert speeds[-1] == 0.25
        process.send_signal(end)
        while process.poll() is None and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
        for _ in range(10):
            executor.spin_once(timeout_sec=0.02)
        assert process.wait(1.0) == 0
        assert speeds[-1] == 0.0
    finally:
        process.kill()
        process.wait(10.0)
        node.destroy_node()
        rclpy.try_shutdown()
