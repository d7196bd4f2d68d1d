"""A client of the simulated tabletop: resets it, gives instructions, watches what the arm does.

`collect`, `evaluate` and the demo share it. It speaks to the nodes through their topics and
services only; the blocks' true positions come from ``/sim_node/blocks``, which no policy sees.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract, StateSource
from robovlm_ros.errors import UserError
from robovlm_ros.sim.measure import Moment
from robovlm_ros.sim.model import GRIPPER_JOINT
from robovlm_ros.sim.tasks import Block, Pad
from robovlm_ros.sim.truth import blocks_of, fill_marker, pads_of

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SERVICE_SECONDS = 20.0
"""How long a node may take to appear or to answer [s]."""
POLICY_SECONDS = 300.0
"""How long a policy may take to load [s]."""


class Session:
    """One rclpy node of ours beside the simulator; use it in a ``with`` block."""

    def __init__(self, contract: Contract, name: str, check: Callable[[], None] = lambda: None) -> None:
        self.contract = contract
        self._check = check
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.poses: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=2000)
        """(stamp [ns], (3,) tool position [m]) of the newest samples."""
        self.joints: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=2000)
        """(stamp [ns], (n,) joint positions) of the newest samples."""
        self.blocks: tuple[Block, ...] = ()
        self.pads: tuple[Pad, ...] = ()
        self.block_places: deque[tuple[int, tuple[Block, ...]]] = deque(maxlen=2000)
        """(stamp [ns], blocks) of the newest samples."""
        self.settle_s = 0.0
        """Time that the arm is given to come to rest before a new scene [s]."""
        self.scene_s = SERVICE_SECONDS
        """How long the simulator may take to make a new scene [s]."""
        self._tool = tool_source(contract)
        self._joint_source = joint_source(contract)
        self._instruction = self.node.create_publisher(String, contract.instruction_topic, LATCHED)
        self._subscribe(self._tool, self.poses)
        self._subscribe(self._joint_source, self.joints)
        self.node.create_subscription(MarkerArray, "/sim_node/blocks", self._on_blocks, LATCHED)
        self._move = self.node.create_publisher(MarkerArray, "/sim_node/move", 10)
        self._reset = self.node.create_client(Trigger, "/sim_node/reset")
        self._set = self.node.create_client(SetParameters, "/sim_node/set_parameters")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Handle messages until ``done()``; UserError naming ``what`` after ``seconds``, or when a node has ended."""
        end = time.monotonic() + seconds
        next_check = 0.0
        while not done():
            now = time.monotonic()
            if now >= next_check:
                self._check()
                next_check = now + 1.0
            if now > end:
                raise UserError(f"{what} did not come within {seconds:.0f} s (ROS_DOMAIN_ID {_domain()})")
            self._executor.spin_once(timeout_sec=0.1)

    def wait_for_policy(self) -> None:
        """Wait until somebody offers every command: a policy takes its time to load."""
        topics = [command.topic for command in self.contract.commands]
        self.wait(lambda: all(self.node.count_publishers(topic) for topic in topics), POLICY_SECONDS, "the policy")
        self._check()

    def spin(self, seconds: float) -> None:
        """Handle messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def call(self, client: Any, request: Any, what: str, seconds: float = SERVICE_SECONDS) -> Any:
        """Call a service and wait for its answer."""
        self.wait(client.service_is_ready, SERVICE_SECONDS, f"service {client.srv_name}")
        future = client.call_async(request)
        self.wait(future.done, seconds, what)
        return future.result()

    def set(self, node: str, parameters: Sequence[Parameter]) -> None:
        """Set parameters of a running node, all or none; UserError with its reason."""
        client = self.node.create_client(SetParametersAtomically, f"{node}/set_parameters_atomically")
        request = SetParametersAtomically.Request(parameters=[one.to_parameter_msg() for one in parameters])
        result = self.call(client, request, f"the answer of {node}").result
        self.node.destroy_client(client)
        if not result.successful:
            raise UserError(f"{node} refused: {result.reason}")

    def trigger(self, client: Any, seconds: float = SERVICE_SECONDS) -> str:
        """Call a ``std_srvs/Trigger`` service; its message, or UserError with its reason."""
        response = self.call(client, Trigger.Request(), f"the answer of {client.srv_name}", seconds)
        if not response.success:
            raise UserError(f"{client.srv_name}: {response.message}")
        return str(response.message)

    def reset(self, seed: int) -> int:
        """Begin the scene of that seed; the stamp of its first observation [ns]."""
        self.spin(self.settle_s)
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        request = SetParameters.Request(parameters=[ParameterMessage(name="seed", value=value)])
        for result in self.call(self._set, request, "the simulator's seed").results:
            if not result.successful:
                raise UserError(f"the simulator refused seed {seed}: {result.reason}")
        self.blocks = ()
        stamp = int(json.loads(self.trigger(self._reset, self.scene_s))["stamp_ns"])
        self.wait(lambda: bool(self.blocks) and self.seen_ns >= stamp, self.scene_s, "the new scene")
        return stamp

    def instruct(self, text: str) -> None:
        """Publish the instruction; an empty one means: do nothing."""
        self._instruction.publish(String(data=text))

    def move(self, blocks: Sequence[Block]) -> None:
        """Put blocks of these colours elsewhere, as a person's hand would."""
        self._move.publish(MarkerArray(markers=[fill_marker(Marker(), block, self.now_ns) for block in blocks]))

    @property
    def time_ns(self) -> int:
        """Stamp of the newest tool position [ns]; 0 when there is none."""
        return self.poses[-1][0] if self.poses else 0

    @property
    def seen_ns(self) -> int:
        """Stamp of the newest moment of which tool, joints and blocks are all known [ns]; 0 when there is none."""
        sources: tuple[deque[Any], ...] = (self.poses, self.joints, self.block_places)
        return min(source[-1][0] if source else 0 for source in sources)

    def moment(self, tool: NDArray[np.float64] | None = None) -> Moment:
        """What is known now of the robot and of the scene; ``tool`` (3,) instead of where the tool is now."""
        opening = dict(zip(self._joint_source.dims, self.joints[-1][1].tolist(), strict=True)).get(GRIPPER_JOINT, 0.0)
        return Moment(
            tool=self.poses[-1][1] if tool is None else tool, opening=opening, blocks=self.blocks, pads=self.pads
        )

    @property
    def now_ns(self) -> int:
        """Our own clock [ns]; in real time the simulator's stamps are of the same."""
        return int(self.node.get_clock().now().nanoseconds)

    def tool_at(self, stamp_ns: int) -> NDArray[np.float64]:
        """(3,) the newest tool position that is not younger than a stamp [m]."""
        for stamp, position in reversed(self.poses):
            if stamp <= stamp_ns:
                return position
        raise UserError(f"no tool position at {stamp_ns} ns")

    def _subscribe(self, source: StateSource, into: deque[tuple[int, NDArray[np.float64]]]) -> None:
        def receive(message: Any) -> None:
            stamp = messages.stamp_ns(message)
            into.append((stamp if stamp is not None else 0, messages.state_values(message, source)))

        self.node.create_subscription(messages.message_class(source.type), source.topic, receive, 50)

    def _on_blocks(self, message: Any) -> None:
        self.blocks, self.pads = blocks_of(message), pads_of(message)
        stamp = messages.stamp_ns(message.markers[0]) if message.markers else None
        self.block_places.append((stamp or 0, self.blocks))


