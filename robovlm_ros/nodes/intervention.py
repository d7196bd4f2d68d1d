"""The two ends of the protocol of `robovlm_ros.handover` on their topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from robovlm_ros.contract import Contract
from robovlm_ros.handover import answer_topic

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Whoever comes later gets the newest message."""


def obey_interventions(node: Node, contract: Contract, obey: Callable[[bool], None]) -> None:
    """A policy's end: call ``obey(yielded)`` for each word of the person, then answer it.

    Nothing of the policy's may be sent after ``obey(True)`` has returned. Where somebody offers the intervention topic
    already, the policy begins yielded, until it has heard what that one says.
    """
    answers = node.create_publisher(Bool, answer_topic(contract.intervention_topic), LATCHED)

    def hear(message: Any) -> None:
        obey(bool(message.data))
        answers.publish(Bool(data=bool(message.data)))

    begin = bool(_publishers(node, contract.intervention_topic))
    obey(begin)
    answers.publish(Bool(data=begin))
    node.create_subscription(Bool, contract.intervention_topic, hear, LATCHED)


class InterventionTopics:
    """A person's end: their word, the policies' answers, and who else commands this robot."""

    def __init__(self, node: Node, contract: Contract, answered: Callable[[bool], None]) -> None:
        self._node = node
        self._contract = contract
        self._answers = answer_topic(contract.intervention_topic)
        self._word = node.create_publisher(Bool, contract.intervention_topic, LATCHED)
        node.create_subscription(Bool, self._answers, lambda message: answered(bool(message.data)), LATCHED)

    def say(self, intervention: bool) -> None:
        """A person takes over, or hands back."""
        self._word.publish(Bool(data=intervention))

    def policies(self) -> set[str]:
        """Nodes that answer to interventions."""
        return set(_publishers(self._node, self._answers))

    def strangers(self) -> set[str]:
        """Nodes that publish this robot's commands, or interventions, and answer to none; also one of our own name."""
        own = self._node.get_fully_qualified_name()
        found: set[str] = set()
        for topic in (self._contract.intervention_topic, *(command.topic for command in self._contract.commands)):
            names = _publishers(self._node, topic)
            if own in names:
                names.remove(own)
            found.update(names)
        return found - self.policies()


def _publishers(node: Node, topic: str) -> list[str]:
    """Full names of the nodes that publish on a topic, one for each publisher."""
    infos = node.get_publishers_info_by_topic(topic)
    return [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
