"""The recorder: episodes begin and end by its services, or one after the other by themselves.

ros2 launch robovlm_ros record.launch.py contract:=tabletop directory:=episodes operator:=ada
ros2 service call /recorder_node/start std_srvs/srv/Trigger

ros2 launch robovlm_ros record.launch.py episodes:=50 episode_seconds:=20 reset_seconds:=10
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
                "episodes", default_value="0", description="Begin so many episodes by itself; 0: none"
            ),
            DeclareLaunchArgument(
                "episode_seconds", default_value="0.0", description="Length of an episode [s]; 0: until ~/stop"
            ),
            DeclareLaunchArgument(
                "reset_seconds", default_value="5.0", description="Time between episodes that begin by themselves [s]"
            ),
            DeclareLaunchArgument(
                "compress", default_value="false", choices=["true", "false"], description="Compress with zstd"
            ),
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
                        "episodes": ParameterValue(LaunchConfiguration("episodes"), value_type=int),
                        "episode_seconds": ParameterValue(LaunchConfiguration("episode_seconds"), value_type=float),
                        "reset_seconds": ParameterValue(LaunchConfiguration("reset_seconds"), value_type=float),
                        "compress": ParameterValue(LaunchConfiguration("compress"), value_type=bool),
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
