"""How a node begins and ends where ROS 2 itself says no."""

from __future__ import annotations

import sys

import pytest
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node

from robovlm_ros.nodes.entry import spin


@pytest.fixture(autouse=True)
def _plain_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["node"])


def test_what_fails_because_ros_has_ended_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def ended_while_loading() -> Node:
        rclpy.get_default_context().try_shutdown()  # as the handler of SIGTERM does
        raise RCLError("failed to create node: the given context is not valid")

    assert spin(ended_while_loading, threads=2) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_ros_while_loading_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> Node:
        raise RCLError("failed to create\n node")

    assert spin(refused, threads=2) == 1
    assert capsys.readouterr().err == "error: ROS 2 cannot start: failed to create node\n"


def test_an_unknown_ros_argument_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["node", "--ros-args", "--bogus"])
    assert spin(lambda: Node("never"), threads=2) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ROS 2 cannot start: ")
    assert "--bogus" in error
    assert error.count("\n") == 1
