"""Parameters, names, remaps, the command line, and simulated time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterEvent,
    SetParametersResult,
)
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.clock import ClockType, JumpThreshold
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.exceptions import (
    InvalidNodeNameException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
    NotInitializedException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String


@pytest.fixture
def start(domain_id: int) -> Iterator[Callable[..., Node]]:
    """Makes a node in a context with its own command line."""
    contexts: list[Context] = []

    def make(*args: str, name: str = "robot", **options: Any) -> Node:
        context = Context()
        context.init(["program", *args])
        contexts.append(context)
        return Node(name, context=context, **options)

    yield make
    for context in contexts:
        context.try_shutdown()


def spin(node: Node, condition: Callable[[], Any], timeout: float = 3.0) -> bool:
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    return bool(condition())


def test_values_come_from_overrides_then_the_command_line_in_its_order_then_defaults(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        """
/**:
  ros__parameters: {a: 1, b: 1, c: 1, tiny: 1e-3, when: 12:30, names: [x, z], off: no}
lab:
  robot:
    ros__parameters: {b: 2, c: 2, pid: {gain: {p: 2.5}}}
other:
  ros__parameters: {a: 99}
"""
    )
    node = start(
        "--ros-args", "--params-file", str(file), "-p", "a:=3", "-p", "c:=3", "-p", "robot:e:=3", "-p",
        "other:d:=9", "-r", "__ns:=/lab", parameter_overrides=[Parameter("d", value=4)],
    )  # fmt: skip
    values = {name: node.declare_parameter(name, 0).value for name in "abcde"}
    # As rcl does it: -p is the pattern /**, a pattern that came up later (lab/robot) counts more than one before, and
    # robot: is /robot, not /lab/robot.
    assert values == {"a": 3, "b": 2, "c": 2, "d": 4, "e": 0}
    assert node.declare_parameter("pid.gain.p", 0.0).value == 2.5
    assert node.declare_parameter("tiny", 0.0).value == 0.001
    assert node.declare_parameter("when", "").value == "12:30"
    assert node.declare_parameter("names", [""]).value == ["x", "z"]
    assert node.declare_parameter("off", True).value is False


def test_overrides_can_declare_parameters_by_themselves(start: Callable[..., Node]) -> None:
    node = start("--ros-args", "-p", "free:=[1.0, 2.0]", automatically_declare_parameters_from_overrides=True)
    assert node.get_parameter("free").value == [1.0, 2.0]


def test_declarations_check_type_range_and_name(start: Callable[..., Node]) -> None:
    node = start("--ros-args", "-p", "rate:=fast", "-p", "count:=99")
    with pytest.raises(InvalidParameterTypeException, match="'fast' of type 'STRING', expecting type 'DOUBLE'"):
        node.declare_parameter("rate", 10.0)
    limits = ParameterDescriptor(integer_range=[IntegerRange(from_value=0, to_value=10, step=2)])
    with pytest.raises(InvalidParameterValueException, match="out of range"):
        node.declare_parameter("count", 4, limits)
    node.declare_parameter("speed", 0.5, ParameterDescriptor(
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0, step=0.1)]
    ))  # fmt: skip
    assert node.set_parameters([Parameter("speed", value=0.7)])[0].successful
    refused = node.set_parameters([Parameter("speed", value=0.75)])[0]
    assert not refused.successful
    assert "step" in refused.reason
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("speed", 0.5)
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("nothing")
    node.declare_parameter("later", Parameter.Type.STRING)
    with pytest.raises(ParameterUninitializedException):
        node.get_parameter("later")
    node.declare_parameter("fixed", 1, ParameterDescriptor(read_only=True))
    assert not node.set_parameters([Parameter("fixed", value=2)])[0].successful


def test_callbacks_can_refuse_change_and_hear_of_parameters(start: Callable[..., Node]) -> None:
    node = start()
    node.declare_parameters("arm", [("speed", 1.0), ("twin", 1.0)])
    heard: list[str] = []
    node.add_on_set_parameters_callback(
        lambda parameters: SetParametersResult(successful=all(p.value < 5 for p in parameters), reason="too fast")
    )
    node.add_post_set_parameters_callback(lambda parameters: heard.extend(p.name for p in parameters))
    result = node.set_parameters_atomically([Parameter("arm.speed", value=9.0), Parameter("arm.twin", value=2.0)])
    assert not result.successful
    assert result.reason == "too fast"
    assert heard == []
    node.add_pre_set_parameters_callback(
        lambda parameters: [*parameters, Parameter("arm.twin", value=parameters[0].value)]
    )
    assert node.set_parameters([Parameter("arm.speed", value=3.0)])[0].successful
    assert node.get_parameter("arm.twin").value == 3.0
    assert heard == ["arm.speed", "arm.twin"]
    assert set(node.get_parameters_by_prefix("arm")) == {"speed", "twin"}


def test_the_six_services_and_parameter_events_work_from_outside(start: Callable[..., Node]) -> None:
    node = start()
    node.declare_parameter("rate", 10.0, ParameterDescriptor(description="how often [Hz]"))
    asker = Node("asker", context=node.context)
    events: list[Any] = []
    asker.create_subscription(ParameterEvent, "/parameter_events", events.append, 10)

    def call(kind: Any, name: str, **fields: Any) -> Any:
        from rclpy.executors import SingleThreadedExecutor

        client = asker.create_client(kind, f"/robot/{name}")
        assert client.wait_for_service(2.0)
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        executor.add_node(asker)
        future = client.call_async(kind.Request(**fields))
        executor.spin_until_future_complete(future, 2.0)
        executor.shutdown()
        return future.result()

    assert "rate" in call(ListParameters, "list_parameters").result.names
    assert call(GetParameters, "get_parameters", names=["rate"]).values[0].double_value == 10.0
    assert call(GetParameters, "get_parameters", names=["rate", "no"]).values == []  # all or nothing, as in Jazzy
    described = call(DescribeParameters, "describe_parameters", names=["rate"])
    assert described.descriptors[0].description == "how often [Hz]"
    wrong, right = (Parameter("rate", value=value).to_parameter_msg() for value in ("fast", 20.0))
    results = call(SetParameters, "set_parameters", parameters=[wrong, right]).results
    assert [result.successful for result in results] == [False, True]
    assert not call(SetParametersAtomically, "set_parameters_atomically", parameters=[right, wrong]).result.successful
    assert node.get_parameter("rate").value == 20.0
    assert spin(asker, lambda: any(e.changed_parameters for e in events if e.node == "/robot"))


def test_names_are_expanded_and_remapped(start: Callable[..., Node]) -> None:
    node = start(
        "--ros-args", "-r", "__node:=arm", "-r", "__ns:=/lab", "-r", "image:=/camera/image_raw", "-r", "~/go:=start",
        "-r", "other:joints:=nowhere", "-r", "rosservice://twice:=once",
    )  # fmt: skip
    assert node.get_fully_qualified_name() == "/lab/arm"
    assert node.get_logger().name == "lab.arm"
    assert node.resolve_topic_name("image") == "/camera/image_raw"
    assert node.resolve_topic_name("joints") == "/lab/joints"
    assert node.resolve_topic_name("~/state") == "/lab/arm/state"
    assert node.resolve_topic_name("{node}/x") == "/lab/arm/x"
    assert node.resolve_service_name("~/go") == "/lab/start"
    assert node.resolve_service_name("twice") == "/lab/once"
    assert node.resolve_topic_name("twice") == "/lab/twice"
    assert node.create_publisher(String, "image", 1).topic_name == "/camera/image_raw"
    assert ("/camera/image_raw", ["std_msgs/msg/String"]) in node.get_topic_names_and_types()


@pytest.mark.parametrize("name", ["", "2fast", "a//b", "a b", "a/", "~x", "{"])
def test_bad_topic_names_are_refused(start: Callable[..., Node], name: str) -> None:
    with pytest.raises(InvalidTopicNameException):
        start().create_publisher(String, name, 10)


def test_an_unknown_substitution_in_a_name_is_told(start: Callable[..., Node]) -> None:
    with pytest.raises(ValueError, match=r"unknown substitution 'nope' in '\{nope\}'; choose from node, ns, namespace"):
        start().create_publisher(String, "{nope}", 10)


def test_bad_nodes_are_refused(start: Callable[..., Node]) -> None:
    with pytest.raises(InvalidNodeNameException):
        start(name="a/b")
    with pytest.raises(NotInitializedException):
        Node("early", context=Context())


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--ros-args", "-p", "rate"], "NAME:=VALUE"),
        (["--ros-args", "-r", "a"], "FROM:=TO"),
        (["--ros-args", "--speed"], "unknown ROS arguments: ['--speed']"),
        (["--ros-args", "--params-file", "missing.yaml"], "missing.yaml"),
        (["--ros-args", "--log-level", "loud"], "choose from"),
        (["--ros-args", "-p"], "needs a value"),
    ],
)
def test_a_bad_command_line_gets_one_clear_line(domain_id: int, args: list[str], part: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        Context().init(args)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_of_the_program_are_told_apart(domain_id: int) -> None:
    from rclpy.utilities import remove_ros_args

    assert remove_ros_args(["prog", "--ros-args", "-r", "a:=b", "--", "file", "--flag"]) == ["prog", "file", "--flag"]


def test_simulated_time_drives_clock_and_timers(start: Callable[..., Node]) -> None:
    node = start("--ros-args", "-p", "use_sim_time:=true")
    ticks: list[int] = []
    jumps: list[int] = []
    publisher = node.create_publisher(Clock, "/clock", 1)
    assert spin(node, lambda: publisher.get_subscription_count() == 1)

    def show(nanoseconds: int) -> None:
        publisher.publish(Clock(clock=Time(nanoseconds=nanoseconds).to_msg()))
        assert spin(node, lambda: node.get_clock().now().nanoseconds == nanoseconds)

    show(1_000_000_000)
    node.create_timer(0.5, lambda: ticks.append(node.get_clock().now().nanoseconds))
    threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1))
    node.get_clock().create_jump_callback(threshold, post_callback=lambda jump: jumps.append(jump.delta.nanoseconds))
    assert not spin(node, lambda: ticks, timeout=0.7)  # wall time goes on, simulated time does not
    show(1_600_000_000)
    assert spin(node, lambda: len(ticks) == 1)
    show(1_200_000_000)
    assert jumps == [-400_000_000]
    assert node.get_clock().clock_type == ClockType.ROS_TIME


def test_logs_have_the_format_filters_and_levels_of_ros(
    start: Callable[..., Node], capfd: pytest.CaptureFixture[str]
) -> None:
    node = start("--ros-args", "--log-level", "robot:=debug")
    for number in range(3):
        node.get_logger().info(f"once {number}", once=True)
        node.get_logger().warning(f"throttled {number}", throttle_duration_sec=10.0)
        node.get_logger().debug(f"skipped {number}", skip_first=True)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("]: ")[1] for line in lines] == ["once 0", "throttled 0", "skipped 1", "skipped 2"]
    assert lines[1].startswith("[WARN] [")
    assert lines[1].split("] [")[2].startswith("robot]")
    assert len(lines[0].split("] [")[1].split(".")[1]) == 9


def test_one_call_in_the_source_cannot_log_at_two_severities(start: Callable[..., Node]) -> None:
    logger = start().get_logger()

    def say(log: Callable[[str], bool]) -> bool:
        return log("as loud as it gets")

    assert say(logger.info)
    assert say(logger.info)
    with pytest.raises(ValueError, match="severity cannot be changed"):
        say(logger.error)
