"""The controller: one instruction at a time, decisions in, safe commands and plain words out."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robovlm_ros.action import ActionChunk
from robovlm_ros.compatibility import differences
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.control import Controller

CONTRACT = Contract.load("tabletop")
START_NS = 1_700_000_000_000_000_000
FRESH = {"static": 0.1, "wrist": 0.1, "joints": 0.05, "ee": 0.05}
TOOL = np.array([0.3, 0.0, 0.2])


def make_observation(instruction: str, stamp_ns: int = START_NS) -> Observation:
    state = np.concatenate([np.zeros(7), TOOL]).astype(np.float32)
    return Observation(stamp_ns=stamp_ns, images={}, state=state, instruction=instruction)


def make_chunk(instruction: str, stamp_ns: int = START_NS, x: float = 0.3) -> ActionChunk:
    actions = np.tile([x, 0.0, 0.2, 1.0], (8, 1))
    due_ns = stamp_ns + CONTRACT.step_ns * np.arange(8, dtype=np.int64)
    return ActionChunk(actions=actions, due_ns=due_ns, instruction=instruction)


def make_controller(lockstep: bool = False) -> Controller:
    return Controller(CONTRACT, max_chunk_age_ns=1_000_000_000, lockstep=lockstep, now_ns=0)


def test_a_decision_for_an_instruction_that_has_changed_meanwhile_is_not_executed() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    assert controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    assert controller.command(START_NS, FRESH) is not None
    controller.instruct("reach blue")
    assert controller.command(START_NS, FRESH) is None
    assert not controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    assert controller.command(START_NS, FRESH) is None
    assert controller.decided(make_chunk("reach blue"), make_observation("reach blue"), 1)
    assert controller.command(START_NS, FRESH) is not None


def test_stopped_or_without_an_instruction_nothing_is_sent() -> None:
    controller = make_controller()
    assert not controller.decided(make_chunk(""), make_observation(""), 1)
    assert controller.situation(START_NS, FRESH).sentence == "waiting for an instruction on /instruction"
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    controller.switch(False)
    assert controller.command(START_NS, FRESH) is None
    assert not controller.wants("reach red")
    assert controller.situation(START_NS, FRESH).key == "stopped"
    controller.switch(True)
    assert controller.wants("reach red")


def test_while_a_person_commands_nothing_is_sent_and_what_was_seen_before_they_handed_back_decides_nothing() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    controller.intervene(True, START_NS)
    assert controller.command(START_NS, FRESH) is None
    assert not controller.wants("reach red")
    assert controller.situation(START_NS, FRESH).key == "yielded"
    run = controller.run  # inference on an observation of this time takes longer than the intervention
    controller.intervene(False, START_NS)
    assert not controller.decided(make_chunk("reach red"), make_observation("reach red"), 1, run)
    assert controller.command(START_NS, FRESH) is None
    assert controller.decided(make_chunk("reach red", x=0.6), make_observation("reach red"), 1, controller.run)
    command = controller.command(START_NS, FRESH)
    assert command is not None
    assert command[0] == pytest.approx(TOOL[0] + 0.8 * 0.02)  # from where the robot stands, not from the last command


def test_after_a_stop_the_robot_starts_from_where_it_stands_by_then() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red", x=0.3), make_observation("reach red"), 1)
    controller.command(START_NS, FRESH)
    controller.instruct("")
    controller.instruct("reach red")
    moved = dataclasses.replace(make_observation("reach red"), state=np.full(10, 0.2, np.float32))
    controller.decided(make_chunk("reach red", x=0.6), moved, 1)
    command = controller.command(START_NS + 10_000_000, FRESH)
    assert command is not None
    np.testing.assert_allclose(command[:3], [0.2 + 0.8 * 0.02, 0.2 - 0.8 * 0.02, 0.2], atol=1e-6)


def test_a_stale_camera_holds_and_the_sentence_names_it() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    late = {**FRESH, "static": 0.6}
    assert controller.command(START_NS, late) is None
    situation = controller.situation(START_NS, late)
    assert situation.holding
    assert situation.sentence == "holding: the newest sample of 'static' is 0.60 s old (limit 0.5 s)"
    assert controller.command(START_NS, FRESH) is not None
    assert controller.situation(START_NS, FRESH).sentence == "following 'reach red'"


def test_in_lockstep_a_refused_decision_is_answered_with_the_last_safe_command() -> None:
    controller = make_controller(lockstep=True)
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red"), make_observation("reach red"), 1)
    safe = controller.command(START_NS, {})
    later = START_NS + CONTRACT.step_ns
    controller.decided(make_chunk("reach red", later, x=math.nan), make_observation("reach red", later), 1)
    assert controller.answered(later)
    np.testing.assert_array_equal(controller.command(later, {}), safe)
    assert controller.figures(1)["interventions"] == "not_finite 1"


def test_latency_is_measured_once_for_each_decision() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    controller.decided(make_chunk("reach red"), make_observation("reach red"), 7_000_000)
    controller.sent(START_NS + 30_000_000)
    controller.sent(START_NS + 50_000_000)
    figures = controller.figures(1_000_000_000)
    assert figures["camera stamp to command"] == "p50 30.0 ms, p99 30.0 ms, p99.9 30.0 ms, worst 30.0 ms"
    assert figures["inference"].startswith("p50 7.0 ms")
    assert figures["commands"] == "2.0 Hz"


def test_a_contract_may_differ_from_the_trained_one_only_in_what_the_policy_has_not_learned() -> None:
    values = CONTRACT.to_dict()
    values["commands"][0]["topic"] = "/other/target_pose"
    values["commands"][0]["dims"][0]["limits"] = [0.2, 0.5]
    values["command_rate_hz"] = 100.0
    assert differences(CONTRACT, Contract.from_dict(values)) == []
    values["cameras"][0]["width"] = 128
    values["rate_hz"] = 5.0
    assert differences(CONTRACT, Contract.from_dict(values)) == [
        "rate_hz: trained with 10.0, given 5.0",
        "camera 'static': trained with 96x96, given 128x96",
    ]


def base_contract() -> Contract:
    values = Contract.load("tabletop").to_dict()
    dims = [
        {"name": "linear_x", "unit": "m/s", "limits": [-1.0, 1.0], "max_velocity": 10.0},
        {"name": "angular_z", "unit": "rad/s", "limits": [-2.0, 2.0]},
    ]
    values["commands"] = [{"name": "base", "topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist", "dims": dims}]
    return Contract.from_dict(values)


def drive(controller: Controller, speed: float, stamp_ns: int, steps: int = 8) -> None:
    due_ns = stamp_ns + CONTRACT.step_ns * np.arange(steps, dtype=np.int64)
    chunk = ActionChunk(actions=np.tile([speed, 0.5], (steps, 1)), due_ns=due_ns, instruction="go")
    assert controller.decided(chunk, make_observation("go", stamp_ns), 1)


@pytest.mark.parametrize(
    "ends", ["the camera", "the instruction", "a stop", "a person", "the node", "not a number", "the age"]
)
def test_whatever_ends_a_velocity_ends_it_at_once_with_zero_and_then_there_is_silence(ends: str) -> None:
    controller = Controller(base_contract(), max_chunk_age_ns=1_000_000_000, lockstep=False, now_ns=0)
    controller.instruct("go")
    drive(controller, 1.0, START_NS)
    first = [controller.command(START_NS + i * 20_000_000, FRESH) for i in range(6)]
    np.testing.assert_allclose([command[0] for command in first if command is not None], [0.2, 0.4, 0.6, 0.8, 1, 1])
    now_ns, ages = START_NS + 6 * 20_000_000, FRESH
    if ends == "a person":
        last = controller.intervene(True, now_ns)
        np.testing.assert_array_equal(last, [0.0, 0.0])
    elif ends == "the node":
        np.testing.assert_array_equal(controller.halt(now_ns), [0.0, 0.0])
        controller.switch(False)
    else:
        if ends == "the camera":
            ages = {**FRESH, "static": 0.6}
        elif ends == "the instruction":
            controller.instruct("")
        elif ends == "a stop":
            controller.switch(False)
        elif ends == "the age":
            now_ns = START_NS + 1_000_000_001
        else:
            drive(controller, math.nan, now_ns)
        for i in range(25):  # half a second
            np.testing.assert_array_equal(controller.command(now_ns + i * 20_000_000, ages), [0.0, 0.0])
    assert controller.command(now_ns + 26 * 20_000_000, ages) is None


def test_behind_the_last_action_of_a_chunk_a_velocity_becomes_zero_as_fast_as_it_may() -> None:
    controller = Controller(base_contract(), max_chunk_age_ns=1_000_000_000, lockstep=False, now_ns=0)
    controller.instruct("go")
    drive(controller, 1.0, START_NS, steps=3)
    end_ns = START_NS + 3 * CONTRACT.step_ns  # the last of three actions is in force for one step
    for now_ns in range(START_NS, end_ns + 1, 20_000_000):
        controller.command(now_ns, FRESH)
    found = [controller.command(end_ns + i * 20_000_000, FRESH) for i in range(1, 7)]
    np.testing.assert_allclose(np.array(found), [[0.8, 0], [0.6, 0], [0.4, 0], [0.2, 0], [0, 0], [0, 0]], atol=1e-9)


def test_after_a_hold_a_velocity_begins_at_zero_again() -> None:
    controller = Controller(base_contract(), max_chunk_age_ns=1_000_000_000, lockstep=False, now_ns=0)
    controller.instruct("go")
    drive(controller, 1.0, START_NS)
    for i in range(6):
        controller.command(START_NS + i * 20_000_000, FRESH)
    controller.command(START_NS + 120_000_000, {**FRESH, "static": 0.6})
    command = controller.command(START_NS + 140_000_000, FRESH)
    assert command is not None
    assert command[0] == pytest.approx(0.2)


def test_a_velocity_that_could_never_be_zero_is_refused() -> None:
    values = base_contract().to_dict()
    values["commands"][0]["dims"][0]["limits"] = [0.1, 1.0]
    with pytest.raises(UserError, match="'linear_x' is a velocity: its limits must include 0"):
        Contract.from_dict(values)


def test_a_trajectory_of_a_whole_chunk_is_sent_once_for_each_decision_and_ends_where_it_has_got_to() -> None:
    values = Contract.load("tabletop").to_dict()
    dims = [{"name": name, "unit": "rad", "limits": [-1.0, 1.0], "max_velocity": 2.0} for name in ("a", "b")]
    kind = "trajectory_msgs/msg/JointTrajectory"
    values["commands"] = [{"name": "arm", "topic": "/arm", "type": kind, "trajectory": "chunk", "dims": dims}]
    controller = Controller(Contract.from_dict(values), max_chunk_age_ns=1_000_000_000, lockstep=False, now_ns=0)
    controller.instruct("go")
    due_ns = START_NS + CONTRACT.step_ns * np.arange(4, dtype=np.int64)
    actions = np.array([[0.0, 0.0], [0.1, 0.1], [0.2, 0.9], [0.3, 2.0]])
    controller.decided(ActionChunk(actions=actions, due_ns=due_ns, instruction="go"), make_observation("go"), 1)
    late_ns = START_NS + CONTRACT.step_ns // 2  # inference took half a step
    controller.command(late_ns, FRESH)
    assert controller.path is not None
    points, times = controller.path
    np.testing.assert_array_equal(times, due_ns[1:])
    np.testing.assert_allclose(points, [[0.1, 0.1], [0.2, 0.3], [0.3, 0.5]])  # at most 0.2 rad a step
    controller.command(late_ns + 20_000_000, FRESH)
    assert controller.path is None
    stop = controller.command(late_ns + 40_000_000, {**FRESH, "static": 0.6})
    assert controller.path is not None
    np.testing.assert_array_equal(controller.path[0], [stop])
    np.testing.assert_allclose(stop, [0.07, 0.07])
    assert controller.path[1].tolist() == [late_ns + 60_000_000]
    controller.command(late_ns + 60_000_000, FRESH)
    assert controller.path is not None  # what is left of the chunk, again
    assert len(controller.path[0]) == 2


def test_periods_that_the_loop_missed_and_how_far_decisions_disagree_are_counted() -> None:
    controller = make_controller()
    controller.instruct("reach red")
    for ms in (20, 40, 61, 120, 140):  # at 50 Hz: two periods are missing between 61 and 120
        controller.tick(ms * 1_000_000)
    assert controller.figures(1)["missed periods"] == "2"
    assert controller.figures(1)["disagreement of decisions"] == "none yet"
    controller.decided(make_chunk("reach red", x=0.3), make_observation("reach red"), 1, now_ns=START_NS)
    other = make_chunk("reach red", x=0.345)  # a tenth of the 0.45 m between the limits
    controller.decided(other, make_observation("reach red"), 1, now_ns=START_NS)
    assert controller.figures(1)["disagreement of decisions"] == "p50 10 %, p99 10 %, worst 10 %"
