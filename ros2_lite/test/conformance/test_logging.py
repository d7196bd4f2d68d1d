"""Loggers: levels, filters, what is printed, and what is published on /rosout."""

from __future__ import annotations

from typing import Any

import pytest
import rclpy.logging
from rcl_interfaces.msg import Log, LoggerLevel
from rcl_interfaces.srv import GetLoggerLevels, SetLoggerLevels
from rclpy.clock import ROSClock
from rclpy.clock_type import ClockType
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.time import Time
from rclpy.time_source import TimeSource


def test_levels_are_inherited_until_they_are_set() -> None:
    parent, child = get_logger("conformance.levels"), get_logger("conformance.levels.child")
    assert child.name == "conformance.levels.child"
    parent.set_level(LoggingSeverity.ERROR)
    assert parent.get_effective_level() == child.get_effective_level() == LoggingSeverity.ERROR
    assert not child.info("unheard")
    assert child.error("heard")
    child.set_level(LoggingSeverity.DEBUG)
    assert child.is_enabled_for(LoggingSeverity.DEBUG)
    assert child.debug("heard")
    assert parent.get_child("child").get_effective_level() == LoggingSeverity.DEBUG
    assert rclpy.logging.get_logger_effective_level("conformance.levels") == LoggingSeverity.ERROR


def test_filters_count_per_call() -> None:
    logger = get_logger("conformance.filters")
    assert [logger.info("once", once=True) for _ in range(3)] == [True, False, False]
    assert [logger.info("later", skip_first=True) for _ in range(3)] == [False, True, True]
    assert [logger.info("seldom", throttle_duration_sec=100.0) for _ in range(3)] == [True, False, False]


def test_a_throttle_may_go_by_another_clock() -> None:
    logger = get_logger("conformance.throttle")
    clock = ROSClock()
    source = TimeSource()
    source.attach_clock(clock)
    source.ros_time_is_active = True
    passed = []
    for second in (10, 11, 12, 13, 14):
        clock.set_ros_time_override(Time(seconds=second, clock_type=ClockType.ROS_TIME))
        passed.append(logger.info("tick", throttle_duration_sec=2.0, throttle_time_source_type=clock))
    assert passed == [True, False, True, False, True]


def test_a_call_stays_what_it_was_the_first_time() -> None:
    logger = get_logger("conformance.changing")

    def log(severity: LoggingSeverity) -> bool:
        return logger.log("changing", severity)

    assert log(LoggingSeverity.INFO)
    with pytest.raises(ValueError, match="severity"):
        log(LoggingSeverity.WARN)
    with pytest.raises(TypeError):
        logger.info("unknown", colour="red")
    with pytest.raises(ValueError, match="empty"):
        get_logger("")


def test_severities_have_names() -> None:
    assert rclpy.logging.get_logging_severity_from_string("warn") == LoggingSeverity.WARN
    assert [int(item) for item in LoggingSeverity] == [0, 10, 20, 30, 40, 50]
    with pytest.raises(RuntimeError):
        rclpy.logging.get_logging_severity_from_string("loud")


def test_lines_are_printed_with_severity_time_and_name(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("conformance.printed").warning("look here")
    captured = capfd.readouterr()
    assert "[WARN] [" in captured.err
    assert "[conformance.printed]: look here" in captured.err


def test_a_node_publishes_its_log_on_rosout(stage: Any, node: Any) -> None:
    got: list[Any] = []
    name = node.get_logger().name
    assert name == f"{stage.namespace[1:]}.tested"
    listener = stage.node("listener", enable_rosout=False)
    listener.create_subscription(
        Log, "/rosout", lambda log: got.append(log) if log.name.startswith(name) else None, 1000
    )

    def log() -> bool:
        node.get_logger().error("something is wrong")
        node.get_logger().get_child("arm").info("nothing is wrong")
        return len({item.name for item in got}) == 2

    assert stage.until(log)
    first = next(item for item in got if item.name == name)
    assert (first.level, first.msg, first.function) == (LoggingSeverity.ERROR, "something is wrong", "log")
    assert first.file.endswith("test_logging.py")
    assert first.line > 0
    assert first.stamp.sec > 0


def test_levels_can_be_set_from_outside_where_a_node_allows_it(stage: Any) -> None:
    node = stage.node("open", enable_logger_service=True)
    setter = node.create_client(SetLoggerLevels, "open/set_logger_levels")
    getter = node.create_client(GetLoggerLevels, "open/get_logger_levels")
    assert setter.wait_for_service(timeout_sec=10)
    assert getter.wait_for_service(timeout_sec=10)
    request = SetLoggerLevels.Request(levels=[LoggerLevel(name="conformance.outside", level=40)])
    assert stage.result(setter.call_async(request)).results[0].successful
    levels = stage.result(getter.call_async(GetLoggerLevels.Request(names=["conformance.outside"]))).levels
    assert [(level.name, level.level) for level in levels] == [("conformance.outside", 40)]
    assert get_logger("conformance.outside").get_effective_level() == LoggingSeverity.ERROR
