"""Chunk execution: which command is in force at a given time.

An action of a chunk is *due* at an absolute time, so the time that inference took needs no handling of its own:
when a chunk arrives, the actions whose time has passed are skipped because they are in the past.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import rotation
from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

Strategy = Callable[[ActionChunk | None, ActionChunk], ActionChunk]
"""How a chunk in execution and a newly decided one become the chunk to execute; it may be any pure function."""


def replace(_current: ActionChunk | None, new: ActionChunk) -> ActionChunk:
    """The strategy that trusts the newest decision entirely."""
    return new


class ChunkExecutor:
    """Holds the chunk in execution and reads commands from it by time. Not thread-safe: the caller locks."""

    def __init__(self, contract: Contract, *, max_age_ns: int, strategy: Strategy = replace) -> None:
        """`max_age_ns`: how far a chunk's first due time may be from now [ns], so that a robot comes to rest when its
        policy has died or the clock has jumped."""
        if max_age_ns <= 0:
            raise UserError("the greatest age of a chunk must be above 0 ns")
        self._binary = contract.binary
        self._orientations = contract.orientations
        self._velocity = contract.velocity
        self._step_ns = contract.step_ns
        self._max_age_ns = max_age_ns
        self._strategy = strategy
        self._chunk: ActionChunk | None = None

    @property
    def chunk(self) -> ActionChunk | None:
        """The chunk in execution."""
        return self._chunk

    def set_chunk(self, chunk: ActionChunk) -> None:
        """Take a new decision; one that follows another instruction replaces the old whatever the strategy."""
        steps, size = len(chunk.due_ns), len(self._binary)
        if steps == 0 or chunk.actions.shape != (steps, size) or np.any(np.diff(chunk.due_ns) <= 0):
            raise ValueError(
                f"a chunk needs actions of shape (n, {size}) and n increasing due times, "
                f"not {chunk.actions.shape} and {chunk.due_ns.shape}"
            )
        if self._chunk is None or self._chunk.instruction != chunk.instruction:
            self._chunk = chunk
        else:
            self._chunk = self._strategy(self._chunk, chunk)

    def clear(self) -> None:
        """Drop the chunk: nothing is in force until the next one."""
        self._chunk = None

    def command(self, now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) the action in force at `now_ns`, absolute, binary dimensions 0 or 1; None: hold.

        Between due times continuous dimensions are interpolated linearly and binary ones keep the earlier action;
        orientations relative to a tool frame go the short way and stay unit quaternions;
        before the first due time the first action is in force, after the last the last one. A velocity is in force
        only from the first due time until one step after the last; it is 0 otherwise.
        """
        found = self._in_force(now_ns)
        if found is not None and self._chunk is not None and self._velocity.any():
            due_ns = self._chunk.due_ns
            if not int(due_ns[0]) <= now_ns <= int(due_ns[-1]) + self._step_ns:
                found[self._velocity] = 0.0
        return found

    def ahead(self, now_ns: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(n, action_dim) actions that are due after `now_ns` and (n,) when [ns]; none without a chunk."""
        if self._chunk is None:
            return np.zeros((0, len(self._binary))), np.zeros(0, np.int64)
        later = self._chunk.due_ns > now_ns
        return self._chunk.actions[later].astype(np.float64), self._chunk.due_ns[later]

    def _in_force(self, now_ns: int) -> NDArray[np.float64] | None:
        chunk = self._chunk
        if chunk is None or abs(now_ns - int(chunk.due_ns[0])) > self._max_age_ns:
            return None
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
