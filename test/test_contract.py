"""The contract: what it says, and what is refused before anything acts on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.errors import UserError

TABLETOP = share_directory() / "config" / "robots" / "tabletop.yaml"


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """The tabletop's contract as plain values, with one of them changed."""
    values: dict[str, Any] = yaml.safe_load(TABLETOP.read_text())
    inner: Any = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return values


def test_a_contract_survives_its_way_through_a_bag_or_a_checkpoint() -> None:
    contract = Contract.load("tabletop")
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_a_path_is_never_mistaken_for_a_shipped_name(tmp_path: Path) -> None:
    own = tmp_path / "tabletop"
    with pytest.raises(UserError, match="no contract"):
        Contract.load(own)
    own.write_text(TABLETOP.read_text().replace("name: tabletop", "name: mine"))
    assert Contract.load(own).name == "mine"


DIM = ("commands", "arm", "dims", 0)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a width in words": (changed("cameras", "static", "width", to="wide"), "'width' must be a whole number"),
    "a width of nothing": (changed("cameras", "static", "width", to=0), "width must be above 0"),
    "an empty camera": (changed("cameras", "static", to=None), "cameras must be a mapping"),
    "an age below zero": (changed("state", "ee", "max_age_s", to=-1), "max_age_s must be above 0"),
    "one limit": (changed(*DIM, "limits", to=[1]), "'limits' must be a list of 2"),
    "limits the wrong way": (changed(*DIM, "limits", to=[1, 0]), "low < high"),
    "a speed of nothing": (changed(*DIM, "max_velocity", to=0.0), "max_velocity must be above 0"),
    "an unknown reference": (changed(*DIM, "reference", to="ee.w"), "ee.x, ee.y, ee.z"),
    "half an orientation": (
        changed("commands", "arm", "orientation", to=[1, 0, 0]),
        "'orientation' must be a list of 4",
    ),
    "degrees": (changed("state", "joints", "unit", to="deg"), "is in radians, 'rad' (REP 103)"),
    "millimetres": (
        changed(*DIM, "unit", to="mm"),
        "action 'x': unit 'mm': geometry_msgs/msg/PoseStamped is in m",
    ),
    "an angle of a place": (changed(*DIM, "unit", to="rad"), "'x' of geometry_msgs/msg/PoseStamped is in m"),
    "a frame of joints": (changed("state", "joints", "frame", to="base_link"), "frame is for geometry_msgs/msg/Pose"),
    "two frames": (changed("state", "ee", "frame", to="map"), "relative to state 'ee' in frame 'map'"),
    "a velocity in a trajectory": (
        changed(
            "commands",
            "gripper",
            to={
                "topic": "/path",
                "type": "trajectory_msgs/msg/JointTrajectory",
                "dims": [{"name": "a", "unit": "rad/s", "limits": [-1, 1]}],
            },
        ),
        "action 'a' is a velocity [rad/s]; trajectory_msgs/msg/JointTrajectory takes positions",
    ),
    "positions and velocities at once": (
        changed(
            "commands",
            "gripper",
            "dims",
            to=[{"name": "a", "unit": "rad/s", "limits": [-1, 1]}, {"name": "b", "unit": "rad", "limits": [-1, 1]}],
        ),
        "command 'gripper' mixes positions and velocities",
    ),
    "a number as a topic": (changed("cameras", "static", "topic", to=5), "'topic' must be text"),
    "a blank in a topic": (changed("instruction_topic", to="/a b"), "'/a b' is no topic name"),
    "one topic twice": (changed("instruction_topic", to="/joint_states"), "'/joint_states' occurs twice"),
    "an instruction of another type": (changed("instruction_type", to="std_msgs/msg/Int32"), "std_msgs/msg/String"),
    "a rate of nothing": (changed("rate_hz", to=0), "rate_hz must lie between"),
    "a key that nobody knows": (changed("rate", to=10), "unknown key 'rate' (keys: name, rate_hz"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_contract_is_refused_in_one_line_that_names_the_thing(case: str) -> None:
    values, reason = WRONG[case]
    with pytest.raises(UserError) as refused:
        Contract.from_dict(values, "robot.yaml")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
