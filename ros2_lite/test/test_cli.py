"""The `ros2` command without a graph: help, bad input, `launch`, `run`, `pkg`, `interface`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ros2_lite.cli import COMMANDS, main
from ros2_lite.cli.errors import CliError
from ros2_lite.cli.values import get_message, message_to_csv, message_to_yaml, set_message_fields

ROS2 = [sys.executable, "-m", "ros2_lite.cli"]

LAUNCH = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument("seconds", default_value="60", description="How long to sleep"),
        DeclareLaunchArgument("fail", default_value="false", choices=["true", "false"]),
        Node(package="cli_pkg", executable="sleeper", output="screen", arguments=[LaunchConfiguration("seconds")]),
        ExecuteProcess(cmd=["sh", "-c", "sleep 0.2; exit 4"], name="vital", on_exit=Shutdown(),
                       condition=IfCondition(LaunchConfiguration("fail"))),
    ])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a launch file and an executable that sleeps; its prefix."""
    prefix = tmp_path / "install"
    for folder in ("share/ament_index/resource_index/packages", "share/cli_pkg/launch", "lib/cli_pkg"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages/cli_pkg").touch()
    (prefix / "share/cli_pkg/package.xml").write_text("<package><name>cli_pkg</name></package>")
    (prefix / "share/cli_pkg/launch/sleep.launch.py").write_text(LAUNCH)
    sleeper = prefix / "lib/cli_pkg/sleeper"
    sleeper.write_text("#!/bin/sh\necho sleeping $1\nexec sleep $1\n")
    sleeper.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    return prefix


def run(*arguments: str) -> SimpleNamespace:
    """Run `ros2` as a process to its end: code, out, err."""
    done = subprocess.run([*ROS2, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def wait_for(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_command_and_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    for command in COMMANDS:
        verbs = getattr(importlib.import_module(f"ros2_lite.cli.{command}"), "VERBS", {})
        for words in ([command], *([command, verb] for verb in verbs)):
            with pytest.raises(SystemExit) as done:
                main([*words, "--help"])
            assert done.value.code == 0
            assert f"usage: ros2 {' '.join(words)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("frobnicate", "invalid choice: 'frobnicate'"),
        ("topic frobnicate", "invalid choice: 'frobnicate'"),
        ("launch absent_pkg x.launch.py", "Package 'absent_pkg' not found: \"package 'absent_pkg' not found, "),
        ("launch cli_pkg slep.launch.py", "its launch files are: sleep.launch.py"),
        ("launch cli_pkg", "package 'cli_pkg' has: sleep.launch.py"),
        ("launch ./no/such.launch.py", "launch file './no/such.launch.py' does not exist"),
        ("launch cli_pkg sleep.launch.py seconds=3", "malformed launch argument 'seconds=3'"),
        ("run cli_pkg slepper", "No executable found; executable 'slepper' not found in package 'cli_pkg'; valid "),
        ("run absent_pkg x", "Package 'absent_pkg' not found"),
        ("pkg prefix absent_pkg", "Package not found"),
        ("interface package absent_pkg", "Unknown package 'absent_pkg'"),
        ("interface show std_msgs/msg/Strin", "std_msgs/msg has:"),
        ("interface show String", "Expected three parts"),
        ("topic pub /x std_msgs/msg/Strin", "types of std_msgs.msg are:"),
        ("topic pub /x no_msgs/msg/String", "packages are:"),
        ("topic pub /x std_msgs/msg/String {dota:1}", "'String' object has no attribute 'dota:1'; fields of std_msgs/"),
        ("topic pub /x std_msgs/msg/String [1]", "needs to be a dictionary"),
        ("topic pub -r 0 /x std_msgs/msg/String", "0 is not above zero"),
        ("service call /x std_srvs/srv/SetBol", "types of std_srvs.srv are:"),
    ],
)
def test_bad_input_is_one_line_that_names_the_valid_choices(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, expected: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a person reads it
    try:
        code = main(line.split())
    except SystemExit as done:
        code = int(done.code or 0)
    captured = capsys.readouterr()
    assert code != 0
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_launch_file_shows_its_arguments_and_its_tree(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "cli_pkg", "sleep.launch.py", "--show-args"]) == 0
    assert capsys.readouterr().out == (
        "Arguments (pass arguments as '<name>:=<value>'):\n"
        "\n    'seconds':\n        How long to sleep\n        (default: '60')\n"
        "\n    'fail':\n        One of: ['true', 'false']\n        (default: 'false')\n"
    )
    assert main(["launch", "--print", str(package / "share/cli_pkg/launch/sleep.launch.py")]) == 0
    assert "Node(package='cli_pkg', executable='sleeper'" in capsys.readouterr().out


def test_a_launch_ends_with_its_processes_and_passes_arguments(package: Path) -> None:
    done = run("launch", "cli_pkg", "sleep.launch.py", "seconds:=0.1", "secnds:=1")
    assert done.code == 0
    assert "[sleeper-1] sleeping 0.1\n" in done.out
    assert "declares no argument 'secnds'; its arguments are: fail, seconds" in done.out


def test_a_launch_fails_when_its_required_process_fails(package: Path) -> None:
    done = run("launch", "cli_pkg", "sleep.launch.py", "fail:=true")
    assert done.code == 1
    assert "[ERROR] [vital-2]: process has died" in done.out
    assert "required process [vital-2] exited with code 4" in done.out


def test_a_launch_file_with_an_error_is_one_line(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.launch.py"
    path.write_text("import no_such_module\n")
    done = run("launch", str(path))
    assert done.code == 1
    assert done.err == (
        f"launch file '{path}' cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_a_launch_and_leaves_nothing_behind(package: Path, tmp_path: Path, number: int) -> None:
    log = tmp_path / "out.txt"
    with log.open("w") as out:
        process = subprocess.Popen([*ROS2, "launch", "cli_pkg", "sleep.launch.py"], stdout=out, stderr=out)
        wait_for(lambda: "sleeping 60" in log.read_text())
        pid = int(log.read_text().split("process started with pid [")[1].split("]")[0])
        process.send_signal(number)
        assert process.wait(10) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "sending signal 'SIGINT' to process[sleeper-1]" in log.read_text()


def test_run_becomes_the_executable(package: Path) -> None:
    process = subprocess.Popen([*ROS2, "run", "cli_pkg", "sleeper", "30"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "sleeping 30\n"
    process.terminate()
    assert process.wait(5) == -signal.SIGTERM
    process.stdout.close()


def test_packages_and_their_executables_are_listed(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pkg", "list"]) == 0
    assert "cli_pkg" in capsys.readouterr().out.splitlines()
    assert main(["pkg", "executables", "cli_pkg"]) == 0
    assert capsys.readouterr().out == "cli_pkg sleeper\n"
    assert main(["pkg", "prefix", "--share", "cli_pkg"]) == 0
    assert capsys.readouterr().out == f"{package}/share/cli_pkg\n"


def test_interfaces_are_shown_with_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interface", "show", "geometry_msgs/msg/TwistStamped", "--no-comments"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["std_msgs/Header", "header"]
    assert lines[1].split() == ["builtin_interfaces/Time", "stamp"]
    assert lines[1].startswith("\t")
    assert any(line.startswith("\t\tfloat64 x") for line in lines)
    assert main(["interface", "list", "-s"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == "Services:"
    assert "    std_srvs/srv/Trigger" in listed


def test_yaml_fills_a_message_and_shows_it_again() -> None:
    message = get_message("sensor_msgs/JointState")()
    values = {"header": {"frame_id": "base"}, "name": ["a", "b"], "position": [1, "2e-3"], "velocity": []}
    assert set_message_fields(message, values) == []
    assert list(message.position) == [1.0, 0.002]
    shown = yaml.safe_load(message_to_yaml(message))
    assert shown["name"] == ["a", "b"]
    assert shown["header"] == {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": "base"}

    trajectory = get_message("trajectory_msgs/msg/JointTrajectory")()
    points = [{"positions": [0.1], "time_from_start": {"sec": 1}}, {}]
    (set_stamp,) = set_message_fields(trajectory, {"header": "auto", "points": points})
    assert len(trajectory.points) == 2
    assert trajectory.points[0].time_from_start.sec == 1
    set_stamp(get_message("builtin_interfaces/msg/Time")(sec=5))
    assert trajectory.header.stamp.sec == 5

    assert message_to_csv(get_message("std_msgs/msg/Byte")(data=b"2")) == "b'2'"
    image = get_message("sensor_msgs/msg/Image")(data=bytes(1000))
    assert "data: '<sequence type: uint8, length: 1000>'" in message_to_yaml(image, no_arr=True)
    assert yaml.safe_load(message_to_yaml(image, truncate=2))["data"] == [0, 0, "..."]
    numbers = get_message("std_msgs/msg/Float64MultiArray")(data=[1.0, 2.5])
    # As ROS 2 prints it: the flow style is that of lists.
    expected = "layout:\n  dim: []\n  data_offset: 0\ndata: [1.0, 2.5]\n"
    assert message_to_yaml(numbers, flow_style=True) == expected


@pytest.mark.parametrize(
    ("type_name", "values", "reason"),
    [
        ("std_msgs/msg/Int8", {"data": 200}, "200"),
        ("std_msgs/msg/Int8", {"data": 1.5}, "'data' is a int8 and cannot be 1.5"),
        ("std_msgs/msg/Bool", {"data": "yes please"}, "'data' is a boolean and cannot be 'yes please'"),
        ("std_msgs/msg/String", {"data": {"a": 1}}, "'data' is a string"),
        ("geometry_msgs/msg/Twist", {"linear": {"w": 1}}, "'Vector3' object has no attribute 'w'"),
        ("geometry_msgs/msg/Twist", {"linear": 3}, "'linear' is a geometry_msgs/msg/Vector3 and needs a dictionary"),
        ("std_msgs/msg/Float64MultiArray", {"data": 3}, "'data' is a sequence<double> and needs a list"),
    ],
)
def test_values_that_do_not_fit_are_named(type_name: str, values: dict[str, object], reason: str) -> None:
    with pytest.raises(CliError, match="Failed to populate field") as error:
        set_message_fields(get_message(type_name)(), values)
    assert reason in str(error.value)


def test_the_command_steps_aside_for_the_next_one_where_a_real_ros_2_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin/ros2"
    other.write_text('#!/bin/sh\necho "the real one: $@"\n')
    other.chmod(0o755)
    environment = {**os.environ, "ROS2_LITE": "never", "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*ROS2, "topic", "list"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "the real one: topic list\n"
