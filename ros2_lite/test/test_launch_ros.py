"""launch_ros: what a Node action starts, with which ROS arguments, and how packages are found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity, LaunchService
from launch.actions import DeclareLaunchArgument, GroupAction, SetLaunchConfiguration
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, SubstitutionFailure
from launch_ros.actions import (
    Node,
    PushRosNamespace,
    SetParameter,
    SetParametersFromFile,
    SetRemap,
    SetUseSimTime,
)
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import ExecutableInPackage, FindPackagePrefix, FindPackageShare

RECORD = """#!{python}
import json, os, sys
files = [open(sys.argv[i + 1]).read() for i, a in enumerate(sys.argv[:-1]) if a == "--params-file"]
with open({out!r}, "a") as out:
    out.write(json.dumps(dict(argv=sys.argv[1:], name=sys.argv[0], files=files, env=os.environ.get("EXTRA"))) + "\\n")
"""

Records = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package `demo_pkg` whose executable `record` writes down how it was started; its prefix."""
    prefix = tmp_path / "install"
    for folder in ("share/ament_index/resource_index/packages", "share/demo_pkg/config", "lib/demo_pkg"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages/demo_pkg").touch()
    (prefix / "share/demo_pkg/package.xml").write_text("<package><name>demo_pkg</name></package>")
    record = prefix / "lib/demo_pkg/record"
    record.write_text(RECORD.format(python=sys.executable, out=str(tmp_path / "record.jsonl")))
    record.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    return prefix


@pytest.fixture
def started(package: Path, tmp_path: Path) -> Records:
    """Runs entities to their end and returns how `record` was started, in the order of the node names."""

    def run(*entities: LaunchDescriptionEntity, code: int = 0) -> list[dict[str, Any]]:
        service = LaunchService(noninteractive=True)
        service.include_launch_description(LaunchDescription(entities))
        assert service.run() == code
        path = tmp_path / "record.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return sorted(records, key=lambda r: [a for a in r["argv"] if a.startswith("__node:=")])

    return run


def node(**kwargs: Any) -> Node:
    return Node(package="demo_pkg", executable="record", **kwargs)


def test_a_node_gets_its_arguments_names_and_remaps(started: Records) -> None:
    (record,) = started(
        SetLaunchConfiguration("who", "left"),
        node(
            name=[LaunchConfiguration("who"), "_arm"],
            namespace="robot",
            arguments=["--steps", "3"],
            ros_arguments=["--log-level", "debug"],
            remappings=[("image", LaunchConfiguration("who")), ("~/cmd", "/cmd")],
            additional_env={"EXTRA": "yes"},
        ),
    )
    assert record["argv"] == [
        *("--steps", "3", "--ros-args", "--log-level", "debug", "-r", "__node:=left_arm", "-r", "__ns:=/robot"),
        *("-r", "image:=left", "-r", "~/cmd:=/cmd"),
    ]
    assert record["env"] == "yes"


def test_parameters_keep_their_types_and_come_in_order(started: Records, package: Path) -> None:
    path = package / "share/demo_pkg/config/p.yaml"
    path.write_text("/**:\n  ros__parameters:\n    rate: 5\n")
    (record,) = started(
        DeclareLaunchArgument("gain", default_value="1.5"),
        DeclareLaunchArgument("label", default_value="007"),
        node(
            name="n",
            namespace="/ns",
            parameters=[
                PathJoinSubstitution([FindPackageShare("demo_pkg"), "config", "p.yaml"]),
                {
                    "text": "true",
                    "gain": LaunchConfiguration("gain"),
                    "label": ParameterValue(LaunchConfiguration("label"), value_type=str),
                    "whole": ParameterValue("3", value_type=float),
                    "limits": {"lower": [-1, 2.5], "names": ["a", "b"]},
                    "ids": ParameterValue([1, 2], value_type=list[int]),
                    "joined": ["prefix_", LaunchConfiguration("gain")],
                    "path": Path("/tmp/x"),
                    "on": True,
                },
            ],
        ),
    )
    first, second = record["files"]
    assert yaml.safe_load(first)["/**"]["ros__parameters"] == {"rate": 5}
    assert yaml.safe_load(second) == {
        "/ns/n": {
            "ros__parameters": {
                "text": "true",
                "gain": 1.5,
                "label": "007",
                "whole": 3.0,
                "limits.lower": [-1.0, 2.5],
                "limits.names": ["a", "b"],
                "ids": [1, 2],
                "joined": "prefix_1.5",
                "path": "/tmp/x",
                "on": True,
            }
        }
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, "a"], "parameter 'p': a list must not be empty"),
        ([], "parameter 'p': a list must not be empty"),
        (None, "parameter 'p': valid are bool"),
        (ParameterValue("x", value_type=int), "parameter 'p': 'x' is not of type"),
        (LaunchConfiguration("mapping"), "parameter 'p': valid are bool"),
    ],
)
def test_a_parameter_that_ros_has_no_type_for_is_named(
    started: Records, capfd: pytest.CaptureFixture[str], value: object, reason: str
) -> None:
    assert started(SetLaunchConfiguration("mapping", "{a: 1}"), node(parameters=[{"p": value}]), code=1) == []
    assert reason in capfd.readouterr().out


