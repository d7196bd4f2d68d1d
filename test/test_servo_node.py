"""The servo node over real topics: what it sends, what it refuses, and reaching with it in the simulator's physics."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.servo_node import ServoNode, pose_command
from robovlm_ros.sim.kinematics import HOME, ArmKinematics
from robovlm_ros.sim.model import ARM_JOINTS, URDF

from .robots import end_spinning

ARM = ArmKinematics()
POSE_HZ = 20.0
PARAMETERS = {
    "send_velocities": True,
    "publish_pose": True,
    "gripper_topic": "/gripper/trajectory",
    "pose_rate_hz": POSE_HZ,
}


class Arm(Node):  # type: ignore[misc, unused-ignore]
    """An arm that is at once where its trajectories send it, and tells it in an order of its own."""

    def __init__(self) -> None:
        super().__init__("arm")
        self.joints = dict(zip(ARM_JOINTS, HOME.tolist(), strict=True))
        self.arm: list[JointTrajectory] = []
        self.gripper: list[JointTrajectory] = []
        self.poses: list[PoseStamped] = []
        self.moves = self.tells = True
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", self._move, 50)
        self.create_subscription(JointTrajectory, "/gripper/trajectory", self.gripper.append, 50)
        self.create_subscription(PoseStamped, "/ee_pose", self.poses.append, 50)
        self.description = self.create_publisher(String, "robot_description", latched)
        self.target = self.create_publisher(PoseStamped, "/arm/target_pose", 10)
        self.grip = self.create_publisher(JointState, "/gripper/command", 10)
        self.stop = self.create_publisher(Bool, "/emergency_stop", 10)
        self.states = self.create_publisher(JointState, "/joint_states", 10)
        self.reset = self.create_client(Trigger, "/servo_node/reset")
        self.create_timer(0.02, self._tell)

    def _move(self, message: JointTrajectory) -> None:
        self.arm.append(message)
        if self.moves:
            self.joints.update(zip(message.joint_names, message.points[-1].positions, strict=True))

    def _tell(self) -> None:
        if self.tells:
            names = sorted(self.joints, reverse=True)
            message = JointState(name=["wheel", *names], position=[7.0, *(self.joints[name] for name in names)])
            message.header.stamp = self.get_clock().now().to_msg()
            self.states.publish(message)

    def aim(self, x: float, y: float, z: float, frame: str = "base_link") -> None:
        message = PoseStamped()
        message.header.frame_id = frame
        place, turn = message.pose.position, message.pose.orientation
        place.x, place.y, place.z, turn.x, turn.w = x, y, z, 1.0, 0.0
        self.target.publish(message)

    @property
    def tool(self) -> Any:
        return ARM.position(np.array([self.joints[name] for name in ARM_JOINTS]))


@pytest.fixture
def arm(domain_id: int) -> Iterator[Arm]:
    """The node and its arm, both spinning in this process."""
    parameters = [word for name, value in PARAMETERS.items() for word in ("-p", f"{name}:={value}".lower())]
    rclpy.init(args=["--ros-args", *parameters])
    arm, servo = Arm(), ServoNode()
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(arm)
    executor.add_node(servo)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield arm
    end_spinning(executor, thread)


def wait(done: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return done()


def test_a_pose_becomes_trajectories_that_lead_the_tool_there_within_its_limits(arm: Arm) -> None:
    arm.aim(0.4, 0.1, 0.2)
    assert not wait(lambda: bool(arm.arm), 0.5), "nothing is sent before the robot is described"
    arm.description.publish(String(data=URDF.read_text()))
    assert wait(lambda: bool(arm.poses))
    arm.aim(0.4, 0.1, 0.2)
    assert wait(lambda: bool(np.linalg.norm(arm.tool - [0.4, 0.1, 0.2]) < 1e-3)), arm.tool
    first = arm.arm[0]
    assert tuple(first.joint_names) == ARM_JOINTS
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (0, 0), "controllers start it when it comes"
    assert len(first.points) == 1
    assert 0 < first.points[0].time_from_start.nanosec < 1e8
    way = np.array([list(one.points[0].positions) for one in arm.arm])
    assert np.abs(way[0] - HOME).max() <= ARM.speeds.max() * 0.02, "it begins where the arm is"
    speeds = np.diff(way, axis=0) / 0.02
    assert np.abs(speeds).max() <= ARM.speeds.max() * 1.001
    np.testing.assert_allclose(speeds, [list(one.points[0].velocities) for one in arm.arm[1:]], atol=1e-6)
    assert wait(lambda: arm.arm[-1].points[0].velocities[0] == pytest.approx(0.0, abs=1e-3))
    time.sleep(0.7)
    count = len(arm.arm)
    assert not wait(lambda: len(arm.arm) > count, 0.2), "an arm that has arrived is left alone"
    pose = arm.poses[-1]
    np.testing.assert_allclose([pose.pose.position.x, pose.pose.position.y, pose.pose.position.z], arm.tool, atol=1e-3)
    assert pose.header.frame_id == "base_link"
    stamps = [one.header.stamp.sec + one.header.stamp.nanosec / 1e9 for one in arm.poses]
    assert stamps[0] > 0, "the pose has the stamp of the joints"
    assert np.diff(stamps).min() >= 0.99 / POSE_HZ, "joints are told more often than poses are to be"


def test_the_gripper_is_passed_on_with_the_finger_that_mimics(arm: Arm) -> None:
    arm.description.publish(String(data=URDF.read_text()))
    assert wait(lambda: bool(arm.poses))
    arm.grip.publish(JointState(name=["gripper"], position=[0.04]))
    assert wait(lambda: bool(arm.gripper))
    assert list(arm.gripper[0].joint_names) == ["gripper", "gripper_mimic"]
    assert list(arm.gripper[0].points[0].positions) == [0.04, 0.04]


def test_what_cannot_be_followed_safely_moves_nothing(arm: Arm) -> None:
    arm.description.publish(String(data=URDF.read_text()))
    assert wait(lambda: bool(arm.poses))
    arm.aim(math.nan, 0.1, 0.2)
    arm.aim(0.4, 0.1, 0.2, frame="camera_link")
    arm.tells = False  # the joints' positions stop: the arm is left alone
    assert not wait(lambda: bool(arm.arm), 0.7)
    arm.aim(0.4, 0.1, 0.2)
    assert not wait(lambda: bool(arm.arm), 0.3)
    arm.tells, arm.moves = True, False
    time.sleep(0.1)
    arm.aim(0.4, -0.2, 0.1)  # an arm that is held fast: it is not led far ahead of where it is
    assert wait(lambda: bool(arm.arm))
    assert not wait(lambda: max(abs(np.array(arm.arm[-1].points[0].positions) - HOME)) > 0.6, 0.7)
    arm.moves = True
    arm.stop.publish(Bool(data=True))
    time.sleep(0.2)
    count = len(arm.arm)
    arm.aim(0.3, 0.1, 0.2)
    assert not wait(lambda: len(arm.arm) > count, 0.3), "after an emergency stop nothing moves"
    arm.stop.publish(Bool(data=False))
    time.sleep(0.2)
    assert arm.reset.call(Trigger.Request()).success
    arm.aim(0.3, 0.1, 0.2)
    assert wait(lambda: bool(np.linalg.norm(arm.tool - [0.3, 0.1, 0.2]) < 1e-3))


def test_a_contract_without_a_pose_command_needs_no_servo() -> None:
    with pytest.raises(UserError, match=r"needs one geometry_msgs/msg/PoseStamped.*Float64MultiArray"):
        pose_command(Contract.load("tabletop_joints"))
