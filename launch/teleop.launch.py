"""A person commands the robot: its simulator, if its contract names one, teleoperation and the recorder.

ros2 launch robovlm_ros teleop.launch.py contract:=tabletop instruction:='reach the red block'
ros2 launch robovlm_ros teleop.launch.py contract:=my_robot.yaml input:=joy
"""

import os
import sys
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from robovlm_ros.contract import Contract

BOOLEANS = ["true", "false"]


def generate_launch_description() -> LaunchDescription:
    """Arguments with their defaults, then what they start."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "contract", default_value="tabletop", description="Contract of the robot: a YAML file or a shipped name"
            ),
            DeclareLaunchArgument(
                "input",
                default_value="keyboard",
                choices=["keyboard", "joy", "expert"],
                description="Keys of this terminal, a gamepad, or the scripted expert of the simulator",
            ),
            DeclareLaunchArgument(
                "instruction", default_value="", description="What is shown; empty: the instruction topic says so"
            ),
            DeclareLaunchArgument("speed", default_value="0.25", description="Share of full speed to begin with"),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the simulator's first scene"),
            DeclareLaunchArgument(
                "record", default_value="true", choices=BOOLEANS, description="Have the recorder ready (~/start begins)"
            ),
            DeclareLaunchArgument(
                "directory", default_value="episodes", description="Folder that receives recorded episodes"
            ),
            DeclareLaunchArgument("operator", default_value="", description="Who demonstrates"),
            DeclareLaunchArgument(
                "view",
                default_value="false",
                choices=BOOLEANS,
                description="Show the cameras on a web page, at port 8080",
            ),
            OpaqueFunction(function=_robot),
            Node(
                package="robovlm_ros",
                executable="view_node",
                name="view_node",
                output="screen",
                parameters=[{"contract": _text("contract")}],
                condition=IfCondition(LaunchConfiguration("view")),
            ),
            Node(
                package="robovlm_ros",
                executable="teleop_node",
                name="teleop_node",
                output="screen",
                parameters=[
                    {
                        "contract": _text("contract"),
                        "input": _text("input"),
                        "instruction": _text("instruction"),
                        "speed": ParameterValue(LaunchConfiguration("speed"), value_type=float),
                        "terminal": _terminal(),
                        "begin": "person",
                    }
                ],
                on_exit=Shutdown(reason="teleoperation has ended"),
            ),
            Node(
                package="robovlm_ros",
                executable="recorder_node",
                name="recorder_node",
                output="screen",
                parameters=[
                    {"contract": _text("contract"), "directory": _text("directory"), "operator": _text("operator")}
                ],
                condition=IfCondition(LaunchConfiguration("record")),
                on_exit=Shutdown(reason="the recorder has ended"),
            ),
        ]
    )


def _text(name: str) -> ParameterValue:
    """A launch argument as a string parameter, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def _terminal() -> str:
    """Device of the terminal that this launch was started in, whose keys its nodes cannot read otherwise."""
    return os.ttyname(sys.stdin.fileno()) if sys.stdin is not None and sys.stdin.isatty() else ""


def _robot(context: LaunchContext) -> list[Any]:
    """The simulator that the contract names, and the driver of the gamepad, if there is one."""
    found: list[Any] = []
    simulator = Contract.load(LaunchConfiguration("contract").perform(context)).simulator
    if simulator != "none":
        found.append(
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("sim.launch.py"))),
                launch_arguments=[
                    ("simulator", simulator),
                    *((name, LaunchConfiguration(name)) for name in ("contract", "seed")),
                ],
            )
        )
    if LaunchConfiguration("input").perform(context) == "joy":
        try:
            get_package_prefix("joy")
            found.append(Node(package="joy", executable="joy_node", name="joy_node", output="screen"))
        except PackageNotFoundError:
            found.append(LogInfo(msg="package 'joy' is not installed: the gamepad's driver must run elsewhere"))
    return found
