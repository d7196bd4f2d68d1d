"""Episodes of a policy in the simulator: a scene, an instruction, and what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from robovlm_ros.sim.measure import Moment, Verdict
    from robovlm_ros.sim.tasks import Block, Order, Task

STILL_M = 0.003
"""The arm has come to rest when the tool stays within this [m] ..."""
STILL_S = 0.6
"""... for so long [s]."""
DONE_S = 0.5
"""A task other than reaching is over when it has been done for so long [s]."""

REACTION_AFTER_NS = 500_000_000
"""How long the first instruction is followed before it is changed [ns]."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What happened in one episode."""

    seed: int
    """Seed of the scene."""
    instruction: str
    """What the policy was told."""
    target: str
    """Colour of the block that was meant."""
    distance_m: float
    """What was missing at the end: to the goal (reach), of the way (push), of the height (lift), to the pad [m]."""
    wrong_target: bool
    """Another block was taken, or another pad."""
    seconds: float
    """Length of the episode on the robot's clock [s]."""
    task: str = "reach"
    """Name of the task."""
    done: bool | None = None
    """Whether the task was done, by its own measure; None: reaching, which has its distance."""
    stages: dict[str, bool] = field(default_factory=dict)
    """What was achieved on the way."""

    @property
    def success(self) -> bool:
        """The task was done; for reaching: within 4 cm."""
        return self.distance_m < 0.04 if self.done is None else self.done


def scene_seed(seed: int, index: int) -> int:
    """Seed of the index-th scene: evaluation seeds are above ten million, training seeds below."""
    return 10_000_000 + seed * 10_000 + index


