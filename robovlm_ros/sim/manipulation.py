"""The scripted expert for all tasks: what it does follows from what there is to be seen now, and from nothing before.

A policy that decides on one observation can learn it, and whoever comes into a state by mistake finds out of it.
Ways down are funnels: how low the tool may be depends on how far from the right place it still is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.sim.expert import ReachExpert
from robovlm_ros.sim.measure import HELD_OPENING_M, ON_PAD_M, Moment, holds
from robovlm_ros.sim.tasks import REACH, Block, Order, find_block, find_pad

_STEP_M = 0.03  # farthest that a command leads the tool point
_PUSH_STEP_M = 0.014  # the same while it pushes
_CARRY_STEP_M = 0.018  # the same with a block in the hand: jerks would shake it loose
_LOW_M = 0.02  # height of the tool point at the middle of a block on the table
_HIGH_M = 0.10  # height at which it passes over blocks
_RAISED_M = 0.16  # height to which a block is lifted
_QUIET_M = 0.06  # action noise fades out within this distance of a place that matters
_BEHIND_M = 0.066  # a push begins so far behind the middle of the block


@dataclass(frozen=True)
class _Aim:
    """Where a command leads."""

    place: NDArray[np.float64]
    """(3,) in base_link [m]."""
    gripper: float
    """1: open."""
    near_m: float
    """How far the tool is from where precision matters [m]."""
    step_m: float = _STEP_M


class Expert:
    """Knows how each task is done."""

    def __init__(self, rng: np.random.Generator, noise: float = 0.0) -> None:
        """``noise``: standard deviation of each coordinate of a command [m]; it shows how to recover."""
        self._rng = rng
        self._noise = noise
        self._reach = ReachExpert(rng, noise)

    def act(self, moment: Moment, order: Order) -> NDArray[np.float64]:
        """(4,) tool position to command in base_link [m] and gripper (1: open)."""
        if order.task is REACH:
            return self._reach.act(moment.tool, moment.blocks, order.colour)
        block = find_block(moment.blocks, order.colour)
        if order.task.direction:
            aim = _push(moment, block, order.task.direction)
        elif order.pad:
            aim = _put(moment, block, find_pad(moment.pads, order.pad).position)
        else:
            aim = _lift(moment, block)
        lead = _shortened(aim.place - moment.tool, aim.step_m)
        if self._noise:
            spread = self._noise * float(np.clip(aim.near_m / _QUIET_M, 0.1, 1.0))
            lead = _shortened(lead + self._rng.normal(0.0, spread, 3), aim.step_m)
        position = moment.tool + lead
        position[2] = max(position[2], _LOW_M)
        return np.append(position, aim.gripper)


def _push(moment: Moment, block: Block, direction: float) -> _Aim:
    """Down behind the block with closed gripper, then straight on for as long as it goes."""
    tool, middle = moment.tool, block.position
    behind = direction * float(middle[1] - tool[1])  # how far the tool is behind the block's middle
    aside = float(middle[0] - tool[0])
    if tool[2] < 0.045 and 0.015 < behind < 0.10 and abs(aside) < 0.015:
        # a block that has turned away is met nearer to its middle again
        place = np.array([tool[0] + np.clip(aside, -0.004, 0.004), tool[1] + direction * _PUSH_STEP_M, _LOW_M + 0.004])
        return _Aim(place, 0.0, near_m=0.0, step_m=_PUSH_STEP_M)
    start = np.array([middle[0], middle[1] - direction * _BEHIND_M, _LOW_M + 0.004])
    return _descend(moment, start, 0.0, wide_m=0.012)


def _lift(moment: Moment, block: Block) -> _Aim:
    """Grasp it and raise it."""
    if _in_hand(moment, block):
        return _Aim(np.array([*moment.tool[:2], _RAISED_M]), 0.0, near_m=_QUIET_M / 4, step_m=_CARRY_STEP_M)
    return _grasp(moment, block)


def _grasp(moment: Moment, block: Block) -> _Aim:
    """Over the block with open gripper, down around it, close."""
    tool, way = moment.tool, block.position - moment.tool
    if float(np.linalg.norm(way[:2])) < 0.014 and tool[2] < block.position[2] + 0.012:
        return _Aim(np.array([*block.position[:2], _LOW_M]), 0.0, near_m=0.0)
    return _descend(moment, np.array([*block.position[:2], _LOW_M]), 1.0, wide_m=0.008)


def _put(moment: Moment, block: Block, pad: NDArray[np.float64]) -> _Aim:
    """Grasp the block, carry it high, lower it over the pad, let go and rise."""
    tool, way = moment.tool, pad - block.position
    off = float(np.linalg.norm(way[:2]))
    low = float(block.position[2]) < _LOW_M + 0.010
    if off < ON_PAD_M / 2 and low:
        return _Aim(np.array([*tool[:2], _HIGH_M if moment.opening > 0.028 else tool[2]]), 1.0, near_m=_QUIET_M / 4)
    if not _in_hand(moment, block):
        return _grasp(moment, block)
    over = np.array([tool[0] + way[0], tool[1] + way[1], _LOW_M + 0.004])
    return _descend(moment, over, 0.0, wide_m=0.008, high=_HIGH_M + 0.02, step_m=_CARRY_STEP_M)


def _descend(
    moment: Moment,
    place: NDArray[np.float64],
    gripper: float,
    *,
    wide_m: float,
    high: float = _HIGH_M,
    step_m: float = _STEP_M,
) -> _Aim:
    """To a place (3,) from above, through a funnel that is ``wide_m`` wide at its end; sideways only when high."""
    tool, way = moment.tool, (place - moment.tool)[:2]
    off = float(np.linalg.norm(way))
    height = place[2] + float(np.clip((off - wide_m) / 0.03, 0.0, 1.0)) * (high - place[2])
    # how freely it may go sideways: not at all among blocks, unless only a little is left to go
    free = 1.0 if off < 0.02 else float(np.clip((tool[2] - 0.055) / (high - 0.07), 0.0, 1.0))
    sideways = _shortened(np.append(way * free, 0.0), _STEP_M)
    above = float(tool[2] - place[2])
    return _Aim(np.array([tool[0] + sideways[0], tool[1] + sideways[1], height]), gripper, off + above / 2, step_m)


def _in_hand(moment: Moment, block: Block) -> bool:
    return holds(moment, block) and moment.opening < HELD_OPENING_M[1] - 0.001


def _shortened(vector: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """(3,) the vector, shortened to ``length`` if it is longer."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)
