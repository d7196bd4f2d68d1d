"""What a URDF says of joints, and what it must not get away with."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from robovlm_ros.errors import UserError
from robovlm_ros.sim.model import URDF
from robovlm_ros.urdf import Urdf, rotation_of

ARM = Urdf.load(URDF)
LINKS = '<link name="a"/><link name="b"/>'


def joint(inside: str, kind: str = "revolute") -> str:
    ends = '<parent link="a"/><child link="b"/>'
    return f'<robot name="r">{LINKS}<joint name="j" type="{kind}">{ends}{inside}</joint></robot>'


def test_the_way_from_base_to_tool_holds_the_arms_joints_and_their_limits() -> None:
    chain = ARM.chain("base_link", "tool")
    assert [one.name for one in chain if one.moves] == [f"joint_{i}" for i in range(1, 7)]
    assert (chain[1].lower, chain[1].upper, chain[1].velocity, chain[1].effort) == (-1.6, 1.9, 4.0, 120.0)
    assert [one.name for one in ARM.followers("gripper")] == ["gripper_mimic"]


def test_a_continuous_joint_has_no_end_and_an_unknown_speed_is_no_limit() -> None:
    found = Urdf(joint('<limit lower="-1" upper="1" effort="0" velocity="0"/>', "continuous")).joints["j"]
    assert (found.lower, found.upper, found.velocity) == (-math.inf, math.inf, math.inf)


def test_angles_about_fixed_axes_become_the_rotation_that_mujoco_makes_of_them() -> None:
    for rpy in np.random.default_rng(0).uniform(-3, 3, (20, 3)):
        expected = np.empty(4)
        mujoco.mju_euler2Quat(expected, rpy, "XYZ")
        x, y, z, w = rotation_of(tuple(rpy))
        assert abs(float(expected @ np.array([w, x, y, z]))) > 1 - 1e-12  # q and -q are one rotation


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<robot", "no XML"),
        ("<sdf/>", "not <robot>"),
        ('<robot xmlns:x="http://www.ros.org/wiki/xacro"><x:property/></robot>', "xacro FILE"),
        (joint(""), "joint 'j' has no <limit>"),
        (joint('<limit lower="low" upper="1" velocity="1"/>'), "lower is 'low'"),
        (joint('<origin xyz="0 0"/><limit lower="0" upper="1" velocity="1"/>'), "not three numbers"),
        (f'<robot name="r">{LINKS}</robot>', "no tree"),
        ('<robot name="r"><link name="a"/><joint name="j" type="fixed"><parent link="a"/></joint></robot>', "child"),
    ],
)
def test_a_file_that_describes_no_arm_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Urdf(text)


def test_a_link_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"no link 'hand'.*base_link"):
        ARM.chain("base_link", "hand")
    with pytest.raises(UserError, match="no way from link 'tool' to link 'base_link'"):
        ARM.chain("tool", "base_link")
