"""Inverse kinematics and the servo on top of it: there and back, at the limits, and where an arm is singular."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.errors import UserError
from robovlm_ros.sim.kinematics import HOME, ArmKinematics, chain_model
from robovlm_ros.sim.model import URDF
from robovlm_ros.sim.tool_servo import ToolServo
from robovlm_ros.urdf import Urdf

ARM = Urdf.load(URDF)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
STEP_S = 0.02
STRAIGHT = np.array([0.0, 0.0, -1.45, 0.0, 0.0, 0.0])  # the forearm nearly in line with the upper arm


@pytest.fixture
def arm() -> ArmKinematics:
    return ArmKinematics.of_urdf(ARM, "base_link", "tool")


def follow(servo: ToolServo, steps: int) -> NDArray[np.float64]:
    """(steps + 1, n) the joints' way."""
    return np.array([servo.joints, *(servo.step(STEP_S) for _ in range(steps))])


def test_the_arm_of_any_urdf_is_that_of_the_simulator(arm: ArmKinematics) -> None:
    own = ArmKinematics()
    for joints in np.random.default_rng(0).uniform(*own.limits.T, (20, 6)):
        np.testing.assert_allclose(np.concatenate(arm.pose(joints)), np.concatenate(own.pose(joints)), atol=1e-12)


def test_what_forward_kinematics_say_of_a_posture_leads_there(arm: ArmKinematics) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        position, turn = arm.pose(HOME + rng.uniform(-0.5, 0.5, 6))
        servo = ToolServo(arm, speed=1.0, turn_speed=3.0)
        servo.rest(HOME)
        servo.aim(position, turn)
        reached, reached_turn = arm.pose(follow(servo, 120)[-1])
        np.testing.assert_allclose(reached, position, atol=5e-4)
        assert abs(float(reached_turn @ turn)) > 1 - 1e-5
        assert servo.miss[0] < 5e-4


@pytest.mark.parametrize("start", [HOME, STRAIGHT])
def test_no_target_leads_out_of_the_joints_limits_or_over_their_speed(
    arm: ArmKinematics, start: NDArray[np.float64]
) -> None:
    rng = np.random.default_rng(2)
    servo = ToolServo(arm, speed=3.0, turn_speed=10.0)
    servo.rest(start)
    for _ in range(25):  # far out of reach, behind the base, inside it, above: whatever a broken sender may say
        servo.aim(rng.uniform(-1.5, 1.5, 3), rotation.unit(rng.normal(size=4)))
        way = follow(servo, 10)
        assert np.isfinite(way).all()
        assert (way >= arm.limits[:, 0]).all()
        assert (way <= arm.limits[:, 1]).all()
        assert (np.abs(np.diff(way, axis=0)) <= arm.speeds * STEP_S * (1 + 1e-6)).all()


@pytest.mark.parametrize("target", [(1.5, 0.0, 0.1), (0.91, 0.0, 0.11), (0.0, 0.0, 1.6), (1.2, 0.6, 0.1)])
def test_of_a_target_out_of_reach_the_tool_comes_near_and_comes_to_rest(
    arm: ArmKinematics, target: tuple[float, float, float]
) -> None:
    servo = ToolServo(arm, speed=1.0, leash=0.05)
    servo.rest(HOME)
    servo.aim(np.array(target))
    way = follow(servo, 150)
    assert np.abs(np.diff(way[-20:], axis=0)).max() < 1e-4
    reached, _ = arm.pose(way[-1])
    assert servo.miss[0] == pytest.approx(np.linalg.norm(np.array(target) - reached))
    start, _ = arm.pose(HOME)
    assert 0.01 < servo.miss[0] < np.linalg.norm(np.array(target) - start)
    servo.aim(start)
    turned = [float(np.linalg.norm(arm.position(joints) - start)) for joints in follow(servo, 5)]
    assert turned[-1] < turned[0] - 0.02, "the tool is led back at once, not from where it could not go"


def test_the_tool_keeps_its_speed_and_its_orientation_on_the_way(arm: ArmKinematics) -> None:
    servo = ToolServo(arm, speed=0.2)
    position, _ = arm.pose(HOME)
    servo.rest(HOME)
    servo.aim(position + np.array([0.05, 0.15, 0.05]))
    poses = [arm.pose(joints) for joints in follow(servo, 60)]
    places = np.array([place for place, _ in poses])
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.2 * STEP_S * 1.1
    assert min(abs(float(turn @ poses[0][1])) for _, turn in poses) > 0.9999


def test_a_chain_that_cannot_be_led_is_refused() -> None:
    with pytest.raises(UserError, match="no joint moves between"):
        chain_model(ARM, "link_6", "tool")
    with pytest.raises(UserError, match=r"'gripper_mimic'.*does not move by itself"):
        chain_model(ARM, "base_link", "finger_2")
