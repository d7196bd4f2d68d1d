"""Parameters: declared, described, checked, overridden, announced, and set from outside."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterEvent,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from rclpy.parameter import Parameter, get_parameter_value, parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.parameter_event_handler import ParameterEventHandler

VALUES = [
    (True, Parameter.Type.BOOL),
    (3, Parameter.Type.INTEGER),
    (2.5, Parameter.Type.DOUBLE),
    ("text", Parameter.Type.STRING),
    ([True, False], Parameter.Type.BOOL_ARRAY),
    ([1, 2], Parameter.Type.INTEGER_ARRAY),
    ([0.5, 1.5], Parameter.Type.DOUBLE_ARRAY),
    (["a", "b"], Parameter.Type.STRING_ARRAY),
]


@pytest.mark.parametrize(("value", "kind"), VALUES)
def test_a_parameter_has_the_type_of_its_value_and_survives_messages(value: Any, kind: Parameter.Type) -> None:
    parameter = Parameter("name", value=value)
    assert (parameter.name, parameter.type_, parameter.value) == ("name", kind, value)
    again = Parameter.from_parameter_msg(parameter.to_parameter_msg())
    assert (again.name, again.type_, list(again.value) if isinstance(value, list) else again.value) == (
        "name",
        kind,
        value,
    )
    with pytest.raises(ValueError, match="do not agree"):
        Parameter("name", kind, object())


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("yes", ParameterType.PARAMETER_BOOL, True),
        ("0x10", ParameterType.PARAMETER_INTEGER, 16),
        ("1.5", ParameterType.PARAMETER_DOUBLE, 1.5),
        ("1e5", ParameterType.PARAMETER_STRING, "1e5"),
        ("'5'", ParameterType.PARAMETER_STRING, "5"),
        ("", ParameterType.PARAMETER_STRING, ""),
        ("[]", ParameterType.PARAMETER_BOOL_ARRAY, []),
        ("[1, 2]", ParameterType.PARAMETER_INTEGER_ARRAY, [1, 2]),
        ("[1, 2.0]", ParameterType.PARAMETER_STRING, "[1, 2.0]"),
        ("[a, b]", ParameterType.PARAMETER_STRING_ARRAY, ["a", "b"]),
    ],
)
def test_the_type_of_a_text_is_guessed_by_yaml(text: str, kind: int, value: Any) -> None:
    message = get_parameter_value(text)
    assert message.type == kind
    assert parameter_value_to_python(message) == value


def test_arrays_of_numbers_from_a_message_stay_what_they_are_there(node: Any) -> None:
    node.declare_parameter("numbers", [1])
    message = Parameter("numbers", value=[1, 2]).to_parameter_msg()
    assert node.set_parameters([Parameter.from_parameter_msg(message)])[0].successful
    value = node.get_parameter("numbers").value
    assert (type(value), list(value)) == (array.array, [1, 2])


def test_declared_parameters_are_read_back(node: Any) -> None:
    assert node.declare_parameter("rate", 10.0).value == 10.0
    assert node.has_parameter("rate")
    assert node.get_parameter("rate").type_ == Parameter.Type.DOUBLE
    many = node.declare_parameters("arm", [("speed", 1), ("names", ["a", "b"], ParameterDescriptor(description="who"))])
    assert [parameter.name for parameter in many] == ["arm.speed", "arm.names"]
    assert {name: item.value for name, item in node.get_parameters_by_prefix("arm").items()} == {
        "speed": 1,
        "names": ["a", "b"],
    }
    assert node.describe_parameter("arm.names").description == "who"
    assert node.describe_parameter("arm.names").type == ParameterType.PARAMETER_STRING_ARRAY
    assert node.get_parameter_type("rate") == ParameterType.PARAMETER_DOUBLE
    assert [parameter.value for parameter in node.get_parameters(["rate", "arm.speed"])] == [10.0, 1]
    assert node.get_parameter_or("nothing", Parameter("nothing", value=5)).value == 5


def test_misuse_of_declarations_is_told(node: Any) -> None:
    node.declare_parameter("rate", 10.0)
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("rate", 10.0)
    with pytest.raises(InvalidParameterException):
        node.declare_parameter("", 1)
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("nothing")
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("nothing", value=1)])
    with pytest.raises(ParameterNotDeclaredException):
        node.undeclare_parameter("nothing")
    with pytest.raises(ParameterNotDeclaredException):
        node.describe_parameter("nothing")
    with pytest.raises(TypeError):
        node.declare_parameter("odd", object())
    with pytest.raises(ValueError, match="statically typed"):
        node.declare_parameter("untyped", None, ParameterDescriptor())
    with pytest.raises(TypeError):
        node.set_parameters([42])


def test_a_declared_type_without_a_value_is_not_initialised(node: Any) -> None:
    node.declare_parameter("later", Parameter.Type.INTEGER)
    with pytest.raises(ParameterUninitializedException):
        node.get_parameter("later")
    assert not node.set_parameters([Parameter("later", value="text")])[0].successful
    assert node.set_parameters([Parameter("later", value=3)])[0].successful
    assert node.get_parameter("later").value == 3


def test_types_stay_unless_they_are_dynamic(node: Any) -> None:
    node.declare_parameter("fixed", 1)
    node.declare_parameter("loose", 1, ParameterDescriptor(dynamic_typing=True))
    result = node.set_parameters([Parameter("fixed", value=1.5)])[0]
    assert not result.successful
    assert result.reason.startswith("Wrong parameter type")
    assert node.set_parameters([Parameter("loose", value="text")])[0].successful
    assert node.get_parameter("loose").value == "text"
    assert not node.set_parameters([Parameter("fixed")])[0].successful  # a value is not taken away
    assert node.set_parameters([Parameter("loose")])[0].successful
    assert not node.has_parameter("loose")


def test_read_only_parameters_stay(node: Any) -> None:
    node.declare_parameter("fixed", 1, ParameterDescriptor(read_only=True))
    assert not node.set_parameters([Parameter("fixed", value=2)])[0].successful
    with pytest.raises(ParameterImmutableException):
        node.undeclare_parameter("fixed")
    assert node.get_parameter("fixed").value == 1


@pytest.mark.parametrize(
    ("descriptor", "fine", "wrong"),
    [
        (
            ParameterDescriptor(integer_range=[IntegerRange(from_value=-10, to_value=10, step=5)]),
            [-10, -5, 0, 10],
            [3, 11, -11],
        ),
        (ParameterDescriptor(integer_range=[IntegerRange(from_value=0, to_value=3)]), [0, 1, 3], [-1, 4]),
        (
            ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0, step=0.25)]),
            [0.0, 0.25, 1.0],
            [0.3, 1.25],
        ),
    ],
)
def test_ranges_are_kept(node: Any, descriptor: Any, fine: list[Any], wrong: list[Any]) -> None:
    node.declare_parameter("value", fine[0], descriptor)
    for value in fine:
        assert node.set_parameters([Parameter("value", value=value)])[0].successful
    for value in wrong:
        assert not node.set_parameters([Parameter("value", value=value)])[0].successful
    assert node.get_parameter("value").value == fine[-1]
    with pytest.raises(InvalidParameterValueException):
        node.declare_parameter("other", wrong[0], descriptor)


def test_a_floating_point_range_is_kept_to_a_millionth_of_the_value(node: Any) -> None:
    limits = FloatingPointRange(from_value=0.0, to_value=100.0, step=0.1)
    node.declare_parameter("value", 50.0, ParameterDescriptor(floating_point_range=[limits]))
    for value, fine in ((50.00001, True), (50.001, False), (100.00005, True), (100.001, False), (-1e-9, False)):
        result = node.set_parameters([Parameter("value", value=value)])[0]
        assert result.successful == fine, value
    assert result.reason == "Parameter value out of range Min: 0.0, Max: 100.0, value: -1e-09"


def test_an_override_of_another_type_is_refused(stage: Any) -> None:
    node = stage.node(parameter_overrides=[Parameter("rate", value="fast")])
    with pytest.raises(InvalidParameterTypeException):
        node.declare_parameter("rate", 10.0)


def test_parameters_are_set_together_or_not_at_all(node: Any) -> None:
    node.declare_parameters("", [("a", 1), ("b", 2)])
    result = node.set_parameters_atomically([Parameter("a", value=5), Parameter("b", value="text")])
    assert not result.successful
    assert node.get_parameter("a").value == 1
    assert node.set_parameters_atomically([Parameter("a", value=5), Parameter("b", value=6)]).successful
    assert (node.get_parameter("a").value, node.get_parameter("b").value) == (5, 6)


def test_undeclared_parameters_are_allowed_where_a_node_says_so(stage: Any) -> None:
    node = stage.node(allow_undeclared_parameters=True)
    assert node.get_parameter("nothing").type_ == Parameter.Type.NOT_SET
    assert node.set_parameters([Parameter("new", value=1)])[0].successful
    assert node.get_parameter("new").value == 1
    assert node.set_parameters([Parameter("new", value="other type")])[0].successful


def test_callbacks_change_check_and_hear_of_parameters(node: Any) -> None:
    calls: list[str] = []

    def before(parameters: list[Parameter]) -> list[Parameter]:
        calls.append("before")
        return [Parameter("a", value=abs(item.value)) if item.name == "a" else item for item in parameters]

    def check(parameters: list[Parameter]) -> Any:
        calls.append(f"check {parameters[0].value}")
        return SetParametersResult(successful=parameters[0].value < 100, reason="too much")

    def after(parameters: list[Parameter]) -> None:
        calls.append(f"after {node.get_parameter('a').value}")

    node.declare_parameter("a", 1)
    node.add_pre_set_parameters_callback(before)
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(after)
    assert node.set_parameters([Parameter("a", value=-7)])[0].successful
    assert calls == ["before", "check 7", "after 7"]
    refused = node.set_parameters([Parameter("a", value=500)])[0]
    assert (refused.successful, refused.reason) == (False, "too much")
    assert node.get_parameter("a").value == 7
    with pytest.raises(InvalidParameterValueException):
        node.declare_parameter("b", 1000)
    node.remove_on_set_parameters_callback(check)
    assert node.set_parameters([Parameter("a", value=500)])[0].successful


def test_the_callback_that_was_added_last_is_asked_first(node: Any) -> None:
    order: list[int] = []

    def make(number: int) -> Any:
        def check(parameters: list[Parameter]) -> Any:
            order.append(number)
            return SetParametersResult(successful=True)

        return check

    node.declare_parameter("a", 1)
    for number in (1, 2):
        node.add_on_set_parameters_callback(make(number))
    node.set_parameters([Parameter("a", value=2)])
    assert order == [2, 1]


FILE = """
/**:
  ros__parameters: {a: 1, everywhere: true}
/*/arm:
  ros__parameters: {b: 2.5}
