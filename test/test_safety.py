"""The safety filter: whatever comes in, only finite, bounded and slow enough commands come out."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
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
    assert dict(gate.interventions) == {"not_finite": 1, "limit": 1, "velocity": 0, "stale": 1}


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
