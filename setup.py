"""ament_python package: `colcon build` in a ROS 2 workspace, or `pip install -e .` without ROS 2."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "robovlm_ros"


def share(folder: str) -> list[tuple[str, list[str]]]:
    """Data files of one folder and its subfolders, laid out alike under share/robovlm_ros."""
    found: dict[str, list[str]] = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        if "__pycache__" not in path.parts:
            found.setdefault(f"share/{NAME}/{path.parent}", []).append(str(path))
    return list(found.items())


setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["sim/assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("launch"),
        *share("config"),
        *share("checkpoints"),
    ],
    install_requires=["setuptools"],
    extras_require={  # what no ROS distribution brings; requirements.txt has a set of versions that work together
        "policy": ["torch>=2.6", "transformers>=5.20", "accelerate", "peft"],
        "smolvlm": ["num2words"],  # what SmolVLM's processor insists on, though it only counts the frames of videos
        "curves": ["matplotlib", "tensorboard"],  # finetune's picture of the losses, and its event files if asked for
        "bags": ["mcap", "rosbags", "pillow"],
        "lerobot": ["av", "pyarrow", "mcap", "rosbags", "pillow"],
        "test": ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis"],
        "sim": ["mujoco>=3.2", "mink", "daqp", "av", "pillow"],
    },
    zip_safe=True,
    maintainer="robovlm_ros maintainers",
    maintainer_email="maintainers@robovlm-ros.invalid",
    description="Teach a robot with ROS 2: demonstrations, an action-token VLM, control-rate execution.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "policy_node = robovlm_ros.nodes.policy_node:main",
            "recorder_node = robovlm_ros.nodes.recorder_node:main",
            "teleop_node = robovlm_ros.nodes.teleop_node:main",
            "sim_node = robovlm_ros.nodes.sim_node:main",
            "gazebo_node = robovlm_ros.nodes.gazebo_node:main",
            "replay_node = robovlm_ros.nodes.replay_node:main",
            "servo_node = robovlm_ros.nodes.servo_node:main",
            "view_node = robovlm_ros.nodes.view_node:main",
            "collect = robovlm_ros.cli.collect:main",
            "evaluate = robovlm_ros.cli.evaluate:main",
            "finetune = robovlm_ros.cli.finetune:main",
            "pretrain = robovlm_ros.cli.pretrain:main",
            "demo = robovlm_ros.cli.demo:main",
            "benchmark = robovlm_ros.cli.benchmark:main",
            "inspect = robovlm_ros.cli.inspect:main",
            "convert = robovlm_ros.cli.convert:main",
        ],
    },
)
