"""The simulated robot that a contract describes.

ros2 launch robovlm_ros sim.launch.py contract:=tabletop seed:=3
"""

from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

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
                choices=["mujoco", "none"],
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
