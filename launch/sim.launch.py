"""The simulated robot that a contract describes.

ros2 launch robovlm_ros sim.launch.py contract:=tabletop seed:=3
ros2 launch robovlm_ros sim.launch.py simulator:=gazebo gui:=true
"""

import os
import shlex
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

import robovlm_ros
from robovlm_ros.contract import share_directory
from robovlm_ros.errors import UserError

BOOLEANS = ["true", "false"]


def generate_launch_description() -> LaunchDescription:
    """Arguments with their defaults, then what they start."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "contract", default_value="tabletop", description="Contract of the robot: a YAML file or a shipped name"
            ),
            DeclareLaunchArgument(
                "simulator",
                default_value="mujoco",
                choices=["mujoco", "gazebo", "none"],
                description="What plays the robot; none: a real one is there",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the first scene; a reset adds 1"),
            DeclareLaunchArgument("pads", default_value="0", description="Coloured pads on the table, 0 to 2"),
            DeclareLaunchArgument(
                "lockstep",
                default_value="false",
                choices=BOOLEANS,
                description="Wait for a command after each observation; the others need use_sim_time",
            ),
            DeclareLaunchArgument(
                "publish_clock", default_value="false", choices=BOOLEANS, description="Publish /clock and stamp with it"
            ),
            DeclareLaunchArgument(
                "real_time_factor", default_value="1.0", description="Simulated seconds per second; needs publish_clock"
            ),
            DeclareLaunchArgument(
                "gazebo",
                default_value="auto",
                choices=["auto", "fortress", "harmonic"],
                description="Version of Gazebo; auto: fortress on ROS 2 Humble, else harmonic",
            ),
            DeclareLaunchArgument(
                "gui", default_value="false", choices=BOOLEANS, description="Show Gazebo's window; needs a display"
            ),
            OpaqueFunction(function=_gazebo),
            Node(
                package="robovlm_ros",
                executable="sim_node",
                name="sim_node",
                output="screen",
                parameters=[
                    {
                        "contract": _typed("contract", str),
                        "seed": _typed("seed", int),
                        "pads": _typed("pads", int),
                        "lockstep": _typed("lockstep", bool),
                        "publish_clock": _typed("publish_clock", bool),
                        "real_time_factor": _typed("real_time_factor", float),
                    }
                ],
                condition=IfCondition(PythonExpression(["'", LaunchConfiguration("simulator"), "' == 'mujoco'"])),
                on_exit=Shutdown(reason="the simulator has ended"),
            ),
        ]
    )


def _typed(name: str, kind: type[Any]) -> ParameterValue:
    """A launch argument as a parameter of this type, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def _gazebo(context: LaunchContext) -> list[Any]:
    """Gazebo with the tabletop, its bridge, the servo that leads the arm, and the node that makes scenes."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    if value("simulator") != "gazebo":
        return []
    version = value("gazebo")
    if version == "auto":
        version = "fortress" if os.environ.get("ROS_DISTRO") == "humble" else "harmonic"
    try:
        gz_sim = Path(get_package_share_directory("ros_gz_sim"))
        get_package_share_directory("ros_gz_bridge")
    except PackageNotFoundError as error:
        raise UserError(f"simulator:=gazebo needs ros_gz ({error}): apt install ros-$ROS_DISTRO-ros-gz") from error
    folder = share_directory() / "config" / "gazebo" / version
    headless = "" if value("gui") == "true" else "-s --headless-rendering "
    urdf = Path(robovlm_ros.__file__).parent / "sim" / "assets" / "tabletop_arm.urdf"
    timed = {"contract": _typed("contract", str), "use_sim_time": True}
    servo = {
        "robot_description": ParameterValue(urdf.read_text(encoding="utf-8"), value_type=str),
        "gripper_topic": "/gripper_controller/joint_trajectory",
        "publish_pose": True,
        "send_velocities": True,
    }
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(gz_sim / "launch" / "gz_sim.launch.py")),
            launch_arguments=[
                ("gz_args", f"-r {headless}{shlex.quote(str(folder / 'tabletop.sdf'))}"),
                ("on_exit_shutdown", "true"),
            ],
        ),
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            name="gazebo_bridge",
            output="screen",
            parameters=[{"config_file": str(folder / "bridge.yaml")}],
            on_exit=Shutdown(reason="the bridge to Gazebo has ended"),
        ),
        Node(
            package="robovlm_ros",
            executable="servo_node",
            name="servo_node",
            output="screen",
            parameters=[timed | servo],
            on_exit=Shutdown(reason="the servo has ended"),
        ),
        Node(
            package="robovlm_ros",
            executable="gazebo_node",
            name="sim_node",
            output="screen",
            parameters=[timed | {"seed": _typed("seed", int), "pads": _typed("pads", int), "gazebo": version}],
            on_exit=Shutdown(reason="the node that makes scenes has ended"),
        ),
    ]
