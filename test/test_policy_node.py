"""The policy node on real topics: rate, holding, instructions, and what it refuses to start with."""

from __future__ import annotations

import contextlib
import functools
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
import torch
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.policy_node import PolicyNode
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

from .robots import end_spinning

CONTRACT = Contract.load("tabletop")
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOOL = {"x": 0.35, "y": 0.0, "z": 0.2}


class Robot(Node):  # type: ignore[misc, unused-ignore]
    """A robot that stands still: cameras and state at the contract's rate, and it writes down its commands."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.camera_on = True
        self.alive = False
        """Whether images differ from each other."""
        self.commands: list[tuple[float, str, int, np.ndarray[Any, Any]]] = []
        """(receive time [s], command name, stamp [ns], values)."""
        self.reports: list[DiagnosticArray] = []
        self._images = [
            (camera, self.create_publisher(Image, camera.topic, 10), self._picture(camera.width, camera.height))
            for camera in CONTRACT.cameras
        ]
        self._states = [
            (source, self.create_publisher(messages.message_class(source.type), source.topic, 10))
            for source in CONTRACT.state
        ]
        for command in CONTRACT.commands:
            kind = messages.message_class(command.type)
            self.create_subscription(kind, command.topic, self._listener(command), 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)
        self.latched = self.create_publisher(String, CONTRACT.instruction_topic, LATCHED)
        self.volatile = self.create_publisher(String, CONTRACT.instruction_topic, 10)

    def play(self) -> None:
        """Publish observations in real time from now on."""
        self.create_timer(1.0 / CONTRACT.rate_hz, lambda: self.observe(self.get_clock().now().nanoseconds))

    def observe(self, stamp_ns: int) -> None:
        """Publish one observation."""
        for source, publisher in self._states:
            values = np.array([TOOL.get(dim, 0.1) for dim in source.dims])
            publisher.publish(messages.fill_state(messages.message_class(source.type)(), source, values, stamp_ns))
        for camera, publisher, data in self._images:
            if self.alive:
                data = stamp_ns.to_bytes(8, "little") + data[8:]
            if self.camera_on:
                image = Image(
                    height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width, data=data
                )
                messages.set_stamp(image, stamp_ns, camera.frame)
                publisher.publish(image)

    def of(self, name: str, since: float = 0.0) -> list[np.ndarray[Any, Any]]:
        """Values received for one command."""
        return [values for received, command, _, values in self.commands if command == name and received >= since]

    def has(self, count: int) -> bool:
        """Whether so many command messages have come."""
        return len(self.commands) == count

    @staticmethod
    def _picture(width: int, height: int) -> bytes:
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8).tobytes()

    def _listener(self, command: Any) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            stamp_ns = messages.stamp_ns(message) or 0
            values = messages.command_values(message, command)
            self.commands.append((time.monotonic(), command.name, stamp_ns, values))

        return receive


class World:
    """A robot and a policy node in this process, spinning."""

    def __init__(self, parameters: dict[str, str]) -> None:
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self._executor = MultiThreadedExecutor(num_threads=4)
        self.robot = Robot()
        self._executor.add_node(self.robot)
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()
        self.policy: PolicyNode | None = None

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def start_policy(self) -> PolicyNode:
        self.policy = PolicyNode()
        self._executor.add_node(self.policy)
        return self.policy

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
            time.sleep(0.02)

    def close(self) -> None:
        if self.policy is not None:
            self.policy.close()
        end_spinning(self._executor, self._thread)


def make_checkpoint(folder: Path, broken: bool = False, head: dict[str, Any] | None = None) -> Path:
    """A complete checkpoint with random weights; `broken`: with a NaN among them."""
    size = TinyVLMConfig(hidden_size=32, vision_layers=1, text_layers=1, heads=2)
    words = build_processor(size)
    vlm = build_model(size, words)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=CONTRACT.to_dict(),
        cameras=["static"],
        state=["ee.x", "ee.y", "ee.z"],
        head=head or {"type": "mlp"},
        action_statistics={"offset": [0.0] * 4, "scale": [0.02, 0.02, 0.02, 1.0]},  # centimetres, within the limits
    )
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    with torch.no_grad():
        policy.action_token.normal_()
        if broken:
            policy.action_token[0, 0] = float("nan")
    save_policy(folder, policy, ActionTokenProcessor(config, words))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint with random weights."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def world(domain_id: int, checkpoint: Path) -> Iterator[World]:
    made = World({"checkpoint": str(checkpoint), "statistics_period_s": "0.5"})
    yield made
    made.close()


def test_commands_come_at_the_contracts_rate_within_limits_and_follow_each_new_instruction(world: World) -> None:
    robot = world.robot
    robot.latched.publish(String(data="reach the red block"))  # before the policy is there
    policy = world.start_policy()
    robot.play()
    world.wait(lambda: len(robot.of("arm")) > 5, "the first command")
    begin = time.monotonic()
    time.sleep(2.0)
    arm, gripper = robot.of("arm", begin), robot.of("gripper", begin)
    assert len(arm) >= 20 * 2
    assert abs(len(arm) - len(gripper)) <= 2
    limits = CONTRACT.limits
    assert (np.array(arm) >= limits[:3, 0]).all()
    assert (np.array(arm) <= limits[:3, 1]).all()
    stamps = [stamp for _, name, stamp, _ in robot.commands if name == "arm"]
    assert stamps == sorted(stamps)

    robot.volatile.publish(String(data="reach the blue block"))  # as a plain `ros2 topic pub` does
    changed = time.monotonic()
    world.wait(
        lambda: any(r.status[0].message == "following 'reach the blue block'" for r in robot.reports), "the change"
    )
    world.wait(lambda: len(robot.of("arm", changed + 0.3)) > 5, "commands for the new instruction")
    assert not np.allclose(robot.of("arm")[-1], arm[-1], atol=1e-9)
    figures = {item.key: item.value for item in robot.reports[-1].status[0].values}
    assert figures["camera stamp to command"].startswith("p50 ")
    assert figures["disagreement of decisions"].startswith("p50 ")
    assert int(figures["missed periods"]) >= 0
    assert float(figures["rate of static"].removesuffix(" Hz")) > 1.0
    for unwanted in ("x" * 1_000_000, "reach\x1b[2J it"):  # refused: the one before them holds
        robot.volatile.publish(String(data=unwanted))
    later = time.monotonic()
    world.wait(lambda: len(robot.of("arm", later + 0.3)) > 5, "commands for the instruction before")
    assert robot.reports[-1].status[0].message == "following 'reach the blue block'"
    assert policy.failure is None


def test_it_holds_while_the_camera_is_silent_and_goes_on_afterwards(world: World) -> None:
    robot = world.robot
    world.start_policy()
    robot.play()
    robot.latched.publish(String(data="reach the red block"))
    world.wait(lambda: len(robot.of("arm")) > 5, "the first command")
    robot.camera_on = False
    off = time.monotonic()
    world.wait(lambda: any("'static' is" in r.status[0].message for r in robot.reports), "the report")
    assert robot.commands[-1][0] - off < 0.7  # max_age_s of the camera is 0.5 s, and it was up to 0.1 s old
    robot.camera_on = True
    on = time.monotonic()
    world.wait(lambda: len(robot.of("arm", on)) > 5, "a command after the camera came back")


def test_it_holds_while_a_camera_that_should_not_repeats_its_image(
    domain_id: int, checkpoint: Path, tmp_path: Path
) -> None:
    values = CONTRACT.to_dict()
    values["cameras"][0]["max_frozen_s"] = 0.3
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(values))
    world = World({"checkpoint": str(checkpoint), "contract": str(tmp_path / "robot.yaml")})
    try:
        robot = world.robot
        robot.alive = True
        world.start_policy()
        robot.play()
        robot.latched.publish(String(data="reach the red block"))
        world.wait(lambda: len(robot.of("arm")) > 20, "commands")
        robot.alive = False
        world.wait(lambda: any("'static' shows the same image" in r.status[0].message for r in robot.reports), "why")
        robot.alive = True
        on = time.monotonic()
        world.wait(lambda: len(robot.of("arm", on)) > 5, "commands after the camera came back to life")
    finally:
        world.close()


def test_the_strategy_changes_while_commands_go_on_and_an_unknown_one_is_refused(world: World) -> None:
    robot = world.robot
    policy = world.start_policy()
    robot.play()
    robot.latched.publish(String(data="reach the red block"))
    for name in ("receding", "ensemble", "blend"):
        (answer,) = policy.set_parameters([Parameter("strategy", value=name)])
        assert answer.successful
        since = time.monotonic()
        world.wait(lambda since=since: len(robot.of("arm", since)) > 20, f"commands with {name}")  # type: ignore[misc]
    (answer,) = policy.set_parameters([Parameter("strategy", value="best")])
    assert answer.reason == "parameter 'strategy': 'best' is not one of: first, receding, ensemble, blend, rtc"
    (answer,) = policy.set_parameters([Parameter("strategy", value="rtc")])
    assert answer.reason.startswith(
        "strategy 'rtc' needs a policy with head flow or diffusion, not 'mlp' (others: first"
    )
    assert policy.failure is None


def test_without_an_instruction_or_after_a_stop_nothing_is_sent(world: World) -> None:
    robot = world.robot
    world.start_policy()
    robot.play()
    world.wait(lambda: any("waiting for an instruction" in r.status[0].message for r in robot.reports), "the report")
    assert robot.commands == []
    robot.latched.publish(String(data="reach the red block"))
    world.wait(lambda: len(robot.of("arm")) > 5, "the first command")
    stop = robot.create_client(Trigger, "/policy_node/stop")
    assert stop.wait_for_service(5.0)
    answer = stop.call_async(Trigger.Request())
    world.wait(answer.done, "the answer of ~/stop")
    time.sleep(0.1)
    count = len(robot.commands)
    time.sleep(0.5)
    assert len(robot.commands) == count


def test_in_lockstep_each_observation_gets_exactly_one_command_with_its_stamp(domain_id: int, checkpoint: Path) -> None:
    world = World({"checkpoint": str(checkpoint), "lockstep": "true", "dtype": "bfloat16", "attention": "eager"})
    try:
        robot = world.robot
        run = world.start_policy().policy
        assert run is not None
        vlm = run.engine.policy.vlm
        assert (vlm.dtype, vlm.config._attn_implementation) == (torch.bfloat16, "eager")
        robot.latched.publish(String(data="reach the red block"))
        time.sleep(0.5)
        stamps = [10_000_000_000 + CONTRACT.step_ns * i for i in range(5)]
        for stamp in stamps:
            expected = len(robot.commands) + 2
            robot.observe(stamp)
            world.wait(functools.partial(robot.has, expected), "the answer")
        robot.observe(stamps[-1])  # the simulator asks again when an answer got lost
        world.wait(functools.partial(robot.has, 2 * len(stamps) + 2), "the answer again")
        time.sleep(0.2)
        assert [stamp for _, name, stamp, _ in robot.commands if name == "arm"] == [*stamps, stamps[-1]]
        assert len(robot.of("gripper")) == len(stamps) + 1
    finally:
        world.close()


def test_not_a_number_in_the_weights_never_becomes_a_command(domain_id: int, tmp_path: Path) -> None:
    world = World({"checkpoint": str(make_checkpoint(tmp_path / "broken", broken=True))})
    try:
        world.start_policy()
        world.robot.play()
        world.robot.latched.publish(String(data="reach the red block"))
        world.wait(
            lambda: any("no finite number for x" in r.status[0].message for r in world.robot.reports), "the report"
        )
        assert world.robot.commands == []
    finally:
        world.close()


def run_node(*parameters: str) -> subprocess.CompletedProcess[str]:
    """Start the node as a process of its own and wait for its end."""
    command = [sys.executable, "-m", "robovlm_ros.nodes.policy_node", "--ros-args"]
    for parameter in parameters:
        command += ["-p", parameter]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_missing_checkpoint_is_one_clear_line_and_a_failure(domain_id: int) -> None:
    ended = run_node("checkpoint:=/no/such/folder")
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "/no/such/folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_contract_that_does_not_fit_is_one_clear_line_and_a_failure(
    domain_id: int, checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    text = (Path(__file__).parent.parent / "config" / "robots" / "tabletop.yaml").read_text()
    other.write_text(text.replace("rate_hz: 10.0", "rate_hz: 5.0", 1))
    ended = run_node(f"checkpoint:={checkpoint}", f"contract:={other}")
    assert ended.returncode == 1
    assert "rate_hz: trained with 10.0, given 5.0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_instruction_topic_of_another_type_ends_the_node_with_one_clear_line(world: World) -> None:
    stranger = rclpy.create_node("stranger")
    stranger.create_publisher(DiagnosticArray, CONTRACT.instruction_topic, 10)
    policy = world.start_policy()
    world.wait(lambda: policy.failure is not None, "the end")
    assert policy.failure == (
        "topic /instruction carries diagnostic_msgs/msg/DiagnosticArray (from stranger), "
        "the contract says std_msgs/msg/String"
    )
    assert not rclpy.ok()
    stranger.destroy_node()


def test_a_stranger_on_the_instruction_topic_ends_nothing_once_an_instruction_was_heard(world: World) -> None:
    policy = world.start_policy()
    world.robot.latched.publish(String(data=""))  # "do nothing" is an instruction, too
    run = policy.policy
    assert run is not None
    world.wait(lambda: run.told, "the instruction")
    stranger = rclpy.create_node("stranger")
    stranger.create_publisher(DiagnosticArray, CONTRACT.instruction_topic, 10)
    world.wait(lambda: policy.count_publishers(CONTRACT.instruction_topic) == 3, "the stranger")
    time.sleep(1.2)  # two looks around
    assert policy.failure is None
    assert rclpy.ok()
    stranger.destroy_node()


def test_nothing_is_sent_before_it_is_active_deactivating_holds_and_a_cleanup_forgets_everything(
    domain_id: int, checkpoint: Path
) -> None:
    world = World({"checkpoint": str(checkpoint), "autostart": "false"})
    try:
        robot = world.robot
        policy = world.start_policy()
        robot.play()
        robot.latched.publish(String(data="reach the red block"))
        own = policy.get_publisher_names_and_types_by_node("policy_node", "/")
        assert policy.policy is None
        assert policy.trigger_configure() == TransitionCallbackReturn.SUCCESS
        run = policy.policy
        assert run is not None
        world.wait(lambda: run.told, "the instruction")
        time.sleep(0.5)
        assert robot.commands == []
        for _ in range(2):
            since = time.monotonic()
            assert policy.trigger_activate() == TransitionCallbackReturn.SUCCESS
            world.wait(lambda since=since: len(robot.of("arm", since)) > 5, "commands")  # type: ignore[misc]
            assert policy.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
            time.sleep(0.1)
            count = len(robot.commands)
            time.sleep(0.4)
            assert len(robot.commands) == count
        assert policy.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert policy.policy is None
        assert policy.get_publisher_names_and_types_by_node("policy_node", "/") == own
        assert not any(thread.name == "inference" for thread in threading.enumerate())
        assert policy.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert policy.trigger_activate() == TransitionCallbackReturn.SUCCESS
        since = time.monotonic()
        world.wait(lambda: len(robot.of("arm", since)) > 5, "commands of the second life")
        assert policy.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    finally:
        world.close()


def test_a_node_that_cannot_be_configured_says_why_and_stays_unconfigured(domain_id: int) -> None:
    world = World({"checkpoint": "/no/such/folder", "autostart": "false"})
    try:
        policy = world.start_policy()
        assert policy.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert policy._state_machine.current_state[1] == "unconfigured"
        assert policy.failure is None
    finally:
        world.close()


def test_a_quality_of_service_is_overridden_by_parameters_and_a_bad_one_refused(
    domain_id: int, checkpoint: Path
) -> None:
    prefix = "qos_overrides./camera/image_raw.subscription"
    plain = "qos_overrides./instruction.subscription_volatile.reliability"
    parameters = {f"{prefix}.reliability": "reliable", f"{prefix}.depth": "3", plain: "best_effort"}
    world = World({"checkpoint": str(checkpoint), **parameters})
    try:
        policy = world.start_policy()
        (camera,) = [s for s in policy.subscriptions if s.topic_name == "/camera/image_raw"]
        assert camera.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert camera.qos_profile.depth == 3
        heard = [s.qos_profile for s in policy.subscriptions if s.topic_name == "/instruction"]
        assert {profile.durability: profile.reliability for profile in heard} == {
            DurabilityPolicy.TRANSIENT_LOCAL: ReliabilityPolicy.RELIABLE,
            DurabilityPolicy.VOLATILE: ReliabilityPolicy.BEST_EFFORT,
        }
    finally:
        world.close()
    world = World({"checkpoint": str(checkpoint), f"{prefix}.reliability": "perhaps"})
    try:
        with pytest.raises(UserError, match=r"reliability.*perhaps"):
            world.start_policy()
    finally:
        world.close()


def test_decisions_of_a_head_that_draws_go_on_from_one_another(domain_id: int, tmp_path: Path) -> None:
    drawing = make_checkpoint(tmp_path / "drawing", head={"type": "flow", "width": 16, "steps": 4})
    world = World({"checkpoint": str(drawing), "strategy": "rtc"})
    try:
        policy = world.start_policy()
        world.robot.play()
        world.robot.latched.publish(String(data="reach the red block"))
        world.wait(lambda: len(world.robot.of("arm")) > 40, "commands")
        assert policy.failure is None
    finally:
        world.close()


def test_ctrl_c_ends_a_node_in_which_nothing_is_configured(domain_id: int) -> None:
    command = [sys.executable, "-m", "robovlm_ros.nodes.policy_node", "--ros-args", "-p", "autostart:=false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watcher = rclpy.Context()
        rclpy.init(context=watcher)
        node = rclpy.create_node("watcher", context=watcher)
        deadline = time.monotonic() + 30.0
        while not node.get_publishers_info_by_topic("/policy_node/transition_event"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # it spins
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(15.0) == 0
        finally:
            process.kill()
            node.destroy_node()
            rclpy.try_shutdown(context=watcher)
