"""Walls that a tool must not pass while its velocity is commanded: the nearer one is, the slower towards it.

Pure, as all of safety. Positions of a tool need none: the limits of x, y and z are a box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import POSITION, Contract

APPROACH_S = 0.2
"""A wall is approached so slowly that it would take this time to reach it [s]: room for an arm that lags behind."""

Places = Mapping[str, NDArray[np.floating]]
"""State source → (len(dims),) its newest values."""


class Walls:
    """Of a contract's commands of velocity with a ``workspace``, how fast they may still go."""

    def __init__(self, contract: Contract, acceleration: NDArray[np.float64], period_s: float) -> None:
        """`acceleration`: (action_dim,) [unit/s^2], infinite without limit; `period_s`: longest time that a command
        stays in force, when all goes well [s]."""
        self._acceleration, self._period_s = acceleration, period_s
        self._walls: list[tuple[int, str, int, tuple[float, float]]] = []  # action, source, place in it, low and high
        dims = {source.name: source.dims for source in contract.state}
        for command in contract.commands:
            for axis in POSITION if command.workspace is not None else ():
                assert command.workspace is not None
                span = getattr(command.workspace, axis)
                if span is not None:
                    source = command.workspace.pose
                    action = contract.action_names.index(f"linear_{axis}")
                    self._walls.append((action, source, dims[source].index(axis), span))

    def __bool__(self) -> bool:
        return bool(self._walls)

    def unknown(self, places: Places) -> str | None:
        """A state source that has not told where a tool is; None: all have."""
        for _, source, index, _ in self._walls:
            if source not in places or not math.isfinite(float(places[source][index])):
                return source
        return None

    def speeds(
        self, places: Places, ages_s: Mapping[str, float], last: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(action_dim,) the lowest and the highest velocity that keep tools inside, infinite where there is no wall.

        A tool at d from a wall, braking by at most a and heard of again after T, may go at u with
        u T + u^2 / (2 a) <= d, so u <= a (sqrt(T^2 + 2 d / a) - T); d is less by what it went since it was measured.
        Outside, it may only come back. `last`: (action_dim,) velocities in force.
        """
        low, high = np.full(len(last), -np.inf), np.full(len(last), np.inf)
        for action, source, index, (lowest, highest) in self._walls:
            place, speed = float(places[source][index]), float(last[action])
            since_s = max(ages_s.get(source, 0.0), 0.0)
            low[action] = -self._towards(place - lowest - max(-speed, 0.0) * since_s, action)
            high[action] = self._towards(highest - place - max(speed, 0.0) * since_s, action)
        return low, high

    def _towards(self, way: float, action: int) -> float:
        if way <= 0.0:
            return 0.0
        a, period = float(self._acceleration[action]), self._period_s
        slow = way / max(APPROACH_S, period)
        return slow if a == math.inf else min(slow, a * (math.sqrt(period**2 + 2.0 * way / a) - period))
