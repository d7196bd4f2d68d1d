"""An episode's commands once more, at a pace of one's own. Pure: time is an argument."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.reader import Commands
from robovlm_ros.errors import UserError


class Replay:
    """Where a replay has got to. Not thread-safe."""

    def __init__(self, commands: Commands, *, speed: float = 1.0) -> None:
        """`speed`: 1 is as it was recorded. UserError if the episode lacks one of its contract's commands."""
        if not speed > 0.0:
            raise UserError(f"a replay's speed must be above 0, not {speed:g}")
        for command, (stamps, _) in zip(commands.contract.commands, commands.tracks, strict=True):
            if not len(stamps):
                raise UserError(f"the episode holds no command on {command.topic}: there is nothing to replay")
        self._commands = commands
        self._speed = speed
        self._velocity = commands.contract.velocity  # (action_dim,)
        begin_ns = max(int(stamps[0]) for stamps, _ in commands.tracks)  # when all were given
        self._begin_ns, self._now_ns = begin_ns, begin_ns

    @property
    def share(self) -> float:
        """How much of the episode is through, 0 to 1."""
        length_ns = self._commands.end_ns - self._begin_ns
        return 1.0 if length_ns <= 0 else min((self._now_ns - self._begin_ns) / length_ns, 1.0)

    @property
    def over(self) -> bool:
        """Whether the last command was reached."""
        return self._now_ns > self._commands.end_ns

    def wanted(self) -> NDArray[np.float64]:
        """(action_dim,) the commands in force now, in chunk units; velocities as much slower as the replay is."""
        values, _ = self._commands.in_force(np.array([self._now_ns], np.int64))  # (1, action_dim)
        return np.where(self._velocity, values[0] * self._speed, values[0])

    def advance(self, elapsed_ns: int) -> None:
        """What was wanted has been sent, and so much time has passed [ns]."""
        self._now_ns += round(elapsed_ns * self._speed)
