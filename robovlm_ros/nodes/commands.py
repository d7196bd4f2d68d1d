"""Sending an action on the contract's command topics."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.nodes.overrides import overridable
from robovlm_ros.runtime.control import Path


class CommandTopics:
    """A publisher for each command of a contract."""

    def __init__(self, node: Any, contract: Contract, *, dry_run: bool = False, managed: bool = False) -> None:
        """`dry_run`: publish on ``~/dry_run/NAME``, where no robot listens; `managed`: only while the lifecycle node
        is active."""
        self._contract = contract
        create = node.create_lifecycle_publisher if managed else node.create_publisher
        self._topics = []
        for command in contract.commands:
            kind = messages.message_class(command.type)
            topic = "~/dry_run/" + re.sub(r"\W", "_", command.name) if dry_run else command.topic
            self._topics.append((command, kind, create(kind, topic, 10, **overridable())))

    def publish(
        self, values: NDArray[np.float64], stamp_ns: int, path: Path | None = None, *, paths: bool = False
    ) -> None:
        """Publish (action_dim,) safe values, absolute and in chunk units, stamped.

        `paths`: trajectories that hold whole chunks, by the contract, are published only where there is a `path`, and
        hold it; without, they hold one point as others do.
        """
        first = 0
        for command, kind, publisher in self._topics:
            part = slice(first, first := first + len(command.dims))
            if not (paths and command.trajectory == "chunk"):
                message = messages.fill_command(kind(), command, values[part], stamp_ns, self._contract.step_ns)
                publisher.publish(message)
            elif path is not None:
                points, due_ns = path
                publisher.publish(messages.fill_path(kind(), command, points[:, part], due_ns, stamp_ns))
