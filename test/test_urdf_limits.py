"""Joint limits of a contract that come from the robot's URDF."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.safety import SafetyFilter
from robovlm_ros.sim.model import URDF
from robovlm_ros.urdf import Urdf
from robovlm_ros.urdf_limits import tightened


def contract(folder: Path, *dims: dict[str, object], type: str = "sensor_msgs/msg/JointState") -> Contract:
    (folder / "arm.urdf").write_text(URDF.read_text())
    values = {
        "name": "arm",
        "urdf": "arm.urdf",
        "rate_hz": 10.0,
        "command_rate_hz": 50.0,
        "cameras": {"front": {"topic": "/image", "width": 8, "height": 8}},
        "commands": {"arm": {"topic": "/arm", "type": type, "dims": list(dims)}},
    }
    (folder / "arm.yaml").write_text(yaml.safe_dump(values))
    return Contract.load(folder / "arm.yaml")


def test_where_the_contract_is_silent_the_urdf_speaks_and_the_filter_obeys(tmp_path: Path) -> None:
    loaded = contract(
        tmp_path,
        {"name": "joint_2", "unit": "rad"},
        {"name": "joint_1", "unit": "rad", "limits": [-1.0, 1.0], "max_velocity": 0.5},
        {"name": "gripper", "unit": "m", "kind": "binary"},
    )
    second, first, gripper = loaded.action_dims
    assert (second.limits, second.max_velocity) == ((-1.6, 1.9), 4.0)
    assert (first.limits, first.max_velocity) == ((-1.0, 1.0), 0.5)
    assert gripper.limits == (0.0, 0.04)
    assert Contract.from_dict(loaded.to_dict()) == loaded, "a checkpoint's contract needs no URDF"
    gate = SafetyFilter(loaded, period_ns=20_000_000)
    sent = gate.check(np.array([9.0, 0.0, 1.0]), 0, measured=np.array([1.85, 0.0, np.nan])).values
    assert sent is not None
    assert sent[0] == pytest.approx(1.9)


def test_a_velocity_of_a_joint_is_limited_by_its_speed(tmp_path: Path) -> None:
    dim = {"name": "joint_4", "unit": "rad/s"}
    (loaded,) = contract(tmp_path, dim, type="std_msgs/msg/Float64MultiArray").action_dims
    assert (loaded.limits, loaded.max_velocity) == ((-6.0, 6.0), None)


@pytest.mark.parametrize(
    ("dim", "reason"),
    [
        ({"name": "joint_2", "limits": [-2.0, 1.0]}, r"action 'joint_2': limits \[-2.0, 1.0\] exceed.*\[-1.6, 1.9\]"),
        ({"name": "joint_2", "max_velocity": 5.0}, r"max_velocity 5 exceeds that of the URDF, 4"),
        ({"name": "joint2"}, r"'joint2' has no limits, and is no joint of the URDF \(joints: joint_1, .*gripper\)"),
    ],
)
def test_a_contract_that_allows_more_than_the_urdf_is_refused(
    tmp_path: Path, dim: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        contract(tmp_path, {"unit": "rad", **dim})


TWO = """<robot name="two"><link name="0"/><link name="1"/><link name="2"/>
<joint name="b" type="continuous"><parent link="0"/><child link="1"/></joint>
<joint name="c" type="continuous"><parent link="1"/><child link="2"/></joint></robot>"""


def test_a_robots_own_urdf_binds_beyond_its_contract(tmp_path: Path) -> None:
    own = contract(
        tmp_path,
        {"name": "joint_1", "unit": "rad", "limits": [-1.0, 2.5], "max_velocity": 0.5},
        {"name": "joint_2", "unit": "rad"},
        {"name": "wheel", "unit": "rad", "limits": [-9.0, 9.0]},
    )
    text = URDF.read_text().replace(
        'lower="-2.9" upper="2.9" effort="120" velocity="4.0"', 'lower="0" upper="2" velocity="9"'
    )
    kept, changes = tightened(own, Urdf(text), "URDF")
    assert changes == ("joint_1 [0, 2] rad",)
    assert kept.action_dims == (
        dataclasses.replace(own.action_dims[0], limits=(0.0, 2.0)),
        *own.action_dims[1:],
    )
    assert tightened(kept, Urdf(text), "URDF") == (kept, ())
    with pytest.raises(UserError, match=r"/d: action 'joint_1': the contract's \[-1.0, 2.5\] is outside of \[-3, -2\]"):
        tightened(own, Urdf(text.replace('lower="0" upper="2"', 'lower="-3" upper="-2"')), "/d")
    with pytest.raises(
        UserError, match=r"none of the joints that 'arm' commands \(joint_1, joint_2, wheel; it has: b, c\)"
    ):
        tightened(own, Urdf(TWO), "/d")


def test_a_urdf_that_is_not_there_is_named(tmp_path: Path) -> None:
    contract(tmp_path, {"name": "joint_2", "unit": "rad"})
    (tmp_path / "arm.urdf").unlink()
    with pytest.raises(UserError, match=r"arm\.urdf cannot be read"):
        Contract.load(tmp_path / "arm.yaml")
