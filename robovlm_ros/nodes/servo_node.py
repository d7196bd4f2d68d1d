"""Poses of the tool in, joint trajectories out: an arm that takes trajectories follows a policy that commands its tool.

Inverse kinematics are those of the simulated arm, of whatever URDF. What is sent stays within the URDF's limits of
position and velocity, and starts where the joints are measured.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robovlm_ros import messages
from robovlm_ros.contract import POSITION, Command, Contract
from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.nodes.emergency import guard_topics
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.parameters import declare
from robovlm_ros.nodes.servo_settings import Settings
from robovlm_ros.sim.kinematics import ArmKinematics
from robovlm_ros.sim.tool_servo import ToolServo
from robovlm_ros.urdf import Urdf

POSE_TYPE = "geometry_msgs/msg/PoseStamped"
JOINTS_TYPE = "sensor_msgs/msg/JointState"
REST_S = 0.5
"""Trajectories end when the joints have not been led on for so long [s]."""
STILL = 1e-5
"""Joints that are led on by less in a step are not led on [rad or m]."""
SHORT_M, SHORT_RAD = 0.01, 0.1
"""A tool that stays further from its target than this was sent out of its reach."""
LEASH_M = 0.05
"""An arm that cannot follow is not led further ahead than this [m]."""
POINT_STEPS = 2
"""A trajectory's point is due so many steps after it is sent, so that it has not passed when the next one comes."""
GRIPPER_S = 0.1
"""Time that a gripper's trajectory takes [s]; its controller is slower."""
SAY_S = 5.0
"""The same complaint is repeated after this time [s]."""


