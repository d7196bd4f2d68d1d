"""The thread that commands."""

from __future__ import annotations

import itertools
import os
import threading
import time

import pytest

from robovlm_ros.errors import UserError
from robovlm_ros.nodes.command_loop import CommandLoop


def test_a_call_that_takes_longer_than_a_period_delays_the_next_but_leaves_no_debt() -> None:
    begun: list[float] = []
    enough = threading.Event()

    def call() -> None:
        begun.append(time.monotonic())
        if len(begun) == 1:
            time.sleep(0.3)  # ten periods and more
        if len(begun) == 4:
            enough.set()

    loop = CommandLoop(40.0, call, lambda text, _: None)
    loop.begin()
    assert enough.wait(10.0)
    loop.end()
    calls = len(begun)
    between = [after - before for before, after in itertools.pairwise(begun)]
    assert between[0] >= 0.3
    assert between[1] < 0.3  # at once, for it is due
    assert between[2] > 0.005  # and not all those that were left out
    time.sleep(0.1)
    assert len(begun) == calls  # it has ended


def test_a_call_that_fails_is_told_with_its_story_and_is_the_last() -> None:
    told: list[tuple[str, str]] = []
    done = threading.Event()

    def call() -> None:
        raise ValueError("no such joint")

    def failed(text: str, story: str) -> None:
        told.append((text, story))
        done.set()

    loop = CommandLoop(200.0, call, failed)
    loop.begin()
    assert done.wait(10.0)
    loop.end()
    assert [text for text, _ in told] == ["the command loop failed: no such joint"]
    assert "Traceback" in told[0][1]


def test_the_loop_alone_gets_a_real_time_priority_where_the_user_may_have_one() -> None:
    loop = CommandLoop(100.0, lambda: None, lambda text, _: None)
    loop.begin()
    try:
        loop.hurry(10)
        given = os.sched_getscheduler(loop._thread.native_id or 0)
    except UserError as error:
        pytest.skip(str(error))  # an ordinary user of an ordinary machine
    finally:
        loop.end()
    assert given & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
