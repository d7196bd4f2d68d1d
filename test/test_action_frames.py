"""Commands that are relative to a tool's own frame: the contract, the numbers, and all who meet them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robovlm_ros.action import ActionChunk, to_absolute, to_relative
from robovlm_ros.compatibility import differences
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.ablation import Recorded, ablate
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.executor import ChunkExecutor
from robovlm_ros.safety import SafetyFilter, measured_action
from robovlm_ros.training.finetuning import FinetuneOptions, configure, set_statistics, train
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import record
from robovlm_ros.vlm.normalisation import relative_limits
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import observation, small_vlm

POSE = ["x", "y", "z", "qx", "qy", "qz", "qw"]


def plain(names: list[str] | None = None) -> dict[str, Any]:
    """A contract as plain values: a pose relative to the tool between an absolute joint and one with a reference."""
    pose = [{"name": name, "unit": "m", "limits": [-2.0, 2.0]} for name in names or POSE]
    return {
        "name": "tool", "rate_hz": 10.0, "command_rate_hz": 20.0,
        "cameras": {"front": {"topic": "/front", "width": 48, "height": 48}},
        "state": {
            "arm": {"topic": "/js", "type": "sensor_msgs/msg/JointState", "dims": ["lift", "pan"], "unit": "rad"},
            "ee": {"topic": "/ee", "type": "geometry_msgs/msg/PoseStamped", "dims": POSE, "unit": "m"},
        },
        "commands": {
            "lift": {
                "topic": "/lift", "type": "std_msgs/msg/Float64MultiArray",
                "dims": [{"name": "lift", "unit": "m", "limits": [-1.0, 1.0]}],
            },
            "pose": {
                "topic": "/pose", "type": "geometry_msgs/msg/PoseStamped", "dims": pose, "relative_to": "ee",
            },
            "pan": {
                "topic": "/pan", "type": "std_msgs/msg/Float64MultiArray",
                "dims": [{"name": "pan", "unit": "rad", "limits": [-1.0, 1.0], "reference": "arm.pan"}],
            },
        },
    }  # fmt: skip


CONTRACT = Contract.from_dict(plain())


def poses(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """(*shape, 9) two numbers and a pose with a unit quaternion: a state of the contract."""
    values = rng.normal(0, 1, (*shape, 9))
    values[..., 5:] /= np.linalg.norm(values[..., 5:], axis=-1, keepdims=True)
    return values


def commands(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """(*shape, 9) a number, a pose with a unit quaternion, a number: an action of the contract."""
    return np.roll(poses(rng, *shape), -1, axis=-1)


def turned(axis: NDArray[np.float64], angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(4,) quaternion and (3, 3) matrix of a turn about a unit axis; the matrix by Rodrigues' formula, from neither."""
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return np.append(np.sin(angle / 2) * axis, np.cos(angle / 2)), matrix


