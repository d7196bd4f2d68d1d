"""When a task is done, and where it can be done at all. Pure numpy, free of ROS and MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.sim.tasks import BLOCK_HEIGHT, PUT, REACH, Block, Order, Pad, Task, find_block, find_pad, outcome

PUSHED_M = 0.05
"""A push is done when the block has come this far to its side ..."""
ASTRAY_M = 0.03
"""... and less than this across it ..."""
DISTURBED_M = 0.02
"""... and no other block has moved by this [m]."""
LIFTED_M = 0.05
"""A lift is done when the block is held so far above the table [m]."""
ON_PAD_M = 0.03
"""A block lies on a pad when their middles are nearer than this [m]."""
WRONG_M = 0.03
"""Another block that was moved by so much [m] was taken for the one that was meant."""
HELD_OPENING_M = (0.012, 0.027)
"""Opening of each finger around a block [m]; empty, the gripper closes further."""
OPEN_M = 0.03
"""From this opening of each finger on the gripper counts as open [m]."""

RETRY = 1_000_000
"""A scene in which a task cannot be done is replaced by that of a seed so much further."""

_RESTING_M = BLOCK_HEIGHT / 2 + 0.01  # the centre of a block that lies on the table is lower
_CORRIDOR_M = 0.065  # other blocks' middles are at least so far aside from where a block is pushed along ...
_BEFORE_M, _BEHIND_M = 0.19, 0.115  # ... from so far before it to so far behind it, where the tool comes down
_FARTHEST_M = 0.25  # |y| to which a block may be pushed over _SHOWN_M and still be seen
_SHOWN_M = 0.10


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What the simulator's truth says at one instant."""

    tool: NDArray[np.float64]
    """(3,) the tool point in base_link [m]."""
    opening: float
    """Opening of each finger [m]."""
    blocks: Sequence[Block]
    pads: Sequence[Pad] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an episode ended."""

    success: bool
    wrong_target: bool
    """What was done was done to another block, or with another pad."""
    distance_m: float
    """What is missing: to the goal (reach), of the way (push), of the height (lift), to the middle of the pad (put)."""
    stages: dict[str, bool] = field(default_factory=dict)
    """What was achieved on the way."""


def judge(order: Order, start: Moment, end: Moment) -> Verdict:
    """How well what was asked for was done between two moments of one scene."""
    if order.task is REACH:
        reached = outcome(end.tool, end.blocks, order.colour)
        return Verdict(success=reached.success_4cm, wrong_target=reached.wrong_target, distance_m=reached.distance_m)
    block, before = find_block(end.blocks, order.colour), find_block(start.blocks, order.colour)
    moved = block.position - before.position  # (3,)
    others = [
        float(np.linalg.norm(other.position - find_block(start.blocks, other.colour).position))
        for other in end.blocks
        if other.colour != order.colour
    ]
    disturbed = max(others, default=0.0)
    wrong = disturbed >= WRONG_M
    if order.task.direction:
        along, aside = float(moved[1]) * order.task.direction, abs(float(moved[0]))
        return Verdict(
            success=along >= PUSHED_M and aside < ASTRAY_M and disturbed < DISTURBED_M,
            wrong_target=wrong,
            distance_m=max(0.0, PUSHED_M - along),
            stages={"moved": bool(np.linalg.norm(moved[:2]) >= 0.01), "straight": aside < ASTRAY_M},
        )
    grasped = holds(end, block)
    if order.task is not PUT:
        return Verdict(
            success=grasped and float(moved[2]) >= LIFTED_M,
            wrong_target=wrong,
            distance_m=max(0.0, LIFTED_M - float(moved[2])),
            stages={"held": grasped},
        )
    there = _beside(block, find_pad(end.pads, order.pad))
    rests = float(block.position[2]) < _RESTING_M
    elsewhere = any(_beside(block, pad) < ON_PAD_M for pad in end.pads if pad.colour != order.pad)
    return Verdict(
        success=there < ON_PAD_M and rests and end.opening >= OPEN_M,
        wrong_target=wrong or (rests and elsewhere),
        distance_m=there,
        stages={"moved": bool(np.linalg.norm(moved) >= 0.03), "over the pad": there < ON_PAD_M},
    )


def holds(moment: Moment, block: Block) -> bool:
    """The block is between the fingers, and they are at it."""
    low, high = HELD_OPENING_M
    way = block.position - moment.tool
    near = float(np.linalg.norm(way[:2])) < 0.03 and abs(float(way[2])) < 0.04
    return low < moment.opening < high and near


def possible(task: Task, moment: Moment) -> list[str]:
    """Colours of the blocks with which the task can be done here: a push needs a way that is free."""
    if not task.direction:
        return [block.colour for block in moment.blocks]
    return [block.colour for block in moment.blocks if _is_free(block, task.direction, moment.blocks)]


def find_scene(seed: int, tasks: Sequence[Task], look: Callable[[int], Moment]) -> tuple[int, Moment, list[str]]:
    """The first scene of ``seed``, ``seed`` + RETRY, ... in which all ``tasks`` can be done.

    ``look`` makes the scene of a seed. Returned are its seed, its first moment, and the colours for the last task.
    """
    while True:
        moment = look(seed)
        colours = [possible(task, moment) for task in tasks]
        if all(colours):
            return seed, moment, colours[-1]
        seed += RETRY


def _is_free(block: Block, direction: float, blocks: Sequence[Block]) -> bool:
    if direction * float(block.position[1]) + _SHOWN_M > _FARTHEST_M:
        return False
    ways = [other.position - block.position for other in blocks if other is not block]
    return not any(abs(way[0]) < _CORRIDOR_M and -_BEHIND_M < direction * float(way[1]) < _BEFORE_M for way in ways)


def _beside(block: Block, pad: Pad) -> float:
    """Distance of their middles on the table [m]."""
    return float(np.linalg.norm((block.position - pad.position)[:2]))
