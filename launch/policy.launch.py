"""A robot that obeys instructions: its simulator, if its contract names one, the policy and the recorder.

ros2 launch robovlm_ros policy.launch.py contract:=tabletop instruction:='reach the red block'
"""

from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from robovlm_ros.checkpoints import ATTENTIONS, DTYPES, PRECISIONS, find_checkpoint, find_contract

BOOLEANS = ["true", "false"]


def generate_launch_description() -> LaunchDescription:
    """Arguments with their defaults, then what they start."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "contract", default_value="tabletop", description="Contract of the robot: a YAML file or a shipped name"
            ),
            DeclareLaunchArgument(
                "checkpoint", default_value="tabletop", description="Policy checkpoint: a folder or a shipped name"
            ),
            DeclareLaunchArgument(
                "instruction",
                default_value="",
                description="What to do at first; empty: wait for the instruction topic",
            ),
            DeclareLaunchArgument(
                "device", default_value="auto", choices=["auto", "cpu", "cuda"], description="Where inference runs"
            ),
            DeclareLaunchArgument(
                "dtype", default_value="auto", choices=list(DTYPES), description="Type of the VLM's weights"
            ),
            DeclareLaunchArgument(
                "attention",
                default_value="auto",
                choices=list(ATTENTIONS),
                description="How the VLM's attention is computed",
            ),
            DeclareLaunchArgument(
                "fast", default_value="auto", description="What is computed the fast way: auto, off, or names of parts"
            ),
            DeclareLaunchArgument(
                "precision", default_value="auto", choices=list(PRECISIONS), description="How the text tower multiplies"
            ),
            DeclareLaunchArgument(
                "simulator",
                default_value="auto",
                choices=["auto", "mujoco", "gazebo", "none"],
                description="What plays the robot; auto: what the contract names",
            ),
            DeclareLaunchArgument(
                "lockstep", default_value="false", choices=BOOLEANS, description="The simulator waits for the policy"
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=BOOLEANS,
                description="Configure and activate the policy at once; else `ros2 lifecycle set` does",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the simulator's first scene"),
            DeclareLaunchArgument(
                "pads", default_value="0", description="Coloured pads on the simulator's table, 0 to 2"
            ),
            DeclareLaunchArgument(
                "task", default_value="reach", description="What the demo asks for: reach, push, lift, put, all, ..."
            ),
            DeclareLaunchArgument(
                "record", default_value="true", choices=BOOLEANS, description="Have the recorder ready (~/start begins)"
            ),
            DeclareLaunchArgument(
                "directory", default_value="episodes", description="Folder that receives recorded episodes"
            ),
            DeclareLaunchArgument(
                "demo",
                default_value="false",
                choices=BOOLEANS,
                description="Give one instruction after another and film what happens",
            ),
            DeclareLaunchArgument("film", default_value="demo/tabletop.mp4", description="Film that the demo writes"),
            DeclareLaunchArgument(
                "scenes", default_value="0", description="Scenes of three instructions that the demo shows; 0: no end"
            ),
            OpaqueFunction(function=_robot),
            Node(
                package="robovlm_ros",
                executable="policy_node",
                name="policy_node",
                output="screen",
                parameters=[
                    {
                        "contract": _text("contract"),
                        "checkpoint": _text("checkpoint"),
                        "instruction": _text("instruction"),
                        "device": _text("device"),
                        "dtype": _text("dtype"),
                        "attention": _text("attention"),
                        "fast": _text("fast"),
                        "precision": _text("precision"),
                        "autostart": _flag("autostart"),
                        "lockstep": _flag("lockstep"),
                        "use_sim_time": _own_time(),
                    }
                ],
                on_exit=Shutdown(reason="the policy has ended"),
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
                        "use_sim_time": _own_time(),
                    }
                ],
                condition=IfCondition(LaunchConfiguration("record")),
                on_exit=Shutdown(reason="the recorder has ended"),
            ),
            Node(
                package="robovlm_ros",
                executable="demo",
                name="demo",
                output="screen",
                arguments=[
                    *("--contract", LaunchConfiguration("contract")),
                    *("--film", LaunchConfiguration("film")),
                    *("--scenes", LaunchConfiguration("scenes")),
                    *("--seed", LaunchConfiguration("seed")),
                    *("--task", LaunchConfiguration("task")),
                    *("--lockstep", LaunchConfiguration("lockstep")),
                ],
                condition=IfCondition(LaunchConfiguration("demo")),
                on_exit=Shutdown(reason="the demo has ended"),
            ),
        ]
    )


def _text(name: str) -> ParameterValue:
    """A launch argument as a string parameter, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def _flag(name: str) -> ParameterValue:
    """A launch argument as a boolean parameter."""
    return ParameterValue(LaunchConfiguration(name), value_type=bool)


def _own_time() -> ParameterValue:
    """Whether the simulator makes the time."""
    lockstep, simulator = LaunchConfiguration("lockstep"), LaunchConfiguration("simulator")
    return ParameterValue(
        PythonExpression(["'", lockstep, "' == 'true' or '", simulator, "' == 'gazebo'"]), value_type=bool
    )


def _robot(context: LaunchContext) -> list[Any]:
    """The simulator that the contract names; a launch that cannot work ends here, before anything is started."""
    given = LaunchConfiguration("contract").perform(context)
    checkpoint = find_checkpoint(LaunchConfiguration("checkpoint").perform(context))
    chosen = LaunchConfiguration("simulator").perform(context)
    named = find_contract(checkpoint, given).simulator
    simulator = named if chosen == "auto" else chosen
    if simulator == "none":
        return []
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(Path(__file__).with_name("sim.launch.py"))),
            launch_arguments=[
                ("simulator", simulator),
                *((name, LaunchConfiguration(name)) for name in ("contract", "lockstep", "seed", "pads")),
            ],
        )
    ]