class Runner:
    """Runs one episode after another in a session."""

    def __init__(
        self, session: Any, seconds: float | None = None, lockstep: bool = False, *, held_out: bool = False
    ) -> None:
        """``seconds``: longest episode (None: as its task says); ``held_out``: sentences that no demonstration had."""
        self._session = session
        self._lockstep = lockstep
        self._seconds = seconds
        self._held_out = held_out
        self.first_ns = 0
        """Stamp at which the newest episode began [ns]."""

    def run(self, seed: int, task: Task, blank: bool = False) -> Episode:
        """One episode: a scene, an instruction (or one that names no target), and what came of it."""
        from robovlm_ros.sim.measure import find_scene
        from robovlm_ros.sim.tasks import blank_instruction, parse_order, sample_instruction

        session = self._session
        session.instruct("")  # the policy holds while the scene changes

        def look(seed: int) -> Moment:
            session.reset(seed)
            moment: Moment = session.moment()
            return moment

        seed, moment, colours = find_scene(seed, [task], look)
        instruction = sample_instruction(
            colours,
            np.random.default_rng(seed),
            task=task,
            pads=[pad.colour for pad in moment.pads],
            held_out=self._held_out,
        )
        order = parse_order(instruction)
        return self.follow(seed, blank_instruction(instruction) if blank else instruction, order)

    def follow(self, seed: int, instruction: str, order: Order) -> Episode:
        """Give an instruction in the present scene and watch until it is done or the time is over."""
        from robovlm_ros.sim.measure import judge
        from robovlm_ros.sim.tasks import REACH

        session = self._session
        session.spin(0.05)  # what was seen while nobody listened here is of the past
        start: Moment = session.moment()
        self.first_ns = begin = session.time_ns if self._lockstep else session.now_ns
        session.instruct(instruction)
        end = begin + round((self._seconds or order.task.seconds) * 1e9)
        reaches = order.task is REACH
        done = self._done(lambda: judge(order, start, session.moment()))

        def over() -> bool:
            return self._rests(begin) if reaches else done()

        session.wait(lambda: session.time_ns >= end or over(), 120.0, "the end of the episode")
        end = min(end, session.time_ns)
        result = judge(order, start, session.moment(session.tool_at(end)))
        return Episode(
            seed=seed,
            instruction=instruction,
            target=order.colour,
            distance_m=float(result.distance_m),
            wrong_target=bool(result.wrong_target),
            seconds=(end - begin) / 1e9,
            task=order.task.name,
            done=None if reaches else result.success,
            stages=result.stages,
        )

    def _done(self, verdict: Callable[[], Verdict]) -> Callable[[], bool]:
        """Says when a task has been done for DONE_S; asks once for each new observation."""
        since: int | None = None
        asked = 0

        def over() -> bool:
            nonlocal since, asked
            now = self._session.seen_ns
            if now > asked:
                asked = now
                since = (now if since is None else since) if verdict().success else None
            return since is not None and now - since >= DONE_S * 1e9

        return over

    def reactions(self, first_seed: int, count: int, *, moved: bool = False) -> list[float]:
        """Reaction times [s] in so many scenes in which two blocks lie on either side of the tool; see `react`."""
        times: list[float] = []
        for seed in itertools.count(first_seed):
            if len(times) == count:
                break
            time_s = self.react(seed, moved=moved)
            times += [] if time_s is None else [time_s]
        return times

    def react(self, seed: int, *, moved: bool = False) -> float | None:
        """Change the instruction under way; the time until the tool has turned and come 1 cm back [s].

        ``moved``: the instruction stays, and the block that it names changes places with the other one. None in a scene
        where both blocks lie on one side of the tool: there is nothing to turn for.
        """
        from robovlm_ros.sim.tasks import REACH, Block, goal_position, instruction_for

        session = self._session
        rng = np.random.default_rng(seed)
        session.instruct("")
        session.reset(seed)
        first, second = _either_side(session.poses[-1][1], session.blocks)
        way = (goal_position(second) - goal_position(first))[:2]
        way = way / np.linalg.norm(way)  # (2,) going to the first goal leads against it
        if (session.poses[-1][1] - goal_position(first))[:2] @ way < 0.03:
            return None
        if (goal_position(second) - session.poses[-1][1])[:2] @ way < 0.03:
            return None
        begin = session.time_ns
        session.instruct(instruction_for(first.colour, rng))
        session.wait(lambda: session.time_ns >= begin + REACTION_AFTER_NS, 60.0, "the first half second")
        if not self._lockstep:  # at any moment between two observations, not just after one
            session.spin(float(rng.uniform(0.0, session.contract.step_ns / 1e9)))
        change = session.time_ns if self._lockstep else session.now_ns
        if moved:
            session.move(
                [
                    Block(first.colour, second.position, second.orientation),
                    Block(second.colour, first.position, first.orientation),
                ]
            )
        else:
            session.instruct(instruction_for(second.colour, rng))
        limit_ns = (self._seconds or REACH.seconds) * 1e9
        least = float(session.poses[-1][1][:2] @ way)

        def turned() -> bool:
            nonlocal least
            along = float(session.poses[-1][1][:2] @ way)
            least = min(least, along)  # it still moves on towards the first goal
            return along > least + 0.01 or bool(session.time_ns - change > limit_ns)

        session.wait(turned, 60.0, "the reaction")
        return float(session.time_ns - change) / 1e9

    def _rests(self, begin_ns: int) -> bool:
        """The tool has hardly moved for a while (and was given time to start)."""
        poses = self._session.poses
        if not poses or poses[-1][0] - begin_ns < 1e9 + STILL_S * 1e9:
            return False
        since = poses[-1][0] - round(STILL_S * 1e9)
        recent = np.array([position for stamp, position in poses if stamp >= since])  # (n, 3)
        return bool(np.linalg.norm(recent - recent[-1], axis=1).max() < STILL_M)


def _either_side(tool: NDArray[np.float64], blocks: Sequence[Block]) -> tuple[Block, Block]:
    """Two blocks between which the tool is, as far as can be: going to the one leads away from the other."""
    from robovlm_ros.sim.tasks import goal_position

    def between(pair: tuple[Block, Block]) -> float:
        first, second = (goal_position(block)[:2] for block in pair)
        way = (second - first) / np.linalg.norm(second - first)  # (2,)
        return min(float((tool[:2] - first) @ way), float((second - tool[:2]) @ way))

    return max(itertools.permutations(blocks, 2), key=between)
