"""Chunk execution: which command is in force at a given time.

An action of a chunk is *due* at an absolute time, so the time that inference took needs no handling of its own:
when a chunk arrives, the actions whose time has passed are skipped because they are in the past.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.rtc import Committed
from robovlm_ros.runtime.strategies import FIRST, Decision, Strategy


class ChunkExecutor:
    """Holds the newest decisions and reads commands from them by time. Not thread-safe: the caller locks."""

    def __init__(self, contract: Contract, *, max_age_ns: int, strategy: Strategy = FIRST) -> None:
        """`max_age_ns`: how far a chunk's first due time may be from now [ns], so that a robot comes to rest when its
        policy has died or the clock has jumped."""
        if max_age_ns <= 0:
            raise UserError("the greatest age of a chunk must be above 0 ns")
        self._binary = contract.binary
        self._orientations = contract.orientations
        self._velocity = contract.velocity
        self._step_ns = contract.step_ns
        self._max_age_ns = max_age_ns
        self.strategy = strategy
        """How decisions become commands; it may change at any time."""
        self._decisions: list[Decision] = []  # oldest first, all for one instruction

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest decision."""
        return self._decisions[-1].chunk if self._decisions else None

    def set_chunk(self, chunk: ActionChunk, now_ns: int | None = None) -> None:
        """Take a new decision, at `now_ns`, None: when it was first due; one that follows another instruction replaces
        the old ones whatever the strategy."""
        steps, size = len(chunk.due_ns), len(self._binary)
        if steps == 0 or chunk.actions.shape != (steps, size) or np.any(np.diff(chunk.due_ns) <= 0):
            raise ValueError(
                f"a chunk needs actions of shape (n, {size}) and n increasing due times, "
                f"not {chunk.actions.shape} and {chunk.due_ns.shape}"
            )
        taken_ns = int(chunk.due_ns[0]) if now_ns is None else now_ns
        if self._decisions and self._decisions[-1].chunk.instruction != chunk.instruction:
            self._decisions.clear()
        self._decisions = [*self._in_force(taken_ns), Decision(chunk=chunk, taken_ns=taken_ns)]
        while len(self._decisions) > self.strategy.memory:
            del self._decisions[1 if self.strategy.memory > 1 else 0]

    def clear(self) -> None:
        """Drop all decisions: nothing is in force until the next one."""
        self._decisions.clear()

    def command(self, now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) the action in force at `now_ns`, absolute, binary dimensions 0 or 1; None: hold.

        Of each chunk, continuous dimensions are interpolated linearly between due times and binary ones keep the
        earlier action; before the first due time the first action is in force, after the last the last one. A velocity
        is in force only from the first due time until one step after the last; it is 0 otherwise. What the chunks of
        the strategy say is averaged; orientations relative to a tool frame go the short way and stay unit quaternions.
        """
        decisions = self._in_force(now_ns)
        if not decisions or self._too_old(decisions[-1], now_ns):
            return None
        return self._mixed(decisions, now_ns)

    def said(self, now_ns: int) -> NDArray[np.float64]:
        """(action_dim,) what the newest decision alone says of `now_ns`; ValueError without one."""
        if not self._decisions:
            raise ValueError("there is no decision")
        return self._said(self._decisions[-1].chunk, now_ns)

    def committed(self, stamp_ns: int, arrival_ns: int | None) -> Committed | None:
        """What the newest decision says of the steps of one that will rest on an observation of this stamp and come at
        `arrival_ns`, None: at once; None: there is nothing that a decision should go on from."""
        if not self._decisions or self.strategy.guidance is None or self._too_old(self._decisions[-1], stamp_ns):
            return None
        chunk = self._decisions[-1].chunk
        due_ns = np.arange(stamp_ns, int(chunk.due_ns[-1]) + 1, self._step_ns, dtype=np.int64)
        actions = np.array([self._said(chunk, int(due)) for due in due_ns])  # (n, action_dim)
        if not len(due_ns) or stamp_ns < int(chunk.due_ns[0]) or not np.isfinite(actions).all():
            return None
        frozen = 0 if arrival_ns is None else (arrival_ns - stamp_ns) // self._step_ns + 2  # on its way to the last
        return Committed(actions=actions, frozen=min(frozen, len(actions)), guidance=self.strategy.guidance)

    def ahead(self, now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(n, action_dim) actions that are due after `now_ns` and (n,) when [ns]; none without a chunk."""
        decisions = self._in_force(now_ns)
        if not decisions:
            return np.zeros((0, len(self._binary))), np.zeros(0, np.int64)
        due_ns = decisions[-1].chunk.due_ns
        due_ns = due_ns[due_ns > now_ns]
        actions = [self._mixed(decisions, int(due)) for due in due_ns]
        return np.array(actions).reshape(len(due_ns), len(self._binary)), due_ns

    def _too_old(self, decision: Decision, now_ns: int) -> bool:
        return abs(now_ns - int(decision.chunk.due_ns[0])) > self._max_age_ns

    def _in_force(self, now_ns: int) -> list[Decision]:
        """The decisions without those that have no say any more; the newest stays."""
        left = self._decisions
        while len(left) > 1 and (self._too_old(left[0], now_ns) or not self.strategy.weights(left, now_ns)[0]):
            left = left[1:]
        return left

    def _mixed(self, decisions: list[Decision], now_ns: int) -> NDArray[np.float64]:
        """(action_dim,) the mean of what decisions say, by the strategy's weights."""
        weights = self.strategy.weights(decisions, now_ns)
        says = [(w, self._said(d.chunk, now_ns)) for w, d in zip(weights, decisions, strict=True) if w > 0]
        newest = says[-1][1]
        if len(says) == 1:
            return newest
        mean = np.asarray(sum(w * values for w, values in says), np.float64)
        for index in self._orientations:
            near = [w * values[index] * (-1 if values[index] @ newest[index] < 0 else 1) for w, values in says]
            mean[index] = rotation.unit(np.sum(near, axis=0))
        return np.where(self._binary, mean >= 0.5, mean).astype(np.float64)

    def _said(self, chunk: ActionChunk, now_ns: int) -> NDArray[np.float64]:
        """(action_dim,) what one chunk says of `now_ns`."""
        found = self._interpolated(chunk, now_ns)
        if not int(chunk.due_ns[0]) <= now_ns <= int(chunk.due_ns[-1]) + self._step_ns:
            found[self._velocity] = 0.0
        return found

    def _interpolated(self, chunk: ActionChunk, now_ns: int) -> NDArray[np.float64]:
        after = int(np.searchsorted(chunk.due_ns, now_ns, side="right"))
        before = max(after - 1, 0)
        after = min(after, len(chunk.due_ns) - 1)
        start, end = chunk.actions[before], chunk.actions[after]  # (action_dim,) each
        if before >= after:
            return np.asarray(start, np.float64).copy()
        due = int(chunk.due_ns[before])
        share = (now_ns - due) / (int(chunk.due_ns[after]) - due)
        found = np.asarray(np.where(self._binary, start, start + share * (end - start)), np.float64)
        for index in self._orientations:
            nearer = -end[index] if start[index] @ end[index] < 0 else end[index]  # q and -q are one orientation
            found[index] = rotation.unit(start[index] + share * (nearer - start[index]))
        return found
