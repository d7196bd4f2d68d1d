"""The simulator on real topics, as a process of its own: lockstep, real time, and what it refuses."""

from __future__ import annotations

import json
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
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.sim.expert import ReachExpert
from robovlm_ros.sim.tasks import Block, outcome
from robovlm_ros.sim.truth import blocks_of

from .robots import end_spinning

CONTRACT = Contract.load("tabletop")
COMMAND = [sys.executable, "-m", "robovlm_ros.nodes.sim_node", "--ros-args"]


class Watcher(Node):  # type: ignore[misc, unused-ignore]
    """Keeps what the simulator publishes, and sends commands."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self.seen: dict[str, list[tuple[int, Any]]] = {}
        """Camera or state name → (stamp [ns], image or values), in order of arrival."""
        self.clock: list[int] = []
        self.blocks: tuple[Block, ...] = ()
        for source in (*CONTRACT.state, *CONTRACT.cameras):
            self.create_subscription(messages.message_class(source.type), source.topic, self._keep(source), 50)
        self.create_subscription(Clock, "/clock", self._on_clock, 50)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(MarkerArray, "/sim_node/blocks", self._on_blocks, latched)
        self._publishers_of = {
            command.name: self.create_publisher(messages.message_class(command.type), command.topic, 10)
            for command in CONTRACT.commands
        }

    def _keep(self, source: Any) -> Callable[[Any], None]:
        seen = self.seen.setdefault(source.name, [])
        is_camera = source in CONTRACT.cameras

        def receive(message: Any) -> None:
            value = messages.image(message, source) if is_camera else messages.state_values(message, source)
            seen.append((messages.stamp_ns(message) or 0, value))

        return receive

    def _on_clock(self, message: Clock) -> None:
        self.clock.append(message.clock.sec * 1_000_000_000 + message.clock.nanosec)

    def _on_blocks(self, message: MarkerArray) -> None:
        self.blocks = blocks_of(message)

    def send(self, values: list[float] | np.ndarray[Any, Any], stamp_ns: int) -> None:
        """Publish one message on each command topic; `values` is the action vector."""
        first = 0
        for command in CONTRACT.commands:
            message = messages.message_class(command.type)()
            part = np.asarray(values)[first : first + len(command.dims)]
            self._publishers_of[command.name].publish(messages.fill_command(message, command, part, stamp_ns, 0))
            first += len(command.dims)

    def send_raw(self, name: str, message: Any) -> None:
        self._publishers_of[name].publish(message)

    def now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


class Stage:
    """A simulator process and a watcher in this one."""

    def __init__(self, log: Path, *parameters: str) -> None:
        self.log = log
        arguments = [item for parameter in parameters for item in ("-p", parameter)]
        with log.open("w") as output:
            self._process = subprocess.Popen([*COMMAND, *arguments], stdout=output, stderr=subprocess.STDOUT)
        rclpy.init()
        self.watcher = Watcher()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.watcher)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self.wait(lambda: len(self.watcher.seen["wrist"]) > 0, "the first image", 20.0)

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s: {self.log.read_text()}"
            time.sleep(0.005)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.watcher.create_client(kind, name)
        assert client.wait_for_service(5.0)
        future = client.call_async(request)
        self.wait(future.done, name)
        return future.result()

    def reset(self, seed: int | None = None) -> dict[str, int]:
        if seed is not None:
            request = SetParameters.Request(parameters=[Parameter("seed", value=seed).to_parameter_msg()])
            assert self.call(SetParameters, "/sim_node/set_parameters", request).results[0].successful
        response = self.call(Trigger, "/sim_node/reset", Trigger.Request())
        assert response.success
        answer: dict[str, int] = json.loads(response.message)
        return answer

    def observation(self, stamp_ns: int) -> dict[str, Any]:
        """Wait for everything with that stamp."""
        found: dict[str, Any] = {}

        def complete() -> bool:
            for name, items in self.watcher.seen.items():
                found.update((name, value) for stamp, value in items[-5:] if stamp == stamp_ns)
            return len(found) == len(self.watcher.seen)

        self.wait(complete, f"the observation at {stamp_ns}")
        return found

    def close(self) -> int:
        self._process.terminate()
        code = self._process.wait(10.0)
        end_spinning(self._executor, self._thread)
        return code


@pytest.fixture
def lockstep(domain_id: int, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "log", "lockstep:=true", "seed:=5")
    yield stage
    stage.close()


@pytest.fixture
def real_time(domain_id: int, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "log")
    yield stage
    stage.close()


def test_in_lockstep_the_world_waits_for_each_answer_and_the_expert_gets_there(lockstep: Stage) -> None:
    watcher = lockstep.watcher
    answer = lockstep.reset()
    assert answer["seed"] == 6  # the first scene was 5
    stamp = answer["stamp_ns"]
    tool = lockstep.observation(stamp)["ee"]
    lockstep.wait(lambda: len(watcher.blocks) == 3, "the blocks")
    target = watcher.blocks[0].colour
    expert = ReachExpert(np.random.default_rng(0))
    for _ in range(25):
        watcher.send(expert.act(tool, watcher.blocks, target), stamp)
        stamp += CONTRACT.step_ns
        tool = lockstep.observation(stamp)["ee"]
    assert outcome(tool, watcher.blocks, target).distance_m < 0.01
    assert watcher.clock[-1] == stamp
    count = len(watcher.seen["static"])
    time.sleep(0.5)
    assert len(watcher.seen["static"]) == count  # nobody answered: time stands still
    watcher.send([0.3, 0.0, 0.2, 1.0], stamp - 1)  # an answer to something older counts for nothing
    time.sleep(0.3)
    assert len(watcher.seen["static"]) == count
    late = lockstep.reset()["stamp_ns"]
    assert late > stamp


def test_the_same_seed_shows_the_same_scene_again_byte_for_byte(lockstep: Stage) -> None:
    images = []
    for seed in (41, 42, 41):
        answer = lockstep.reset(seed)
        assert answer["seed"] == seed
        images.append(lockstep.observation(answer["stamp_ns"])["static"].tobytes())
    assert images[0] == images[2] != images[1]
    assert lockstep.reset()["seed"] == 42


def test_in_real_time_observations_come_at_the_contracts_rate_with_one_stamp_each(real_time: Stage) -> None:
    watcher = real_time.watcher
    first = len(watcher.seen["static"])
    time.sleep(2.0)
    stamps = [stamp for stamp, _ in watcher.seen["static"][first:]]
    assert 16 <= len(stamps) <= 24
    assert abs(np.mean(np.diff(stamps)) / CONTRACT.step_ns - 1) < 0.15
    assert abs(watcher.now() - stamps[-1]) < 0.5e9
    for name in ("wrist", "joints", "ee"):
        assert set(stamps[:-1]) <= {stamp for stamp, _ in watcher.seen[name]}
    assert watcher.clock == []


def test_in_real_time_the_arm_follows_commands_and_holds_when_they_stop_or_make_no_sense(real_time: Stage) -> None:
    watcher = real_time.watcher
    goal = np.array([0.35, 0.10, 0.25])
    for _ in range(10):
        watcher.send([*goal, 0.0], watcher.now())
        time.sleep(0.02)

    def there() -> bool:
        return bool(np.linalg.norm(watcher.seen["ee"][-1][1] - goal) < 2e-3)

    real_time.wait(there, "reaching the target")
    wrong = messages.message_class("sensor_msgs/msg/JointState")(name=["thumb"], position=[1.0])
    watcher.send_raw("gripper", wrong)
    broken = messages.message_class("geometry_msgs/msg/PoseStamped")()
    broken.pose.position.x = float("nan")
    watcher.send_raw("arm", broken)
    time.sleep(1.0)
    assert there()
    assert watcher.seen["joints"][-1][1][-1] == pytest.approx(0.0, abs=2e-3)
    assert real_time.close() == 0
    log = real_time.log.read_text()
    assert "no joint 'gripper' in the message (joints: thumb)" in log
    assert "(/arm/target_pose) holds NaN" in log


def test_a_second_simulator_in_the_same_domain_says_so_and_ends(real_time: Stage) -> None:
    twin = subprocess.run(COMMAND, capture_output=True, text=True, timeout=30, check=False)
    assert twin.returncode == 1
    assert "error: a node /sim_node already runs in ROS domain" in twin.stderr
    assert "Traceback" not in twin.stderr


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("contract:=nowhere", "error: no contract 'nowhere' (a YAML file, or one of: arm7_trajectory"),
        ("real_time_factor:=2.0", "error: parameter 'real_time_factor': values other than 1.0 need publish_clock"),
        ("use_sim_time:=true", "error: parameter 'use_sim_time': the simulator makes the time"),
        ("seed:=-1", "seed"),
    ],
)
def test_a_bad_parameter_gets_one_line_and_a_status(domain_id: int, parameter: str, line: str) -> None:
    done = subprocess.run([*COMMAND, "-p", parameter], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