def test_a_parameter_file_may_hold_substitutions(started: Records, tmp_path: Path) -> None:
    path = tmp_path / "with.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    a: $(var speed)\n    b: $(var none 7)\n    c: $(find-pkg-share demo_pkg)/x\n"
    )
    (record,) = started(
        SetLaunchConfiguration("speed", "0.5"), node(parameters=[ParameterFile(str(path), allow_substs=True)])
    )
    parameters = yaml.safe_load(record["files"][0])["/**"]["ros__parameters"]
    assert (parameters["a"], parameters["b"]) == (0.5, 7)
    assert parameters["c"].endswith("/share/demo_pkg/x")


def test_namespaces_remaps_and_parameters_of_a_group_hold_for_its_nodes_only(started: Records, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text("/**:\n  ros__parameters: {a: 1}\n")
    outside, plain, inner, outer = started(
        GroupAction(
            [
                PushRosNamespace("robot"),
                SetRemap("image", "camera/image"),
                SetUseSimTime(True),
                SetParametersFromFile(str(path)),
                GroupAction(
                    [PushRosNamespace("left"), SetParameter("side", "on"), node(name="inner", namespace="arm")]
                ),
                node(name="outer"),
                node(name="fixed", namespace="/other"),
            ]
        ),
        node(name="z_outside"),
    )[::-1]
    assert outside["argv"] == ["--ros-args", "-r", "__node:=z_outside"]
    common = ["-r", "image:=camera/image"]
    use_sim_time = ["-p", "use_sim_time:=true", "--params-file", str(path)]
    assert plain["argv"][3:] == ["-r", "__ns:=/robot", *use_sim_time, *common]
    assert inner["argv"][3:] == ["-r", "__ns:=/robot/left/arm", *use_sim_time, "-p", "side:='on'", *common]
    assert outer["argv"][3:5] == ["-r", "__ns:=/other"]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda: node(name="2fast"), "'2fast' is not a valid node name"),
        (lambda: node(namespace="a//b"), "'/a//b' is not a valid namespace"),
        (
            lambda: Node(package="demo_pkg", executable="recorder"),
            "executable 'recorder' not found in package 'demo_pkg'; valid executables are: record",
        ),
        (lambda: Node(package="absent_pkg", executable="x"), "package 'absent_pkg' not found"),
        (lambda: PushRosNamespace("a b"), "is not a valid namespace"),
    ],
)
def test_a_wrong_name_ends_the_launch_with_a_reason(
    started: Records, capfd: pytest.CaptureFixture[str], action: Callable[[], Node], reason: str
) -> None:
    assert started(action(), code=1) == []
    assert reason in capfd.readouterr().out


def test_parameters_and_remappings_of_a_wrong_form_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="must be a list of dictionaries"):
        node(parameters={"a": 1})
    with pytest.raises(TypeError, match="must be pairs"):
        node(remappings=["a", "b:=c"])
    with pytest.raises(TypeError, match="must be a list of arguments"):
        node(arguments="--fast")


def test_a_console_script_of_an_installed_distribution_is_an_executable(
    started: Records, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "demo_pkg-1.0.dist-info").mkdir(parents=True)
    (site / "demo_pkg-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: demo_pkg\nVersion: 1.0\n")
    (site / "demo_pkg-1.0.dist-info/entry_points.txt").write_text("[console_scripts]\nscripted = demo_module:main\n")
    record = RECORD.format(python="", out=str(tmp_path / "record.jsonl")).split("\n", 1)[1]
    (site / "demo_module.py").write_text(
        "def main():\n" + "".join(f"    {line}\n" for line in record.splitlines()) + "    return 0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    prefixed = Node(
        package="demo_pkg",
        executable="scripted",
        name="s",
        arguments=["a b"],
        prefix="env EXTRA=prefixed",
        output="log",
    )
    (entry,) = started(prefixed)
    assert entry["name"] == "scripted"
    assert entry["argv"] == ["a b", "--ros-args", "-r", "__node:=s"]
    assert entry["env"] == "prefixed"
    assert prefixed.process_details is not None
    assert str(prefixed.process_details["name"]).startswith("scripted-")


def test_substitutions_find_packages_and_executables(package: Path) -> None:
    context = LaunchContext()
    assert FindPackagePrefix("demo_pkg").perform(context) == str(package)
    assert FindPackageShare("demo_pkg").perform(context) == str(package / "share/demo_pkg")
    assert (FindPackageShare("demo_pkg") / "config").perform(context) == str(package / "share/demo_pkg/config")
    assert ExecutableInPackage("record", "demo_pkg").perform(context) == str(package / "lib/demo_pkg/record")
    with pytest.raises(SubstitutionFailure, match="package 'nope' not found"):
        FindPackageShare("nope").perform(context)


def test_a_launch_with_nodes_loads_neither_rclpy_nor_dds(package: Path) -> None:
    import subprocess

    code = "import sys, launch, launch_ros.actions; print(sorted({'rclpy', 'cyclonedds', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
