"""Instants, durations, clocks, and simulated time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from builtin_interfaces.msg import Duration as DurationMsg
from builtin_interfaces.msg import Time as TimeMsg
from rclpy.clock import Clock, ClockChange, JumpThreshold, ROSClock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMsg


def test_instants_and_durations_calculate() -> None:
    moment = Time(seconds=1, nanoseconds=500_000_000)
    assert moment.nanoseconds == 1_500_000_000
    assert moment.seconds_nanoseconds() == (1, 500_000_000)
    assert (moment + Duration(seconds=2)).nanoseconds == 3_500_000_000
    assert (moment - Duration(nanoseconds=500_000_000)).nanoseconds == 1_000_000_000
    difference = moment - Time(nanoseconds=1)
    assert isinstance(difference, Duration)
    assert difference.nanoseconds == 1_499_999_999
    assert Duration(seconds=0.5) == Duration(nanoseconds=500_000_000) < Duration(seconds=1)
    assert Duration(seconds=-1).nanoseconds == -(10**9)
    assert Time(nanoseconds=1) < Time(nanoseconds=2)
    assert Time(nanoseconds=1) != Time(nanoseconds=2)


def test_what_cannot_be_an_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Time(nanoseconds=-1)
    with pytest.raises(OverflowError):
        Time(nanoseconds=2**63)
    with pytest.raises(TypeError):
        Time(clock_type="wall")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Time(clock_type=ClockType.SYSTEM_TIME) < Time(clock_type=ClockType.STEADY_TIME)  # noqa: B015
    with pytest.raises(TypeError):
        Time(clock_type=ClockType.SYSTEM_TIME) - Time(clock_type=ClockType.STEADY_TIME)
    with pytest.raises(ValueError, match="negative"):
        Time(nanoseconds=1) - Duration(nanoseconds=2)


def test_instants_and_durations_are_messages_and_back() -> None:
    moment = Time(seconds=7, nanoseconds=9, clock_type=ClockType.ROS_TIME)
    assert moment.to_msg() == TimeMsg(sec=7, nanosec=9)
    assert Time.from_msg(moment.to_msg()) == moment
    assert Time.from_msg(TimeMsg(sec=1), clock_type=ClockType.STEADY_TIME).clock_type == ClockType.STEADY_TIME
    assert Duration(seconds=1, nanoseconds=2).to_msg() == DurationMsg(sec=1, nanosec=2)
    assert Duration.from_msg(DurationMsg(sec=-1, nanosec=5)).nanoseconds == -(10**9) + 5
    with pytest.raises(TypeError):
        Time.from_msg(DurationMsg())


@pytest.mark.parametrize("kind", [ClockType.SYSTEM_TIME, ClockType.STEADY_TIME, ClockType.ROS_TIME])
def test_clocks_show_their_own_time_and_sleep(stage: Any, kind: ClockType) -> None:
    clock = Clock(clock_type=kind)
    assert clock.clock_type == kind
    assert isinstance(clock, ROSClock) == (kind == ClockType.ROS_TIME)
    begin = clock.now()
    assert begin.clock_type == kind
    assert clock.sleep_for(Duration(seconds=0.1), context=stage.context)
    assert clock.now() - begin >= Duration(seconds=0.099)
    assert clock.sleep_until(begin, context=stage.context)  # over already
    if kind != ClockType.STEADY_TIME:
        assert abs(clock.now().nanoseconds - time.time_ns()) < 10**9


def test_a_sleep_ends_with_the_context(stage: Any) -> None:
    threading.Timer(0.1, stage.context.try_shutdown).start()
    assert not Clock().sleep_for(Duration(seconds=60), context=stage.context)


def test_thresholds_of_jumps_must_make_sense() -> None:
    with pytest.raises(ValueError, match="min_forward"):
        JumpThreshold(min_forward=Duration(nanoseconds=-1), min_backward=None)
    with pytest.raises(ValueError, match="min_backward"):
        JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=1))
    with pytest.raises(ValueError):  # noqa: PT011
        JumpThreshold(min_forward=None, min_backward=None, on_clock_change=False)


def test_a_node_follows_simulated_time(stage: Any) -> None:
    source = stage.node("source")
    publisher = source.create_publisher(ClockMsg, "clock", 10)
    node = stage.node(
        parameter_overrides=[Parameter("use_sim_time", value=True)],
        cli_args=["--ros-args", "-r", "/clock:=clock"],
    )
    clock = node.get_clock()
    assert clock.clock_type == ClockType.ROS_TIME
    assert clock.ros_time_is_active
    calls: list[int] = []
    node.create_timer(10.0, lambda: calls.append(clock.now().nanoseconds))
    jumps: list[Any] = []
    threshold = JumpThreshold(min_forward=Duration(seconds=5), min_backward=Duration(seconds=-5), on_clock_change=True)
    handle = clock.create_jump_callback(threshold, post_callback=jumps.append)

    def show(seconds: int) -> bool:
        publisher.publish(ClockMsg(clock=TimeMsg(sec=seconds)))
        return bool(clock.now().nanoseconds == seconds * 10**9)

    assert stage.until(lambda: show(100))
    assert jumps[0].clock_change == ClockChange.ROS_TIME_NO_CHANGE
    assert jumps[0].delta == Duration(seconds=100)
    assert stage.until(lambda: show(101))
    assert len(jumps) == 1  # not far enough
    assert stage.until(lambda: show(115) and calls)
    assert 100 * 10**9 <= calls[0] <= 115 * 10**9
    assert stage.until(lambda: show(50))
    assert jumps[-1].delta == Duration(seconds=-65)
    node.set_parameters([Parameter("use_sim_time", value=False)])
    assert not clock.ros_time_is_active
    assert jumps[-1].clock_change == ClockChange.ROS_TIME_DEACTIVATED
    assert abs(clock.now().nanoseconds - time.time_ns()) < 10**9
    handle.unregister()


def test_use_sim_time_is_a_bool(node: Any) -> None:
    assert node.get_parameter("use_sim_time").value is False
    assert not node.set_parameters([Parameter("use_sim_time", value="yes")])[0].successful
