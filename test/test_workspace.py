"""Walls of a workspace: a tool whose velocity is commanded stays inside, and can always come back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.safety import SafetyFilter
from robovlm_ros.teleoperation import Teleoperator

from .worlds import World, patient

PERIOD_NS = 20_000_000
LOW, HIGH = 0.2, 0.4


def servo(acceleration: float | None = 2.0, **box: Any) -> Contract:
    """An arm whose tool's velocity along x and z is commanded, with walls for x."""
    dims = [
        {"name": f"linear_{axis}", "unit": "m/s", "limits": [-1.0, 1.0], "max_acceleration": acceleration}
        for axis in "xz"
    ]
    pose = {"topic": "/ee", "type": "geometry_msgs/msg/PoseStamped", "dims": ["z", "x"], "unit": "m", "frame": "base"}
    twist = {"topic": "/twist", "type": "geometry_msgs/msg/TwistStamped", "dims": dims, "frame": "base"}
    return Contract.from_dict(
        {
            "name": "servo",
            "rate_hz": 10.0,
            "command_rate_hz": 50.0,
            "cameras": {"front": {"topic": "/image", "width": 8, "height": 8}},
            "state": {
                "ee": pose,
                "joints": {**pose, "topic": "/js", "type": "sensor_msgs/msg/JointState", "frame": None},
            },
            "commands": {"tool": {**twist, "workspace": box or {"pose": "ee", "x": [LOW, HIGH]}}},
        }
    )


wishes = st.tuples(st.floats(-2, 2) | st.sampled_from([-2.0, 2.0]), st.integers(1, 2 * PERIOD_NS))


@settings(max_examples=60, deadline=None)
@given(st.floats(LOW, HIGH), st.sampled_from([0.3, 2.0, None]), st.lists(wishes, min_size=1, max_size=8))
def test_whatever_is_wanted_a_tool_stays_inside_and_brakes_within_its_acceleration(
    x: float, acceleration: float | None, wants: list[tuple[float, int]]
) -> None:
    gate, now_ns, before = SafetyFilter(servo(acceleration), period_ns=PERIOD_NS), 10**12, None
    for wanted, later_ns in [want for want in wants for _ in range(10)]:
        places = {"ee": np.array([9.0, x])}
        sent = gate.check(np.array([wanted, wanted]), now_ns, ages_s={"ee": 0.0}, places=places).values
        assert sent is not None
        assert abs(sent[0]) <= 1.0
        if acceleration is not None and before is not None:
            assert abs(sent[0] - before[0]) <= acceleration * before[1] / 1e9 + 1e-9
        before = sent[0], later_ns
        x, now_ns = x + sent[0] * later_ns / 1e9, now_ns + later_ns
        assert LOW - 1e-9 <= x <= HIGH + 1e-9


def test_outside_it_may_only_come_back_and_at_a_wall_it_stops_at_once() -> None:
    gate = SafetyFilter(servo(), period_ns=PERIOD_NS)

    def sent(x: float, wanted: float, number: int, age: float = 0.0) -> np.ndarray:
        verdict = gate.check(
            np.array([wanted, 0.5]), number * PERIOD_NS, ages_s={"ee": age}, places={"ee": np.array([0.0, x])}
        )
        assert verdict.values is not None
        return verdict.values

    for number in range(1, 30):
        speeds = sent(0.3, 0.4, number)
    assert speeds == pytest.approx([0.4, 0.5])
    assert sent(0.3, 0.4, 30, age=0.2)[0] < 0.4, "by now it is further than where it was measured"
    assert sent(0.41, 0.4, 31).tolist() == [0.0, 0.5]
    assert sent(0.41, -0.4, 32)[0] < 0.0
    assert gate.interventions["workspace"] == 2


def test_without_a_place_of_the_tool_it_holds() -> None:
    gate = SafetyFilter(servo(), period_ns=PERIOD_NS)
    for places in (None, {}, {"ee": np.array([0.3, math.nan])}):
        verdict = gate.check(np.array([0.1, 0.1]), PERIOD_NS, places=places)
        assert verdict.holding
        assert verdict.reasons == ("where the tool is ('ee') is not known",)


def test_a_person_is_kept_inside_like_a_policy() -> None:
    operator = Teleoperator(servo(), period_ns=PERIOD_NS)
    assert operator.sources == ("ee",)
    assert operator.follow(np.array([0.1, 0.1]), PERIOD_NS) is None
    operator.measure("ee", np.array([0.0, HIGH]), PERIOD_NS)
    sent = operator.follow(np.array([0.1, 0.1]), PERIOD_NS)
    assert sent is not None
    assert (sent[0], sent[1] > 0) == (0.0, True)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ({"pose": "ee"}, "at least one of x, y and z is needed"),
        ({"pose": "joints", "x": [0, 1]}, r"pose 'joints' is not one of: ee \(geometry_msgs/msg/PoseStamped\)"),
        ({"pose": "ee", "x": [1, 0]}, r"x must be \[low, high\] with low < high"),
        ({"pose": "ee", "y": [0, 1]}, r"y needs 'ee.y' in the state and 'linear_y' in the dims"),
        ({"pose": "ee", "w": [0, 1]}, r"unknown key 'w' \(keys: pose, x, y, z\)"),
    ],
)
def test_walls_that_cannot_be_kept_are_refused(box: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        servo(**box)


def test_a_contract_with_walls_survives_its_way_through_a_checkpoint_and_other_commands_have_none() -> None:
    contract = servo()
    assert Contract.from_dict(contract.to_dict()) == contract
    values = Contract.load("tabletop").to_dict()
    assert "workspace" not in values["commands"][0]
    values["commands"][0]["workspace"] = {"pose": "ee", "x": [0, 1]}
    with pytest.raises(UserError, match="here the limits of x, y and z are the box"):
        Contract.from_dict(values)


def test_a_policys_velocity_ends_at_a_wall(domain_id: int, tmp_path: Path) -> None:
    values = patient("moveit_servo", width=64, height=48).to_dict()
    values["commands"][0]["workspace"] = {"pose": "ee", "x": [-1.0, 0.1], "y": [-1.0, 1.0]}  # the robot stands at 0.1
    contract = Contract.from_dict(values)
    world = World(contract, tmp_path / "policy", decides=[0.1] * len(contract.action_dims))
    try:
        world.begin()
        moving = [message.twist.linear for _, message in list(world.robot.received["tool"])]
        assert max(linear.x for linear in moving) == 0.0
        assert max(linear.y for linear in moving) > 0.0
    finally:
        world.close()
