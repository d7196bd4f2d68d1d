"""Sending an action on the contract's command topics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from robovlm_ros import messages
from robovlm_ros.contract import Contract


class CommandTopics:
    """A publisher for each command of a contract."""

    def __init__(self, node: Node, contract: Contract) -> None:
        self._contract = contract
        self._topics = []
        for command in contract.commands:
            kind = messages.message_class(command.type)
            self._topics.append((command, kind, node.create_publisher(kind, command.topic, 10)))

    def publish(self, values: NDArray[np.float64], stamp_ns: int) -> None:
        """Publish (action_dim,) safe values, absolute and in chunk units, stamped."""
        first = 0
        for command, kind, publisher in self._topics:
            last = first + len(command.dims)
            message = messages.fill_command(kind(), command, values[first:last], stamp_ns, self._contract.step_ns)
            publisher.publish(message)
            first = last