class ServoNode(Node):  # type: ignore[misc, unused-ignore]
    """`_acting` guards the servo and the measured joints."""

    def __init__(self) -> None:
        super().__init__("servo_node")
        self._settings = settings = declare(self, Settings)
        self._contract = contract = Contract.load(settings.contract)
        messages.check_contract(contract)
        self._command = pose_command(contract)
        self._box = np.array([dim.limits for dim in self._command.dims if dim.name in POSITION])  # (3, 2)
        self._acting = threading.Lock()
        self._measured: dict[str, tuple[float, int]] = {}
        self._told_ns = 0
        self._kinematics: ArmKinematics | None = None
        self._servo: ToolServo | None = None
        self._base = self._command.frame
        self._goal: tuple[NDArray[np.float64], NDArray[np.float64] | None] | None = None
        self._begun = False
        self._still = 0
        self._said: NDArray[np.float64] | None = None
        self._guard = Guard(after="~/reset goes on")
        self._description: Urdf | None = None
        if settings.robot_description:
            self._describe(settings.robot_description)
        self._open_topics()

    def _open_topics(self) -> None:
        settings, contract = self._settings, self._contract
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        sensors = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._arm = self.create_publisher(JointTrajectory, settings.trajectory_topic, 10)
        if settings.publish_pose:
            poses = [source for source in contract.state if source.type == POSE_TYPE]
            if not poses:
                raise UserError(f"contract '{contract.name}' has no {POSE_TYPE} state to publish: publish_pose:=false")
            self._tool = self.create_publisher(messages.message_class(POSE_TYPE), poses[0].topic, 10)
        if not settings.robot_description:
            self.create_subscription(String, "robot_description", self._on_description, latched)
        joints = [source.topic for source in contract.state if source.type == JOINTS_TYPE] or ["/joint_states"]
        self.create_subscription(JointState, joints[0], self._on_joints, sensors)
        self.create_subscription(messages.message_class(POSE_TYPE), self._command.topic, self._on_pose, 10)
        if settings.gripper_topic:
            self._gripper = self.create_publisher(JointTrajectory, settings.gripper_topic, 10)
            for command in contract.commands:
                if command is not self._command:
                    kind = messages.message_class(command.type)
                    self.create_subscription(kind, command.topic, self._on_gripper(command), 10)
        guard_topics(self, self._obey, stop_topic=settings.emergency_stop_topic, dead_man_topic="")
        self.create_timer(1.0 / settings.rate_hz, self._lead, MutuallyExclusiveCallbackGroup())

    # --- what the robot is --------------------------------------------------------------------------------------

    def _describe(self, text: str) -> None:
        urdf = Urdf(text, "robot_description")
        base = self._base or urdf.root
        kinematics = ArmKinematics.of_urdf(urdf, base, self._settings.tool_frame)
        speeds = [dim.max_velocity for dim in self._command.dims if dim.name in POSITION and dim.max_velocity]
        with self._acting:
            self._description, self._base, self._kinematics = urdf, base, kinematics
            self._servo = ToolServo(
                kinematics,
                speed=min(speeds, default=self._settings.speed_m_s),
                turn_speed=self._settings.turn_speed_rad_s,
                leash=LEASH_M,
            )
            self._begun = False
        self.get_logger().info(
            f"leading '{self._settings.tool_frame}' in '{base}' by {', '.join(kinematics.joint_names)}; "
            f"{self._command.topic} → {self._settings.trajectory_topic}"
        )

    def _on_description(self, message: String) -> None:
        try:
            self._describe(message.data)
        except UserError as error:
            self.get_logger().error(str(error))

    # --- callbacks ----------------------------------------------------------------------------------------------

    def _obey(self, act: Callable[[Guard], None]) -> None:
        with self._acting:
            act(self._guard)
            if self._guard.stopped:
                self._let_go(self._guard.refusal(0) or "")

    def _on_joints(self, message: JointState) -> None:
        now = time.monotonic_ns()
        pose = None
        with self._acting:
            self._measured.update({name: (p, now) for name, p in zip(message.name, message.position, strict=False)})
            if self._settings.publish_pose and self._kinematics is not None and self._is_due(message):
                joints = self._joints()
                own = set(message.name) & set(self._kinematics.joint_names)
                pose = self._kinematics.pose(joints) if own and joints is not None else None
        if pose is not None:
            self._told_ns = messages.stamp_ns(message) or 0
            told = messages.message_class(POSE_TYPE)()
            told.header.stamp, told.header.frame_id = message.header.stamp, self._base
            place, turn = told.pose.position, told.pose.orientation
            place.x, place.y, place.z = pose[0].tolist()
            turn.x, turn.y, turn.z, turn.w = pose[1].tolist()
            self._tool.publish(told)

    def _is_due(self, message: JointState) -> bool:
        """Whether it is time to tell the pose again: Gazebo tells the joints at each of its 1,000 steps a second."""
        passed_ns = (messages.stamp_ns(message) or 0) - self._told_ns
        return passed_ns < 0 or passed_ns * self._settings.pose_rate_hz > 0.99e9 or not self._told_ns

    def _on_pose(self, message: Any) -> None:
        place, turn = message.pose.position, message.pose.orientation
        position = np.array([place.x, place.y, place.z])
        orientation = np.array([turn.x, turn.y, turn.z, turn.w])
        if not (np.isfinite(position).all() and np.isfinite(orientation).all()):
            self._complain(f"ignored: {self._command.topic} holds NaN or infinity")
            return
        frame = message.header.frame_id
        if self._base and frame not in ("", self._base):
            self._complain(f"ignored: {self._command.topic} is in frame '{frame}', not in '{self._base}'")
            return
        inside = np.clip(position, *self._box.T)
        if not np.array_equal(inside, position):
            self._complain(f"{self._command.topic} lies outside the contract's limits: brought to {_words(inside)}")
        with self._acting:
            refusal = self._guard.refusal(0)
            if refusal is None and self._servo is not None:
                self._goal = inside, orientation if np.linalg.norm(orientation) > 0.5 else None
                self._still = 0
        if refusal is not None or self._servo is None:
            self._complain(f"ignored: {refusal or 'no robot_description was received yet'}")

    def _on_gripper(self, command: Command) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            try:
                sent = messages.command_values(message, command)
            except UserError as error:
                self._complain(f"ignored: {error}")
                return
            with self._acting:
                allowed = self._guard.refusal(0) is None and self._description is not None
            if not allowed or not np.isfinite(sent).all():
                return
            limits = np.array([dim.limits for dim in command.dims])  # (n, 2)
            binary = np.array([dim.kind == "binary" for dim in command.dims])
            values = np.where(binary, limits[range(len(sent)), (sent >= 0.5).astype(int)], np.clip(sent, *limits.T))
            positions = dict(zip([dim.name for dim in command.dims], values.tolist(), strict=True))
            for name, value in list(positions.items()):
                assert self._description is not None
                for joint in self._description.followers(name):
                    assert joint.mimic is not None
                    positions[joint.name] = joint.mimic.multiplier * value + joint.mimic.offset
            self._gripper.publish(trajectory(list(positions), list(positions.values()), GRIPPER_S))

        return receive

    # --- leading ------------------------------------------------------------------------------------------------

    def _lead(self) -> None:
        """One step on the way to the target."""
        with self._acting:
            if self._goal is None or self._servo is None:
                return
            joints = self._joints()
            if joints is None:
                self._let_go("the joints' positions are missing, or too old")
                return
            if not self._begun:
                self._begun = True
                low, high = self._servo_limits.T
                self._servo.rest(np.clip(joints, low, high))
            before = self._servo.joints
            off = np.abs(joints - before)
            if off.max() > self._settings.max_deviation:
                name = self._names[int(off.argmax())]
                self._let_go(f"joint '{name}' is {off.max():.2f} from where it was sent: something else moves it")
                return
            self._servo.aim(*self._goal)
            period_s = 1.0 / self._settings.rate_hz
            after = self._servo.step(period_s)
            moved = float(np.abs(after - before).max())
            self._still = self._still + 1 if moved < STILL else 0
            if self._still > REST_S * self._settings.rate_hz:
                self._say_how_near()
                self._goal, self._begun = None, False
            velocities = ((after - before) / period_s).tolist() if self._settings.send_velocities else []
            names = self._names
        self._arm.publish(trajectory(names, after.tolist(), POINT_STEPS * period_s, velocities))

    def _joints(self) -> NDArray[np.float64] | None:
        """(n,) where the joints are; None: one of them is not known, or was not for too long."""
        oldest = time.monotonic_ns() - self._settings.max_age_s * 1e9
        found = [self._measured.get(name, (np.nan, 0)) for name in self._names]
        positions = np.array([position for position, _ in found])
        known = np.isfinite(positions).all() and all(when >= oldest for _, when in found)
        return positions if known else None

    @property
    def _names(self) -> tuple[str, ...]:
        return self._kinematics.joint_names if self._kinematics is not None else ()

    @property
    def _servo_limits(self) -> NDArray[np.float64]:
        assert self._kinematics is not None
        return self._kinematics.limits

    def _let_go(self, why: str) -> None:
        """Stop where the arm is; the next target is approached from there."""
        if self._goal is not None:
            self._complain(f"the target is dropped: {why}")
        self._goal, self._begun = None, False

    def _say_how_near(self) -> None:
        """Of a target out of reach, once."""
        assert self._servo is not None
        assert self._goal is not None
        (short, angle), (goal, _) = self._servo.miss, self._goal
        known = self._said is not None and float(np.linalg.norm(self._said - goal)) < SHORT_M
        if (short > SHORT_M or angle > SHORT_RAD) and not known:
            self._said = goal
            self.get_logger().warning(
                f"{_words(goal)} is out of reach: the tool stays {short:.3f} m and {angle:.2f} rad from it"
            )

    def _complain(self, sentence: str) -> None:
        self.get_logger().error(sentence, throttle_duration_sec=SAY_S)


def pose_command(contract: Contract) -> Command:
    """The command that places a tool; UserError unless there is one, with x, y and z."""
    poses = [c for c in contract.commands if c.type == POSE_TYPE and {d.name for d in c.dims} >= set(POSITION)]
    if len(poses) != 1:
        types = ", ".join(f"{command.name}: {command.type}" for command in contract.commands)
        raise UserError(
            f"contract '{contract.name}' needs one {POSE_TYPE} command with x, y and z for a servo (it has {types})"
        )
    return poses[0]


def trajectory(names: list[str] | tuple[str, ...], positions: list[float], seconds: float, velocities: Any = ()) -> Any:
    """A trajectory of one point, due `seconds` after it is received: its stamp is 0, as ROS 2 controllers ask."""
    point = JointTrajectoryPoint(positions=positions, velocities=list(velocities))
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return JointTrajectory(joint_names=list(names), points=[point])


def _words(point: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.3f}' for value in point)})"


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros servo_node``."""
    return spin(ServoNode, threads=2)


if __name__ == "__main__":
    sys.exit(main())
