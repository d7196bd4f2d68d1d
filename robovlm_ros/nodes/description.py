"""The robot's own URDF, as `robot_state_publisher` offers it: its limits bind whoever commands the robot."""

from __future__ import annotations

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.urdf import Urdf
from robovlm_ros.urdf_limits import tightened

WAIT_S = 10.0
"""How long a robot description may take to come [s]."""


def within_description(node: Node, contract: Contract) -> Contract:
    """The contract with limits that also are the URDF's on its ``urdf_topic``; as it is where it names none.

    UserError when nobody publishes it within `WAIT_S`, or where it describes another robot.
    """
    topic = contract.urdf_topic
    if topic is None:
        return contract
    urdf = Urdf(_latched(node, topic, WAIT_S), f"URDF on {topic}")
    kept, changes = tightened(contract, urdf, f"URDF on {topic}")
    node.get_logger().info(
        f"limits of the URDF on {topic} are kept: {'; '.join(changes) or 'the contract has no others'}"
    )
    return kept


def _latched(node: Node, topic: str, wait_s: float) -> str:
    """What is latched on a topic. Nodes that ask do not spin yet, or wait in a callback: another one listens."""
    texts: list[str] = []
    listener = rclpy.create_node(
        f"{node.get_name()}_description",
        namespace=node.get_namespace(),
        context=node.context,
        start_parameter_services=False,
    )
    executor = SingleThreadedExecutor(context=node.context)
    try:
        executor.add_node(listener)
        qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        listener.create_subscription(String, topic, lambda message: texts.append(message.data), qos)
        end_s = time.monotonic() + wait_s
        while not texts and time.monotonic() < end_s:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        listener.destroy_node()
    if not texts:
        raise UserError(
            f"no URDF came on {topic} within {wait_s:g} s (contract: urdf_topic); robot_state_publisher offers it"
        )
    return texts[-1]
