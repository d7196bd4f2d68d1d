"""The choice between a real ROS 2 and the embedded one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
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

    assert set(registry.packages()) == select.INTERFACE_PACKAGES