arm:
  ros__parameters: {elsewhere: 1}
SPACE:
  arm:
    ros__parameters:
      a: 5
      pid: {gain: {p: 0.5}}
      names: [x, z]
"""


def test_values_come_from_files_and_the_command_line(stage: Any, tmp_path: Path) -> None:
    path = tmp_path / "parameters.yaml"
    path.write_text(FILE.replace("SPACE", stage.namespace))
    arguments = [
        "--ros-args",
        "--params-file",
        str(path),
        "-p",
        "c:=[1, 2]",
        "-p",
        "text:=hello",
        "-p",
        "everywhere:=false",
    ]
    node = stage.node("arm", cli_args=arguments, parameter_overrides=[Parameter("text", value="bye")])
    node.declare_parameters("", [("a", 0), ("b", 0.0), ("text", ""), ("everywhere", True), ("elsewhere", 0)])
    assert {name: node.get_parameter(name).value for name in ("a", "b", "text", "everywhere", "elsewhere")} == {
        "a": 5,
        "b": 2.5,
        "text": "bye",
        "everywhere": False,
        "elsewhere": 0,
    }
    assert list(node.declare_parameter("c", [0]).value) == [1, 2]
    assert node.declare_parameter("pid.gain.p", 0.0).value == 0.5
    assert list(node.declare_parameter("names", [""]).value) == ["x", "z"]


def test_overrides_may_declare_themselves(stage: Any) -> None:
    node = stage.node(
        cli_args=["--ros-args", "-p", "x:=1"],
        parameter_overrides=[Parameter("y.z", value="text")],
        automatically_declare_parameters_from_overrides=True,
    )
    assert (node.get_parameter("x").value, node.get_parameter("y.z").value) == (1, "text")


def test_an_override_can_be_ignored(stage: Any) -> None:
    node = stage.node(parameter_overrides=[Parameter("x", value=1)])
    assert node.declare_parameter("x", 7, ignore_override=True).value == 7


def test_listing_knows_prefixes_and_depth(node: Any) -> None:
    node.declare_parameters("", [("one", 1), ("a.two", 2), ("a.b.three", 3)])
    assert set(node.list_parameters(["a"], 0).names) == {"a.two", "a.b.three"}
    assert set(node.list_parameters(["a"], 1).names) == {"a.two"}
    everything = node.list_parameters([], 0)
    assert {"one", "a.two", "a.b.three"} <= set(everything.names)
    assert {"a", "a.b"} <= set(everything.prefixes)
    with pytest.raises(ValueError, match="depth"):
        node.list_parameters([], -1)


def test_changes_are_announced(stage: Any, node: Any) -> None:
    events: list[Any] = []
    mine = node.get_fully_qualified_name()
    listener = stage.node("listener", start_parameter_services=False)
    listener.create_subscription(
        ParameterEvent, "/parameter_events", lambda event: events.append(event) if event.node == mine else None, 100
    )
    node.declare_parameter("probe", 0)

    def probe() -> bool:
        node.set_parameters([Parameter("probe", value=1)])
        return bool(events)

    assert stage.until(probe)  # the publisher is matched from here on
    node.declare_parameter("a", 1, ParameterDescriptor(dynamic_typing=True))
    node.set_parameters([Parameter("a", value=2)])
    node.set_parameters([Parameter("a")])
    assert stage.until(lambda: any(event.deleted_parameters for event in events))
    new, changed, deleted = events[-3:]
    assert [item.name for item in new.new_parameters] == ["a"]
    assert [item.value.integer_value for item in changed.changed_parameters] == [2]
    assert [item.name for item in deleted.deleted_parameters] == ["a"]
    assert changed.stamp.sec > 0


def test_a_handler_calls_back_for_the_parameters_of_any_node(stage: Any, node: Any) -> None:
    listener = stage.node("listener")
    handler = ParameterEventHandler(listener)
    got: list[int] = []
    all_events: list[Any] = []
    handle = handler.add_parameter_callback("a", node.get_fully_qualified_name(), lambda item: got.append(item.value))
    handler.add_parameter_event_callback(all_events.append)
    node.declare_parameter("a", 0)

    def set_until(value: int) -> bool:
        node.set_parameters([Parameter("a", value=value)])
        return bool(got)

    assert stage.until(lambda: set_until(3) and got[-1].integer_value == 3)  # the first may come before the match
    assert all_events
    handler.remove_parameter_callback(handle)
    with pytest.raises(RuntimeError):
        handler.remove_parameter_callback(handle)
    handler.destroy()


def test_callbacks_for_a_parameter_are_called_last_added_first_and_parameters_as_they_were_first_named(
    stage: Any, node: Any
) -> None:
    handler = ParameterEventHandler(stage.node("listener"))
    calls: list[str] = []
    owner = node.get_fully_qualified_name()
    for name, mark in (("b", "b1"), ("a", "a1"), ("b", "b2")):
        handler.add_parameter_callback(name, owner, lambda item, mark=mark: calls.append(mark))
    handler.add_parameter_event_callback(lambda event: calls.append("any"))
    assert stage.until(lambda: handler.parameter_event_subscription.get_publisher_count() >= 2)
    node.declare_parameters("", [("a", 0), ("b", 0)])
    stage.until(lambda: calls.count("any") >= 2)
    calls.clear()
    node.set_parameters_atomically([Parameter("a", value=1), Parameter("b", value=1)])
    assert stage.until(lambda: "any" in calls)
    assert calls == ["b2", "b1", "a1", "any"]


def test_the_services_of_a_node_serve_a_parameter_client(stage: Any, node: Any, tmp_path: Path) -> None:
    node.declare_parameter("rate", 10.0, ParameterDescriptor(description="how often"))
    node.declare_parameter("arm.speed", 1)
    node.declare_parameter("loose", 1, ParameterDescriptor(dynamic_typing=True))
    client = AsyncParameterClient(stage.node("asker", start_parameter_services=False), node.get_fully_qualified_name())
    assert client.wait_for_services(timeout_sec=10)
    assert client.services_are_ready()
    values = stage.result(client.get_parameters(["rate", "arm.speed"])).values
    assert (values[0].double_value, values[1].integer_value) == (10.0, 1)
    assert list(stage.result(client.get_parameters(["rate", "nothing"])).values) == []
    assert stage.result(client.list_parameters(["arm"], 0)).result.names == ["arm.speed"]
    assert stage.result(client.describe_parameters(["rate"])).descriptors[0].description == "how often"
    types = stage.result(client.get_parameter_types(["rate", "arm.speed"])).types
    assert list(types) == [ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER]
    wrong, right = Parameter("rate", value="fast"), Parameter("rate", value=20.0)
    results = stage.result(client.set_parameters([wrong, right.to_parameter_msg()])).results
    assert [result.successful for result in results] == [False, True]
    atomic = client.set_parameters_atomically([Parameter("arm.speed", value=9), wrong])
    assert not stage.result(atomic).result.successful
    assert (node.get_parameter("rate").value, node.get_parameter("arm.speed").value) == (20.0, 1)
    assert not stage.result(client.set_parameters([Parameter("nothing", value=1)])).results[0].successful
    assert stage.result(client.delete_parameters(["loose"])).results[0].successful
    assert not node.has_parameter("loose")
    path = tmp_path / "parameters.yaml"
    path.write_text(f"{node.get_fully_qualified_name()}:\n  ros__parameters: {{rate: 5.0, arm: {{speed: 3}}}}\n")
    assert all(result.successful for result in stage.result(client.load_parameter_file(str(path))).results)
    assert (node.get_parameter("rate").value, node.get_parameter("arm.speed").value) == (5.0, 3)


def test_a_node_without_parameter_services_offers_none(stage: Any) -> None:
    node = stage.node("quiet", start_parameter_services=False)
    names = [service.service_name for service in node.services]
    assert not any(name.endswith("/set_parameters") for name in names)
