"""The scripted expert: it knows where the blocks are, and shows how a task is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.tasks import Block, find_block, goal_position

MAX_STEP_M = 0.03
"""Farthest that a command leads the tool point [m]."""
_QUIET_M = 0.06  # action noise fades out within this distance of the goal [m]
_LOWEST_M = 0.055  # the finger tips stay above the blocks [m]


class ReachExpert:
    """Leads the tool straight to the goal above the block, at most MAX_STEP_M ahead of where it is."""

    def __init__(self, rng: np.random.Generator, noise: float = 0.0) -> None:
        """``noise``: standard deviation of each coordinate of a command [m]; it shows how to recover."""
        self._rng = rng
        self._noise = noise

    def act(self, tool_position: NDArray[np.floating], blocks: Sequence[Block], target: str) -> NDArray[np.float64]:
        """(4,) tool position to command in base_link [m] and gripper (1: open).

        ``tool_position`` (3,) is where the tool point was measured; ``target`` is the colour to reach.
        """
        tool = np.asarray(tool_position, np.float64)
        way = goal_position(find_block(blocks, target)) - tool  # (3,)
        distance = float(np.linalg.norm(way))
        lead = _at_most(way, MAX_STEP_M)
        if self._noise:
            spread = self._noise * min(1.0, max(0.1, distance / _QUIET_M))
            lead = _at_most(lead + self._rng.normal(0.0, spread, 3), MAX_STEP_M)
        position = tool + lead
        position[2] = max(position[2], _LOWEST_M)
        return np.append(position, 1.0)


def as_action(contract: Contract, act: NDArray[np.floating]) -> NDArray[np.float64]:
    """(action_dim,) in the contract's order, of the expert's tool position and gripper (4,).

    UserError if the contract has an action that the expert does not know.
    """
    values = dict(zip(("x", "y", "z", "gripper"), act.tolist(), strict=True))
    unknown = [name for name in contract.action_names if name not in values]
    if unknown:
        raise UserError(
            f"contract '{contract.name}': the expert commands {', '.join(values)}, not the action '{unknown[0]}'"
        )
    return np.array([values[name] for name in contract.action_names])


def _at_most(vector: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """(3,) the vector, shortened to ``length`` if it is longer."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)
