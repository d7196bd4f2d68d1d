"""Parameters from one dataclass: declared, documented, checked at the start and while running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from robovlm_ros.errors import UserError
from robovlm_ros.nodes.parameters import choice, declare, fixed, follow, limited


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Some parameters."""

    folder: str = fixed("here")
    """Where things are."""
    rate_hz: float = limited(10.0, 0.5, 100.0)
    """How often
    things happen [Hz]."""
    count: int = limited(3, 1, 9)
    """How many."""
    mode: str = choice("slow", ("slow", "fast"))
    """How."""


@pytest.fixture
def start(domain_id: int) -> Iterator[Callable[..., Node]]:
    """A maker of nodes with parameters from the command line."""

    made: list[Node] = []

    def make(*parameters: str) -> Node:
        arguments = [item for parameter in parameters for item in ("-p", parameter)]
        rclpy.init(args=["--ros-args", *arguments])
        made.append(rclpy.create_node("probe"))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.try_shutdown()


def test_values_from_the_command_line_reach_the_dataclass_and_docs_reach_the_descriptor(
    start: Callable[..., Node],
) -> None:
    node = start("rate_hz:=25.0", "mode:=fast")
    assert declare(node, Settings) == Settings(folder="here", rate_hz=25.0, count=3, mode="fast")
    rate, folder = node.describe_parameter("rate_hz"), node.describe_parameter("folder")
    assert rate.description == "How often things happen [Hz]."
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.5, 100.0)
    assert folder.read_only
    assert node.describe_parameter("mode").additional_constraints == "one of: slow, fast"


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("count:=many", "parameter 'count'"),
        ("rate_hz:=0.0", "parameter 'rate_hz'"),
        ("mode:=idle", "parameter 'mode': 'idle' is not one of: slow, fast"),
    ],
)
def test_a_bad_value_is_refused_at_the_start_in_one_line(
    start: Callable[..., Node], parameter: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        declare(start(parameter), Settings)
    assert "\n" not in str(refused.value)


def test_a_change_while_running_is_taken_or_refused_with_the_reason(
    start: Callable[..., Node],
) -> None:
    node = start()
    seen: list[Settings] = []

    def changed(settings: Settings) -> None:
        if settings.count == 7:
            raise UserError("seven is too many today")
        seen.append(settings)

    follow(node, declare(node, Settings), changed)
    assert node.set_parameters([Parameter("count", value=5)])[0].successful
    assert node.set_parameters([Parameter("mode", value="fast")])[0].successful
    assert seen[-1] == Settings(count=5, mode="fast")
    for name, value, reason in (
        ("count", 7, "seven is too many today"),
        ("mode", "idle", "not one of: slow, fast"),
        ("rate_hz", 1000.0, "range"),
        ("folder", "there", "read-only"),
    ):
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful
        assert reason in result.reason
    assert len(seen) == 2
