"""The emergency stop latches, and the dead-man's switch must be held."""

from __future__ import annotations

import pytest

from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard


def test_an_emergency_stop_stays_until_it_is_reset_and_cannot_be_reset_while_pressed() -> None:
    guard = Guard()
    assert guard.refusal(0) is None
    guard.press(True, "/emergency_stop")
    guard.stop("~/emergency_stop")
    assert guard.refusal(0) == "emergency stop (/emergency_stop); ~/reset, then ~/start goes on"
    with pytest.raises(UserError, match="still pressed"):
        guard.reset()
    guard.press(False, "/emergency_stop")
    assert guard.stopped
    guard.reset()
    assert guard.refusal(0) is None


@pytest.mark.parametrize(("later_ns", "may"), [(0, True), (300, True), (301, False), (-1, False)])
def test_a_dead_mans_switch_holds_for_its_time_alone(later_ns: int, may: bool) -> None:
    guard = Guard(dead_man_timeout_ns=300)
    assert guard.refusal(1000) == "the dead-man's switch is not held"
    guard.hold(True, 1000)
    assert (guard.refusal(1000 + later_ns) is None) == may
    guard.hold(False, 1000)
    assert guard.refusal(1000) is not None