@given(st.integers(0, 10_000), st.sampled_from([(), (3,), (2, 3)]))
@settings(max_examples=60, deadline=None)
def test_what_is_sent_comes_back_exactly_and_other_commands_stay_byte_for_byte(seed: int, shape: tuple[int]) -> None:
    rng = np.random.default_rng(seed)
    sent, state = commands(rng, *shape), poses(rng, *shape)
    state[..., 5:] *= rng.uniform(0.5, 2.0, (*shape, 1))  # a driver's quaternion of another length
    decided = to_relative(CONTRACT, sent, state)
    assert (decided[..., 7] >= 0).all()
    np.testing.assert_array_equal(decided[..., 0], sent[..., 0])
    np.testing.assert_array_equal(decided[..., 8], sent[..., 8] - state[..., 1])
    back = to_absolute(CONTRACT, decided, state)
    sign = np.where((sent[..., 4:8] * state[..., 5:]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    sent[..., 4:8] *= sign  # the same orientation, with the sign nearer to the tool's
    np.testing.assert_allclose(back, sent, rtol=0, atol=1e-12)
    decided[..., 4:8] *= -rng.uniform(0.1, 10.0, (*shape, 1))  # a policy's four numbers are no unit quaternion
    np.testing.assert_allclose(to_absolute(CONTRACT, decided, state), sent, rtol=0, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(-0.5, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_step_and_a_turn_in_the_tools_axes_are_the_same_numbers_wherever_it_points(
    seed: int, angle: float, step: float
) -> None:
    rng = np.random.default_rng(seed)
    axis, own = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    tool, matrix = turned(axis, angle)
    turn, turn_matrix = turned(own, 0.3)
    position = rng.normal(size=3)
    state = np.concatenate([[0, 0], position, tool])
    decided = np.concatenate([[0, step, 0, 0], turn, [0]])
    sent = to_absolute(CONTRACT, decided, state)
    np.testing.assert_allclose(sent[1:4], position + step * matrix[:, 0], atol=1e-12)  # along its x axis
    for i, unit in enumerate(np.eye(3)):  # a quaternion's matrix, column by column, by q v q*
        half = np.append(np.cross(sent[4:7], unit) + sent[7] * unit, -sent[4:7] @ unit)
        column = -half[3] * sent[4:7] + sent[7] * half[:3] - np.cross(half[:3], sent[4:7])
        np.testing.assert_allclose(column, (matrix @ turn_matrix)[:, i], atol=1e-12)
    np.testing.assert_allclose(to_relative(CONTRACT, sent, state), decided, atol=1e-12)


def test_four_zeros_keep_the_tools_orientation_and_what_is_no_number_stays_none() -> None:
    rng = np.random.default_rng(0)
    state, decided = poses(rng), commands(rng)
    decided[4:8] = 0
    np.testing.assert_allclose(to_absolute(CONTRACT, decided, state)[4:8], state[5:], atol=1e-12)
    np.testing.assert_allclose(to_relative(CONTRACT, decided, state)[4:8], [0, 0, 0, 1], atol=1e-12)
    gate = SafetyFilter(CONTRACT, period_ns=50_000_000)
    for wrong, place in itertools.product((np.nan, np.inf), (2, 5)):
        broken = decided.copy()
        broken[place] = wrong
        assert gate.check(to_absolute(CONTRACT, broken, state), 0).holding
    state[5:] = 0  # a tool whose driver tells no orientation
    assert gate.check(to_absolute(CONTRACT, decided, state), 0).holding


def test_an_orientation_goes_the_short_way_between_due_times_and_through_safety() -> None:
    rng = np.random.default_rng(1)
    state = poses(rng)
    start, end = (to_absolute(CONTRACT, commands(rng), state) / 2 for _ in range(2))
    end[4:8] = -(start[4:8] + np.array([0.05, -0.05, 0, 0]))  # nearly the same orientation, with the other sign
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9)
    due = np.array([0, 100_000_000])
    executor.set_chunk(ActionChunk(actions=np.array([start, end]), due_ns=due, instruction="go"))
    between = executor.command(50_000_000)
    assert between is not None
    assert np.linalg.norm(between[4:8]) == pytest.approx(1)
    assert between[4:8] @ start[4:8] / np.linalg.norm(start[4:8]) > 0.99
    np.testing.assert_allclose(between[1:4], (start + end)[1:4] / 2)
    values = plain()
    for dim in values["commands"]["pose"]["dims"]:
        dim["max_velocity"] = 0.1
    gate = SafetyFilter(Contract.from_dict(values), period_ns=50_000_000)
    np.testing.assert_array_equal(measured_action(CONTRACT, state)[1:8], state[2:])
    opposite = measured_action(CONTRACT, state)
    opposite[4:8] *= -1
    opposite[[0, 8]] = 0
    for now in (0, 50_000_000, 10**10):  # first, next, and after a pause
        verdict = gate.check(opposite, now, measured=measured_action(CONTRACT, state))
        assert verdict.values is not None
        np.testing.assert_allclose(verdict.values[4:8], state[5:], atol=1e-12)


def test_limits_are_the_widest_that_a_policy_can_mean() -> None:
    rng = np.random.default_rng(2)
    sent, state = commands(rng, 2000), poses(rng, 2000)
    sent[:, 1:4], state[:, 2:5] = rng.choice([-2.0, 2.0], (2, 2000, 3))  # corners of the limits
    found = relative_limits(CONTRACT)
    decided = to_relative(CONTRACT, sent, state)[:, 1:8]
    assert (decided >= found[1:8, 0] - 1e-9).all()
    assert (decided <= found[1:8, 1] + 1e-9).all()
    assert np.abs(decided[:, :3]).max() > 0.9 * found[1, 1]
    assert found[[0, 8]].tolist() == [[-1, 1], [-2, 2]]


@pytest.mark.parametrize("names", [POSE, POSE[:3]])
def test_a_policy_in_the_tools_frame_trains_and_acts(names: list[str]) -> None:
    contract = Contract.from_dict(plain(names))
    assert Contract.from_dict(contract.to_dict()) == contract
    size = len(contract.action_dims)
    options = FinetuneOptions(
        steps=2, batch_size=4, chunk_size=3, validation_share=0.34, warmup_steps=1, device="cpu",
        action_normalisation="min_max",
    )  # fmt: skip
    vlm, backbone = small_vlm()
    config = configure(options, vlm.config, contract)
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    apply_switches(policy, options)
    processor = ActionTokenProcessor(config, backbone)
    rng = np.random.default_rng(0)
    made = []
    for episode in range(3):
        steps = []
        for t in range(3):
            seen = observation(contract, seed=10 * episode + t)
            actions = to_absolute(contract, rng.normal(0, 0.2, (3, size)), seen.state)
            steps.append((seen, actions, np.arange(3) < 3 - t))
        one = record(f"episode_{episode}", steps, processor, None)
        assert one is not None
        made.append(one)
    statistics = set_statistics(options, processor, made)
    targets = statistics.targets(made[0].actions[0], made[0].states[0])
    assert float(targets.abs().max()) <= 1 + 1e-6
    again = statistics.actions(targets, made[0].states[0])
    np.testing.assert_allclose(again, made[0].actions[0], atol=1e-5)
    trained = train(options, policy, processor, made, Report("test"))
    assert np.isfinite(trained.figures["validation_error"])
    seen = observation(contract)
    chunk = PolicyEngine(policy.eval(), statistics).infer(seen)
    with torch.inference_mode():
        decided = policy(**statistics.collate([statistics(seen)])).actions[0]
    np.testing.assert_allclose(chunk.actions, statistics.actions(decided, seen.state), atol=1e-6)
    effects = ablate(policy, statistics, [[Recorded(observation=seen, actions=again, valid=np.ones(3, np.bool_))]])
    error = np.abs(to_relative(contract, chunk.actions, seen.state) - to_relative(contract, again, seen.state)).mean(0)
    np.testing.assert_allclose(effects.effects[0].error, error, atol=1e-6)  # in the tool's axes, as it is decided
    if names == POSE:
        np.testing.assert_allclose(np.linalg.norm(chunk.actions[:, 4:8], axis=-1), 1)


WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "an unknown state": (("relative_to",), "hand", "'hand' is not one of: arm, ee"),
    "a state without a pose": (("relative_to",), "arm", "this state has no x, y, z, qx"),
    "another type": (("type",), "std_msgs/msg/Float64MultiArray", "for geometry_msgs/msg/PoseStamped alone"),
    "a reference of its own": (("dims", 0, "reference"), "ee.x", "action 'x' has a reference of its own"),
    "half an orientation": (("dims",), plain(POSE[:5])["commands"]["pose"]["dims"], "not x y z qx qy"),
    "half a position": (("dims",), plain(POSE[:2])["commands"]["pose"]["dims"], "not x y"),
    "a binary dimension": (("dims", 2, "kind"), "binary", "action 'z' must be continuous"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_command_that_cannot_be_relative_to_a_tool_is_refused(case: str) -> None:
    path, value, reason = WRONG[case]
    values = copy.deepcopy(plain())
    inner: Any = values["commands"]["pose"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError) as refused:
        Contract.from_dict(values)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_contracts_without_a_tool_frame_are_written_as_before_and_differ_from_those_with_one() -> None:
    assert "relative_to" not in str(Contract.load("tabletop").to_dict())
    values = plain()
    values["commands"]["pose"].pop("relative_to")
    without = Contract.from_dict(values)
    assert without.tool_frames == ()
    assert "relative_to" not in str(without.to_dict())
    assert any("'qw'" in line and "the frame of ee" in line for line in differences(CONTRACT, without))