def tool_source(contract: Contract) -> StateSource:
    """The state source that tells where the tool is."""
    for source in contract.state:
        if source.type == "geometry_msgs/msg/PoseStamped":
            return source
    raise UserError(f"contract '{contract.name}' has no PoseStamped state: where is the tool?")


def joint_source(contract: Contract) -> StateSource:
    """The state source that tells the joint positions."""
    for source in contract.state:
        if source.type == "sensor_msgs/msg/JointState":
            return source
    raise UserError(f"contract '{contract.name}' has no JointState state")


def local_environment(worker: int = 0) -> dict[str, str]:
    """Environment of a command's nodes: on this machine only, and for each worker a domain of its own."""
    domain = int(_domain())
    environment = {
        # those that are not the person's choice stay below 102: above, the ports meet the ephemeral ones
        "ROS_DOMAIN_ID": str((domain + worker) % 102 if worker else domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
    }
    if os.environ.get("ROS_DISTRO") == "humble":  # knows no range; later ones warn of what says the same there
        environment["ROS_LOCALHOST_ONLY"] = os.environ.get("ROS_LOCALHOST_ONLY", "1")
    return environment


def _domain() -> str:
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdecimal() or int(domain) > 232:
        raise UserError(f"ROS_DOMAIN_ID is '{domain}', not a number from 0 to 232")
    return domain
