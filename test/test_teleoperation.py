"""Teleoperation without ROS: keys and axes become commands of a contract, and only while the dead-man's key is held."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.gamepad import Gamepad
from robovlm_ros.handover import PATIENCE_NS, Handover
from robovlm_ros.keyboard import SILENCE_NS, Keyboard
from robovlm_ros.teleoperation import Teleoperator, Wish

from .makers import arm_contract

TABLETOP = Contract.load("tabletop")
PERIOD_NS = round(1e9 / TABLETOP.command_rate_hz)
MS = 1_000_000
NOW = 1_700_000_000_000_000_000
TOOL = np.array([0.3, 0.0, 0.2])


def wish(direction: list[float], alive: bool = True, toggled: bool = False) -> Wish:
    flags = np.zeros(len(direction), np.bool_)
    flags[-1] = toggled
    return Wish(alive=alive, direction=np.array(direction), toggled=flags)


def operator(now_ns: int = NOW, gripper: float = 0.04, **options: Any) -> Teleoperator:
    made = Teleoperator(TABLETOP, period_ns=PERIOD_NS, **options)
    made.measure("ee", TOOL, now_ns)
    made.measure("joints", np.append(np.zeros(6), gripper), now_ns)
    return made


def base_contract() -> Contract:
    values = TABLETOP.to_dict()
    dims = [
        {"name": "linear_x", "unit": "m/s", "limits": [-0.5, 1.0], "max_velocity": 2.0},
        {"name": "angular_z", "unit": "rad/s", "limits": [-2.0, 2.0], "max_velocity": 10.0},
    ]
    values["commands"] = [{"name": "base", "topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist", "dims": dims}]
    return Contract.from_dict(values)


# --- wishes to commands ---------------------------------------------------------------------------------------


def test_a_position_moves_from_where_the_robot_stands_at_the_chosen_speed() -> None:
    teleop = operator(speed=0.5)
    for i in range(1, 6):
        command = teleop.command(wish([1.0, -0.5, 0.0, 0.0]), NOW + i * PERIOD_NS)
        assert command is not None
        way = i * 0.8 * 0.5 * PERIOD_NS / 1e9
        np.testing.assert_allclose(command, [0.3 + way, -way / 2, 0.2, 1.0], atol=1e-9)


def test_nothing_is_sent_without_the_dead_mans_key_and_the_next_time_it_starts_from_where_the_robot_is_then() -> None:
    teleop = operator()
    assert teleop.command(wish([1.0, 0, 0, 0], alive=False), NOW) is None
    assert teleop.command(wish([1.0, 0, 0, 0]), NOW) is not None
    assert teleop.command(wish([1.0, 0, 0, 0], alive=False), NOW) is None
    teleop.measure("ee", np.array([0.5, 0.2, 0.1]), NOW)  # moved by others
    np.testing.assert_allclose(teleop.command(wish([0.0] * 4), NOW), [0.5, 0.2, 0.1, 1.0])
    teleop.command(wish([0.0] * 4, alive=False), NOW)
    teleop.hear("arm", np.array([0.51, 0.2, 0.1]))  # the policy's newest command, from which the robot sags a little
    np.testing.assert_allclose(teleop.command(wish([0.0] * 4), NOW), [0.51, 0.2, 0.1, 1.0])


def test_a_binary_action_keeps_what_was_commanded_until_it_is_switched() -> None:
    teleop = operator(gripper=0.0)
    assert teleop.command(wish([0.0] * 4), NOW)[3] == 0.0  # type: ignore[index]
    assert teleop.command(wish([0.0] * 4, toggled=True), NOW)[3] == 1.0  # type: ignore[index]
    assert teleop.command(wish([0.0] * 4), NOW)[3] == 1.0  # type: ignore[index]
    teleop.stop()
    teleop.hear("gripper", np.array([1.0]))  # although it is measured closed: something may be between the fingers
    assert teleop.command(wish([0.0] * 4), NOW)[3] == 1.0  # type: ignore[index]


def test_commands_stay_within_the_limits_and_near_a_robot_that_is_held_up() -> None:
    for speed, end in ((1.0, [0.6, 0.0, 0.02, 1.0]), (0.1, [0.3 + 0.8 * 0.1 * 0.5, 0.0, 0.2 - 0.8 * 0.1 * 0.5, 1.0])):
        teleop = operator(speed=speed)
        for i in range(200):
            teleop.measure("ee", TOOL, NOW + i * PERIOD_NS)  # it does not move, whatever is commanded
            teleop.measure("joints", np.append(np.zeros(6), 0.04), NOW + i * PERIOD_NS)
            command = teleop.command(wish([1.0, 0.0, -1.0, 0.0]), NOW + i * PERIOD_NS)
        np.testing.assert_allclose(command, end, atol=1e-9)  # type: ignore[arg-type]


def test_it_holds_with_the_reason_while_the_state_is_missing_or_stale() -> None:
    teleop = Teleoperator(TABLETOP, period_ns=PERIOD_NS)
    assert teleop.command(wish([1.0, 0, 0, 0]), NOW) is None
    assert teleop.reasons == ("where x, y, z stands is not known: no state has come, and no command",)
    teleop = operator()
    assert teleop.command(wish([1.0, 0, 0, 0]), NOW) is not None
    assert teleop.command(wish([1.0, 0, 0, 0]), NOW + 600 * MS) is None
    assert "the newest sample of 'ee' is 0.60 s old" in teleop.reasons[0]


def test_velocities_are_set_within_their_limits_and_end_at_once_with_the_dead_mans_key() -> None:
    teleop = Teleoperator(base_contract(), period_ns=PERIOD_NS, speed=0.5)
    forward = Wish(alive=True, direction=np.array([1.0, -1.0]), toggled=np.zeros(2, np.bool_))
    sent = [teleop.command(forward, NOW + i * PERIOD_NS) for i in range(30)]
    np.testing.assert_allclose(sent[0], [2.0 * PERIOD_NS / 1e9, -10.0 * PERIOD_NS / 1e9])  # accelerates from rest
    np.testing.assert_allclose(sent[-1], [0.5, -1.0])  # type: ignore[arg-type]
    back = Wish(alive=True, direction=np.array([-1.0, 0.0]), toggled=np.zeros(2, np.bool_))
    sent = [teleop.command(back, NOW + (30 + i) * PERIOD_NS) for i in range(30)]
    np.testing.assert_allclose(sent[-1], [-0.25, 0.0])  # type: ignore[arg-type]
    released = Wish(alive=False, direction=np.zeros(2), toggled=np.zeros(2, np.bool_))
    np.testing.assert_array_equal(teleop.command(released, NOW + 61 * PERIOD_NS), [0.0, 0.0])
    assert teleop.command(released, NOW + 62 * PERIOD_NS) is None


def test_any_number_and_name_of_actions_is_driven() -> None:
    contract = arm_contract(7)
    teleop = Teleoperator(contract, period_ns=PERIOD_NS, speed=0.5)
    teleop.measure("joints", np.linspace(0.0, 0.6, 7), NOW)
    command = teleop.command(wish([1.0] + [0.0] * 6, toggled=True), NOW)
    way = 4.0 / 5.0 * 0.5 * PERIOD_NS / 1e9  # the whole range in 5 s at full speed
    np.testing.assert_allclose(command, [way, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0], atol=1e-9)


# --- keys -----------------------------------------------------------------------------------------------------


def keyboard(contract: Contract = TABLETOP, **options: Any) -> Keyboard:
    return Keyboard(contract, release_ns=150 * MS, **options)


def test_in_a_plain_terminal_capital_letters_move_for_as_long_as_they_are_repeated() -> None:
    keys = keyboard()
    keys.feed(b"w", NOW)  # without SHIFT, the dead-man's key
    assert not keys.wish(NOW).alive
    for i in range(10):
        keys.feed(b"W", NOW + i * 33 * MS)
        asked = keys.wish(NOW + i * 33 * MS + 20 * MS)
        assert asked.alive
        np.testing.assert_array_equal(asked.direction, [1.0, 0.0, 0.0, 0.0])
    assert keys.wish(NOW + 297 * MS + 150 * MS).alive
    assert not keys.wish(NOW + 297 * MS + 151 * MS).alive
    keys.feed(b"D", NOW + 500 * MS)
    np.testing.assert_array_equal(keys.wish(NOW + 500 * MS).direction, [0.0, -1.0, 0.0, 0.0])
    keys.feed(b"d", NOW + 510 * MS)  # SHIFT was let go: at once
    assert not keys.wish(NOW + 511 * MS).alive


def test_a_held_switch_of_a_plain_terminal_switches_once() -> None:
    keys = keyboard()
    switched = 0
    for time_ms in (0, 500, 533, 566, 600):  # pressed, and repeated after the usual delay
        keys.feed(b"E", NOW + time_ms * MS)
        switched += int(keys.wish(NOW + time_ms * MS).toggled[3])
    assert switched == 1
    keys.feed(b"E", NOW + 1400 * MS)
    assert keys.wish(NOW + 1400 * MS).toggled[3]


def test_a_terminal_that_reports_releases_is_believed_at_once() -> None:
    keys = keyboard()
    assert keys.feed(b"\x1b[?0u", NOW) == ["supported"]
    keys.feed(b"\x1b[57441;2u\x1b[119;2:1u\x1b[97;2", NOW)  # shift, w, and the first half of a
    keys.feed(b":1u", NOW)
    np.testing.assert_array_equal(keys.wish(NOW + 900 * MS).direction, [1.0, 1.0, 0.0, 0.0])  # both at once
    keys.feed(b"\x1b[119;2:3u", NOW + 910 * MS)
    np.testing.assert_array_equal(keys.wish(NOW + 911 * MS).direction, [0.0, 1.0, 0.0, 0.0])
    keys.feed(b"\x1b[57441;2:3u", NOW + 920 * MS)  # the dead-man's key
    assert not keys.wish(NOW + 921 * MS).alive


@pytest.mark.parametrize("lost", ["focus", "silence"])
def test_a_release_that_gets_lost_stops_all_the_same(lost: str) -> None:
    keys = keyboard()
    keys.feed(b"\x1b[57441;2u\x1b[119;2:1u", NOW)
    assert keys.wish(NOW + 1).alive
    if lost == "focus":
        keys.feed(b"\x1b[O", NOW + 2)
        assert not keys.wish(NOW + 3).alive
    else:
        assert not keys.wish(NOW + SILENCE_NS + 1).alive


def test_keys_ask_for_control_speed_and_the_end() -> None:
    assert keyboard().feed(b"\n\x7f+-?", NOW) == ["take_over", "hand_back", "faster", "slower", "help"]
    exact = b"\x1b[13u\x1b[13;1:3u\x1b[127u\x1b[61;2u\x1b[99;5u\x1b[A\x1bOP\x1b\x1b[27u"
    assert keyboard().feed(exact, NOW) == ["take_over", "hand_back", "faster", "interrupt"]


def test_keys_can_be_chosen_and_what_cannot_be_is_refused() -> None:
    keys = keyboard(keys=["z=ud", "gripper=g"])
    keys.feed(b"U", NOW)
    np.testing.assert_array_equal(keys.wish(NOW).direction, [0.0, 0.0, 1.0, 0.0])
    assert ("U D", "z up, down") in keys.table
    for wrong, reason in (
        (["depth=ud"], "'depth' is not one of: x, y, z, gripper"),
        (["x"], "'x' is not ACTION=KEYS"),
        (["x=w"], "two letters, up and down"),
        (["gripper=12"], "one letter, for it is binary"),
        (["x=ws", "y=sd"], "letter 's' occurs twice"),
    ):
        with pytest.raises(UserError, match=reason):
            keyboard(keys=wrong)
    with pytest.raises(UserError, match="there are 9 actions and 8 defaults; name those to be moved"):
        keyboard(arm_contract(9, gripper=False))


def test_the_table_of_keys_in_the_docs_is_that_of_the_node() -> None:
    documented = (Path(__file__).parent.parent / "docs" / "teleoperation.md").read_text().replace(",", "").splitlines()
    for keys, what in keyboard().table[1:]:
        prefix = "SHIFT + " if keys.replace(" ", "").isupper() else ""
        meaning = what.removeprefix("switch ").replace(",", "").split()[0]
        assert any(line.startswith(f"| {prefix}{keys} |") and meaning in line for line in documented), keys


# --- a gamepad ------------------------------------------------------------------------------------------------


def gamepad(**options: Any) -> Gamepad:
    orders = {"take_over": 7, "hand_back": 6, "faster": 3, "slower": 2}
    settings = {"axes": [""], "toggles": [""], "dead_man": 4, "orders": orders, "timeout_ns": 300 * MS, **options}
    return Gamepad(TABLETOP, **settings)


def pressed(*buttons: int) -> list[int]:
    return [int(i in buttons) for i in range(8)]


def test_sticks_move_only_with_the_dead_mans_button_and_while_the_gamepad_speaks() -> None:
    pad = gamepad()
    sticks = [-0.54, 1.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0]
    pad.feed(sticks, pressed(), NOW)
    assert not pad.wish(NOW).alive
    pad.feed(sticks, pressed(4), NOW)
    asked = pad.wish(NOW + 300 * MS)
    assert asked.alive
    np.testing.assert_allclose(asked.direction, [1.0, -0.5, 0.0, 0.0])
    assert not pad.wish(NOW + 301 * MS).alive
    pad.feed(sticks, pressed(4), NOW + 400 * MS)
    pad.feed(sticks, pressed(), NOW + 401 * MS)
    assert not pad.wish(NOW + 401 * MS).alive


def test_buttons_switch_and_ask_once_for_each_press() -> None:
    pad = gamepad(axes=["x=-1"])
    axes = [0.0, 1.0]
    assert pad.feed(axes, pressed(4, 7), NOW) == []  # held already when the gamepad appeared
    pad.feed(axes, pressed(4), NOW)
    assert pad.feed(axes, pressed(4, 7, 0), NOW) == ["take_over"]
    asked = pad.wish(NOW)
    assert asked.toggled.tolist() == [False, False, False, True]
    assert asked.direction[0] == -1.0
    assert pad.feed(axes, pressed(4, 7, 0), NOW) == []
    assert not pad.wish(NOW).toggled.any()


def test_a_gamepad_without_the_controls_that_are_asked_for_is_refused_and_counts_as_gone() -> None:
    pad = gamepad()
    pad.feed([0.0] * 8, pressed(4), NOW)
    with pytest.raises(UserError, match="the gamepad has 2 axes, joy_axes asks for number 4"):
        pad.feed([0.0, 0.0], pressed(4), NOW)
    assert not pad.wish(NOW).alive
    with pytest.raises(UserError, match="'joy_axes': 'gripper' is not one of: x, y, z"):
        gamepad(axes=["gripper=0"])
    with pytest.raises(UserError, match="one button of the gamepad serves take_over and the dead-man's button"):
        gamepad(dead_man=7)
    pad.feed([math.nan] * 8, pressed(4), NOW)
    assert pad.wish(NOW).direction.tolist() == [0.0] * 4


# --- who commands ---------------------------------------------------------------------------------------------


def said(handover: Handover) -> bool | None:
    word, handover.to_say = handover.to_say, None
    return word


def test_a_person_commands_only_after_the_policy_has_yielded() -> None:
    handover = Handover(NOW, wait=True, person=False)
    handover.answered(False, NOW)
    assert said(handover) is False
    handover.take_over(NOW, wait=True)
    assert said(handover) is True
    assert not handover.in_control
    handover.answered(True, NOW)
    assert handover.in_control
    assert said(handover) is None
    handover.hand_back(NOW, wait=True)
    assert not handover.in_control
    assert said(handover) is False
    handover.answered(False, NOW)
    assert (handover.state, said(handover)) == ("policy", None)


def test_one_question_is_asked_after_the_other() -> None:
    handover = Handover(NOW, wait=True, person=False)
    handover.take_over(NOW, wait=True)
    assert (handover.state, said(handover)) == ("joining", None)
    handover.answered(False, NOW)
    assert (handover.state, said(handover)) == ("asking", True)
    handover.answered(True, NOW)
    handover.hand_back(NOW, wait=True)
    said(handover)
    handover.take_over(NOW, wait=True)  # the answer to the question before must not be taken for that to this one
    handover.answered(True, NOW)
    assert (handover.state, said(handover)) == ("returning", None)
    handover.answered(False, NOW)
    assert (handover.state, said(handover)) == ("asking", True)


def test_a_policy_that_does_not_yield_keeps_control_and_one_that_forgets_is_asked_again() -> None:
    handover = Handover(NOW, wait=False, person=False)
    handover.take_over(NOW, wait=True)
    said(handover)
    handover.tick(NOW + PATIENCE_NS)
    assert handover.state == "policy"
    assert said(handover) is False
    assert "did not yield within 2 s" in handover.refusal
    handover.take_over(NOW, wait=True)
    handover.answered(True, NOW)
    said(handover)
    handover.answered(False, NOW)  # it was started anew
    assert not handover.in_control
    assert said(handover) is True


def test_the_place_of_a_person_whose_node_died_is_taken_and_not_given_to_the_policy() -> None:
    handover = Handover(NOW, wait=True, person=False)
    assert said(handover) is None
    handover.answered(True, NOW)
    assert handover.in_control
    assert said(handover) is True


@pytest.mark.parametrize(("person", "state"), [(True, "person"), (False, "policy")])
def test_without_a_policy_nobody_is_waited_for(person: bool, state: str) -> None:
    handover = Handover(NOW, wait=False, person=person)
    assert (handover.state, said(handover)) == (state, person)
