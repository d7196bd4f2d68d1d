"""The safety filter: whatever comes in, only finite, bounded and slow enough commands come out."""

from __future__ import annotations

import dataclasses
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from robovlm_ros.contract import ActionDimension, Camera, Command, Contract, StateSource
from robovlm_ros.safety import SafetyFilter, measured_action

PERIOD_NS = 20_000_000
CONTRACT = Contract(
    name="probe",
    rate_hz=10.0,
    command_rate_hz=50.0,
    cameras=(Camera(name="front", topic="/front", width=8, height=8, max_age_s=0.5),),
    state=(StateSource(name="ee", topic="/ee", type="geometry_msgs/msg/PoseStamped", dims=("x", "y"), unit="m"),),
    commands=(
        Command(
            name="arm",
            topic="/arm",
            type="geometry_msgs/msg/PoseStamped",
            dims=(
                ActionDimension(name="x", unit="m", limits=(0.1, 0.6), max_velocity=0.8, reference="ee.x"),
                ActionDimension(name="y", unit="m", limits=(-0.3, 0.3), max_velocity=0.4, reference="ee.y"),
                ActionDimension(name="yaw", unit="rad", limits=(-1.0, 1.0)),
            ),
        ),
        Command(
            name="gripper",
            topic="/gripper",
            type="sensor_msgs/msg/JointState",
            dims=(ActionDimension(name="finger", unit="m", kind="binary", limits=(0.0, 0.04), max_velocity=0.1),),
        ),
    ),
)
SAFE = np.array([0.3, 0.0, 0.0, 1.0])


def make_filter() -> SafetyFilter:
    return SafetyFilter(CONTRACT, period_ns=PERIOD_NS)


anything = st.lists(st.floats(width=64) | st.floats(-1, 1), min_size=4, max_size=4)
positions = st.none() | st.lists(st.floats() | st.floats(-1, 1), min_size=4, max_size=4)
ages = st.floats(0, 1) | st.sampled_from([math.inf, math.nan])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(anything, st.integers(-(10**9), 10**9), positions, ages), min_size=1, max_size=20))
def test_no_sequence_of_inputs_gets_a_forbidden_command_through(
    sequence: list[tuple[list[float], int, list[float] | None, float]],
) -> None:
    gate = make_filter()
    now_ns, before = 10**12, None
    for wanted, later_ns, where, age in sequence:
        now_ns += later_ns
        measured = None if where is None else np.array(where)
        verdict = gate.check(np.array(wanted), now_ns, ages_s={"front": age}, measured=measured)
        fresh = age <= 0.5
        assert verdict.holding == (not fresh or not np.isfinite(wanted).all())
        if verdict.values is None:
            continue
        assert np.isfinite(verdict.values).all()
        assert (verdict.values[:3] >= CONTRACT.limits[:3, 0]).all()
        assert (verdict.values[:3] <= CONTRACT.limits[:3, 1]).all()
        assert verdict.values[3] in (0.0, 1.0)
        if verdict.holding and before is not None:
            np.testing.assert_array_equal(verdict.values, before[1])
        if not verdict.holding:
            if before is not None and abs(now_ns - before[0]) <= 500_000_000:
                seconds = min(max(now_ns - before[0], 0), 2 * PERIOD_NS) / 1e9
                assert (np.abs(verdict.values - before[1])[:2] <= np.array([0.8, 0.4]) * seconds + 1e-9).all()
            before = (now_ns, verdict.values)


def test_a_good_command_passes_unchanged_and_silently() -> None:
    gate = make_filter()
    verdict = gate.check(SAFE, 0, ages_s={"front": 0.1, "ee": 0.0}, measured=SAFE)
    np.testing.assert_array_equal(verdict.values, SAFE)
    assert not verdict.holding
    assert verdict.reasons == ()
    assert sum(gate.interventions.values()) == 0


def test_reasons_name_the_dimension_and_the_source() -> None:
    gate = make_filter()
    limited = gate.check(np.array([0.9, 0.0, 0.0, 1.0]), 0)
    assert limited.reasons == ("x limited to 0.6 (wanted 0.9) m",)
    nan = gate.check(np.array([0.6, np.nan, 0.0, 1.0]), PERIOD_NS)
    assert nan.reasons == ("the policy gave no finite number for y",)
    np.testing.assert_array_equal(nan.values, [0.6, 0.0, 0.0, 1.0])
    stale = gate.check(SAFE, 2 * PERIOD_NS, ages_s={"front": 0.71, "ee": math.inf})
    assert stale.reasons == (
        "the newest sample of 'front' is 0.71 s old (limit 0.5 s)",
        "nothing was received from 'ee' yet",
    )
    assert {cause: n for cause, n in gate.interventions.items() if n} == {"not_finite": 1, "limit": 1, "stale": 1}


def test_the_first_command_and_the_first_after_a_pause_start_where_the_robot_stands() -> None:
    gate = make_filter()
    measured = measured_action(CONTRACT, np.array([0.5, 0.2]))
    first = gate.check(SAFE, 0, measured=measured)
    assert first.values is not None
    np.testing.assert_allclose(first.values, [0.5 - 0.8 * 0.02, 0.2 - 0.4 * 0.02, 0.0, 1.0])
    moved = measured_action(CONTRACT, np.array([0.15, -0.25]))
    resumed = gate.check(SAFE, 2_000_000_000, measured=moved)
    assert resumed.values is not None
    np.testing.assert_allclose(resumed.values[:2], [0.15 + 0.8 * 0.02, -0.25 + 0.4 * 0.02])


