"""The choice between a real ROS 2 and the embedded one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    here = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *here]), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=20)


def make_ros(folder: Path, extension: str | None) -> Path:
    """A folder as a sourced ROS 2 has on PYTHONPATH."""
    (folder / "rclpy").mkdir(parents=True)
    (folder / "rclpy" / "__init__.py").write_text("WHO = 'real'\n")
    (folder / "sensor_msgs").mkdir()
    (folder / "sensor_msgs" / "__init__.py").write_text("WHO = 'real'\n")
    if extension:
        (folder / "rclpy" / f"_rclpy_pybind11{extension}").write_text("")
    return folder


def fitting() -> str:
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES[0]


def test_a_real_rclpy_is_used_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    ros = make_ros(tmp_path, fitting())
    result = run("import sensor_msgs, rclpy; print(rclpy.WHO, sensor_msgs.WHO)", ros)
    assert result.stdout == "real real\n", result.stderr
    missing = run("import rclpy, cv_bridge", ros)
    assert "No module named 'cv_bridge'" in missing.stderr


def test_without_a_real_rclpy_everything_is_embedded_even_beside_other_packages(tmp_path: Path) -> None:
    (tmp_path / "sensor_msgs").mkdir()
    (tmp_path / "sensor_msgs" / "__init__.py").write_text("WHO = 'ROS 1'\n")
    code = "import sensor_msgs.msg, rclpy; print(sensor_msgs.msg.Image().height, 'ros2_lite' in rclpy.__file__)"
    assert run(code, tmp_path).stdout == "0 True\n"


def test_the_environment_variable_overrides(tmp_path: Path) -> None:
    ros = make_ros(tmp_path, fitting())
    code = "import rclpy; print(getattr(rclpy, 'WHO', 'embedded'))"
    assert run(code, ros, ROS2_LITE="always").stdout == "embedded\n"
    assert run(code, ros, ROS2_LITE="never").stdout == "real\n"
    assert "No module named 'rclpy'" in run(code, ROS2_LITE="never").stderr
    assert "choose from auto, always, never" in run(code, ROS2_LITE="perhaps").stderr


def test_a_ros_of_another_python_is_a_clear_error(tmp_path: Path) -> None:
    ros = make_ros(tmp_path, ".cpython-38-x86_64-linux-gnu.so")
    line = run("import std_msgs.msg", ros).stderr.rstrip().splitlines()[-1]
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert line.startswith("ImportError: ")
    assert "Python 3.8" in line
    assert f"Python {here}" in line
    assert "ROS2_LITE=always" in line


@pytest.mark.parametrize("command", [["-m", "ros2_lite", "doctor"], ["-m", "ros2_lite"]])
def test_doctor_says_which_one_is_in_use_and_why(command: list[str], tmp_path: Path) -> None:
    import os

    def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], env={**os.environ, **environment}, capture_output=True, text=True, timeout=30
        )

    embedded = doctor()
    assert embedded.returncode == 0
    assert "in use: ros2_lite" in embedded.stdout
    real = doctor(PYTHONPATH=str(make_ros(tmp_path / "ok", fitting())))
    assert "in use: the real ROS 2" in real.stdout
    wrong = doctor(PYTHONPATH=str(make_ros(tmp_path / "bad", ".cpython-38-x86_64-linux-gnu.so")))
    assert wrong.returncode == 1
    assert "Python 3.8" in wrong.stdout


def test_importing_other_things_loads_nothing_of_ros2_lite_but_the_finder() -> None:
    code = "import sys, json, email; print(sorted(name for name in sys.modules if name.startswith('ros2_lite')))"
    assert run(code).stdout == "['ros2_lite', 'ros2_lite.select']\n"


def test_the_finder_knows_every_interface_package_that_there_is() -> None:
    from ros2_lite.messages import registry

    from ros2_lite import select

    assert {path.name for path in registry.INTERFACES.iterdir() if path.is_dir()} == select.INTERFACE_PACKAGES


def test_interface_packages_of_ones_own_come_from_folders(tmp_path: Path) -> None:
    package = tmp_path / "many" / "my_msgs"
    (package / "msg").mkdir(parents=True)
    (package / "srv").mkdir()
    (package / "msg" / "Grip.msg").write_text("geometry_msgs/Point where\nfloat32 force 2.5\nGrip2[] more\n")
    (package / "msg" / "Grip2.msg").write_text("uint8 OPEN=1\nuint8 state\n")
    (package / "srv" / "Squeeze.srv").write_text("Grip grip\n---\nbool done\n")
    (package / "action").mkdir()
    (package / "action" / "Move.action").write_text("Grip grip\n---\nbool done\n---\nfloat32 left 1\n")
    (package / "action" / "Half.action").write_text("bool a\n---\nbool b\n")
    (tmp_path / "many" / "std_msgs" / "msg").mkdir(parents=True)
    (tmp_path / "many" / "std_msgs" / "msg" / "String.msg").write_text("int8 nonsense\n")
    code = """
        from my_msgs.msg import Grip, Grip2
        from my_msgs.srv import Squeeze
        from std_msgs.msg import String
        from rclpy.serialization import deserialize_message, serialize_message
        import rclpy
        grip = Grip(force=1.5, more=[Grip2(state=Grip2.OPEN)])
        grip.where.x = 0.5
        print(deserialize_message(serialize_message(grip), Grip) == grip, Grip().force, Squeeze.Request().grip.force)
        print(String().data == "")
        from my_msgs.action import Move, Move_GetResult_Response
        goal = Move.Impl.SendGoalService.Request(goal=Move.Goal(grip=grip))
        print(deserialize_message(serialize_message(goal), type(goal)) == goal, Move_GetResult_Response().result.done)
        print(Move.Impl.FeedbackMessage())
        import my_msgs.action
        for name in ("Half", "Move_Goal_Request"):
            try:
                getattr(my_msgs.action, name)
            except (ImportError, AttributeError) as error:
                print(error)
    """
    code = textwrap.dedent(code)
    for folder in (tmp_path / "many", package):  # a folder of packages, or one package
        result = run(code, tmp_path / "many", ROS2_LITE_INTERFACES=str(folder))
        lines = result.stdout.splitlines()
        assert lines[:3] == ["True 2.5 2.5", "True", "True False"], result.stderr
        assert lines[3].endswith("feedback=my_msgs.action.Move_Feedback(left=1.0))")
        assert lines[4:] == [
            "my_msgs/action/Half: an action has two '---' lines between goal, result and feedback",
            "module 'my_msgs.action' has no attribute 'Move_Goal_Request'",
        ]
    assert "No module named 'my_msgs'" in run("import my_msgs.msg").stderr
    missing = run("import std_msgs", ROS2_LITE_INTERFACES=str(tmp_path / "nowhere"))
    assert missing.stderr == f"ros2_lite: ROS2_LITE_INTERFACES names '{tmp_path / 'nowhere'}', which is no folder\n"
