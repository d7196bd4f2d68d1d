"""A gamepad's axes and buttons (``sensor_msgs/Joy``) as wishes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.teleoperation import Wish, assignments, by_order

AXES = ("1", "0", "4", "3", "7", "6")
"""Axes of the continuous actions, in order: left stick, right stick, cross; up and left are positive (REP-103)."""
TOGGLES = ("0", "1")
"""Buttons of the binary actions, in order."""
DEAD_ZONE = 0.08
"""Sticks that are let go do not stand at 0; below this an axis counts as 0."""


class Gamepad:
    """The newest message of a gamepad, and what it asks for."""

    def __init__(
        self,
        contract: Contract,
        *,
        axes: Sequence[str],
        toggles: Sequence[str],
        dead_man: int,
        orders: Mapping[str, int],
        timeout_ns: int,
    ) -> None:
        """`axes`: ``name=axis`` of continuous actions, ``name=-axis`` reversed; `toggles`: ``name=button`` of binary
        ones; empty: by the order in the contract. `orders`: order → button. Without a message for `timeout_ns` [ns]
        the gamepad counts as gone.
        """
        names = list(contract.action_names)
        continuous = [dim.name for dim in contract.action_dims if dim.kind != "binary"]
        binary = [dim.name for dim in contract.action_dims if dim.kind == "binary"]
        given = assignments(axes, continuous, "joy_axes", "AXIS") or by_order(continuous, AXES, "joy_axes", "AXIS")
        switches = assignments(toggles, binary, "joy_toggles", "BUTTON") or by_order(
            binary, TOGGLES, "joy_toggles", "BUTTON"
        )
        self._axes = {  # place of an action → (axis, sign)
            names.index(name): (_index(text.removeprefix("-"), "joy_axes"), -1.0 if text[0] == "-" else 1.0)
            for name, text in given.items()
        }
        self._toggles = {names.index(name): _index(text, "joy_toggles") for name, text in switches.items()}
        self._names = names
        self._dead_man = dead_man
        self._orders = dict(orders)
        self._buttons_used = {**{f"the switch of {names[i]}": b for i, b in self._toggles.items()}, **self._orders}
        self._buttons_used["the dead-man's button"] = dead_man
        taken = list(self._buttons_used.values())
        twice = [what for what, button in self._buttons_used.items() if taken.count(button) > 1]
        if twice:
            raise UserError(f"one button of the gamepad serves {' and '.join(twice)}: give each its own")
        self._timeout_ns = timeout_ns
        self._received_ns: int | None = None
        self._values: list[float] = []
        self._buttons: list[int] = []
        self._switched: set[int] = set()

    @property
    def table(self) -> tuple[tuple[str, str], ...]:
        """(control, what it does) for people."""
        moves = [(f"axis {axis}", self._names[place]) for place, (axis, _) in self._axes.items()]
        presses = [(f"button {button}", what.replace("_", " ")) for what, button in self._buttons_used.items()]
        return (*moves, *presses)

    def feed(self, axes: Sequence[float], buttons: Sequence[int], now_ns: int) -> list[str]:
        """Take a message; the orders in it. UserError if the gamepad lacks a control: it counts as gone."""
        before = self._buttons
        self._received_ns = None
        highest_axis = max((axis for axis, _ in self._axes.values()), default=-1)
        if highest_axis >= len(axes):
            raise UserError(f"the gamepad has {len(axes)} axes, joy_axes asks for number {highest_axis}")
        for what, button in self._buttons_used.items():
            if button >= len(buttons):
                raise UserError(f"the gamepad has {len(buttons)} buttons, {what.replace('_', ' ')} is number {button}")
        self._values, self._buttons, self._received_ns = list(axes), list(buttons), now_ns

        def pressed(button: int) -> bool:  # a button that is down in the first message was not pressed now
            return len(before) == len(buttons) and bool(buttons[button]) and not before[button]

        if self._buttons[self._dead_man]:
            self._switched |= {place for place, button in self._toggles.items() if pressed(button)}
        return [order for order, button in self._orders.items() if pressed(button)]

    def wish(self, now_ns: int) -> Wish:
        """What is asked for now."""
        direction, toggled = np.zeros(len(self._names)), np.zeros(len(self._names), np.bool_)
        fresh = self._received_ns is not None and now_ns - self._received_ns <= self._timeout_ns
        alive = fresh and bool(self._buttons[self._dead_man])
        if alive:
            for place, (axis, sign) in self._axes.items():
                direction[place] = sign * _stick(self._values[axis])
            toggled[list(self._switched)] = True
        self._switched.clear()
        return Wish(alive=alive, direction=direction, toggled=toggled)


def _stick(value: float) -> float:
    """The dead zone taken out, the rest stretched to 0..1."""
    if not math.isfinite(value) or abs(value) <= DEAD_ZONE:
        return 0.0
    return math.copysign((min(abs(value), 1.0) - DEAD_ZONE) / (1.0 - DEAD_ZONE), value)


def _index(text: str, what: str) -> int:
    if not text.isdecimal():
        raise UserError(f"parameter '{what}': '{text}' is not the number of an axis or button")
    return int(text)