def inert_contract() -> Contract:
    """x and y speed up and brake; y begins only where it stands."""
    values = CONTRACT.to_dict()
    values["commands"][0]["dims"][0]["max_acceleration"] = 4.0
    values["commands"][0]["dims"][1] |= {"max_acceleration": 1.0, "max_jump": 0.5}
    return Contract.from_dict(values)


near = st.lists(st.floats(-1, 1), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(anything | near, st.integers(0, 60_000_000), st.booleans()), min_size=1, max_size=40),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
)
def test_no_sequence_of_inputs_gets_beyond_acceleration_velocity_or_position(
    sequence: list[tuple[list[float], int, bool]], where: list[float]
) -> None:
    gate = SafetyFilter(inert_contract(), period_ns=PERIOD_NS)
    measured, now_ns, sent_ns, last, rate = np.array(where), 10**12, 0, np.zeros(4), np.zeros(2)
    for wanted, later_ns, stale in sequence:
        now_ns += later_ns
        verdict = gate.check(np.array(wanted), now_ns, ages_s={"front": 0.7 if stale else 0.1}, measured=measured)
        if verdict.holding:
            rate = np.zeros(2)  # a robot that is sent nothing stands still
            continue
        assert verdict.values is not None
        seconds = min(now_ns - sent_ns, 2 * PERIOD_NS) / 1e9
        if now_ns - sent_ns > 500_000_000:  # a pause: it starts where it stands
            seconds, rate = PERIOD_NS / 1e9, np.zeros(2)
            last = np.clip(measured, CONTRACT.limits[:, 0], CONTRACT.limits[:, 1])
        moved = (verdict.values - last)[:2]
        assert (verdict.values[:3] >= CONTRACT.limits[:3, 0]).all()
        assert (verdict.values[:3] <= CONTRACT.limits[:3, 1]).all()
        if seconds > 0:
            assert (np.abs(moved / seconds) <= np.array([0.8, 0.4]) * (1 + 1e-6)).all()
            assert (np.abs(moved / seconds - rate) <= np.array([4.0, 1.0]) * seconds + 1e-6).all()
            rate = moved / seconds
        else:
            np.testing.assert_array_equal(moved, 0.0)
        last, sent_ns = verdict.values, now_ns


def test_a_motion_that_keeps_the_acceleration_passes_unchanged_and_another_is_reached_without_swinging() -> None:
    gate = SafetyFilter(inert_contract(), period_ns=PERIOD_NS)
    time_s = 0.02 * np.arange(100)
    good = np.tile(SAFE, (100, 1))
    good[:, 0] = 0.3 + 0.1 * np.sin(2 * time_s) ** 2  # at most 0.8 m/s^2
    for i, wanted in enumerate(good):
        verdict = gate.check(wanted, i * PERIOD_NS, measured=good[0])
        np.testing.assert_allclose(verdict.values, wanted, atol=1e-12)
        assert verdict.reasons == ()
    far = np.array([0.55, 0.0, 0.0, 1.0])
    way = []
    for i in range(100, 160):
        verdict = gate.check(far, i * PERIOD_NS)
        assert verdict.values is not None
        way.append(verdict.values[0])
    assert (np.diff(way) >= -1e-12).all()  # no swinging back
    assert max(way) <= 0.55 + 1e-12
    assert way[-1] == 0.55
    assert gate.interventions["acceleration"] > 0


def test_a_first_command_far_from_where_the_robot_stands_is_refused() -> None:
    gate = SafetyFilter(inert_contract(), period_ns=PERIOD_NS)
    measured = np.array([0.3, -0.3, np.nan, np.nan])
    refused = gate.check(np.array([0.6, 0.25, 0.0, 1.0]), 0, measured=measured)
    assert refused.holding
    assert refused.reasons == ("y would jump by 0.55 m from where the robot stands (at most 0.5 m)",)
    assert not gate.check(np.array([0.6, 0.15, 0.0, 1.0]), 0, measured=measured).holding
    assert not gate.check(np.array([0.6, 0.3, 0.0, 1.0]), PERIOD_NS, measured=measured).holding  # it is on its way
    assert gate.check(np.array([0.6, 0.3, 0.0, 1.0]), 10**9, measured=measured).holding  # after a pause


def test_a_velocity_changes_by_no_more_than_its_acceleration() -> None:
    base = dataclasses.replace(
        CONTRACT.commands[0],
        type="geometry_msgs/msg/Twist",
        dims=(ActionDimension(name="linear_x", unit="m/s", limits=(-1.0, 1.0), max_acceleration=2.0),),
    )
    gate = SafetyFilter(dataclasses.replace(CONTRACT, commands=(base,)), period_ns=PERIOD_NS)
    found = [gate.check(np.array([1.0]), i * PERIOD_NS).values for i in range(3)]
    np.testing.assert_allclose(np.array(found)[:, 0], [0.04, 0.08, 0.12])


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_a_motion_into_a_limit_brakes_in_front_of_it(direction: float) -> None:
    gate = SafetyFilter(inert_contract(), period_ns=PERIOD_NS)
    x, way = 0.35, [0.35]
    for i in range(80):
        x += direction * min(0.08 * (i + 1), 0.8) * 0.02  # speeds up as it may, and never slows down
        verdict = gate.check(np.array([x, 0.0, 0.0, 1.0]), i * PERIOD_NS, measured=np.array([0.35, 0.0, 0.0, 1.0]))
        assert verdict.values is not None
        way.append(verdict.values[0])
    rates = np.diff(way, prepend=0.35) / 0.02
    assert np.abs(np.diff(rates)).max() <= 4.0 * 0.02 + 1e-9
    assert np.abs(rates).max() == pytest.approx(0.8)
    assert way[-1] == pytest.approx(0.35 + 0.25 * direction, abs=1e-3)
