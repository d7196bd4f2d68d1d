"""The recorder: episodes begin and end by its services.

ros2 launch robovlm_ros record.launch.py contract:=tabletop directory:=episodes operator:=ada
ros2 service call /recorder_node/start std_srvs/srv/Trigger
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """Arguments with their defaults, then the node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "contract", default_value="tabletop", description="Contract of the robot: a YAML file or a shipped name"
            ),
            DeclareLaunchArgument(
                "directory", default_value="episodes", description="Folder that receives the episodes"
            ),
            DeclareLaunchArgument("operator", default_value="", description="Who demonstrates"),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=["true", "false"], description="Time comes from /clock"
            ),
            Node(
                package="robovlm_ros",
                executable="recorder_node",
                name="recorder_node",
                output="screen",
                parameters=[
                    {
                        "contract": _text("contract"),
                        "directory": _text("directory"),
                        "operator": _text("operator"),
                        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
                    }
                ],
                on_exit=Shutdown(reason="the recorder has ended"),
            ),
        ]
    )


def _text(name: str) -> ParameterValue:
    """An argument as text, even where it looks like a number."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)
