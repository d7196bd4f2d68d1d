"""Teleoperation: what a person asks for becomes commands of the contract, through the safety filter.

Pure: no ROS, and time is an argument in nanoseconds. `keyboard` and `gamepad` make a `Wish` of keys and axes, a
`Teleoperator` makes a command of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.safety import SafetyFilter

SLOWEST, FASTEST, SPEED_STEP = 0.02, 1.0, 1.25
"""Share of the full speed that a person can choose, and the factor between one choice and the next."""
CROSSING_S = 5.0
"""A dimension without ``max_velocity`` crosses its limits in this time at full speed [s]."""
LEAD_S = 0.5
"""A commanded position runs ahead of the measured one by at most the way of this time [s]: an arm that is held up
does not store up a way to jump."""
ORDERS = ("take_over", "hand_back", "faster", "slower", "help")
"""What a person can ask for besides motion."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person asks for at one instant."""

    alive: bool
    """The dead-man's key is held: without it nothing moves."""
    direction: NDArray[np.float64]
    """(action_dim,) share of the chosen speed in -1..1; 0 for binary dimensions."""
    toggled: NDArray[np.bool_]
    """(action_dim,) binary dimensions that were switched since the wish before."""


class Teleoperator:
    """Turns wishes into commands: positions move with the chosen speed, velocities are set, binary ones switched.

    It starts from where the robot stands (the state dimension that an action is relative to, or the one of the same
    name), or from the newest command, whoever gave it, if that is near by. Not thread-safe: the caller locks.
    """

    def __init__(self, contract: Contract, *, period_ns: int, speed: float = 0.25) -> None:
        """`period_ns`: time between two commands [ns]; `speed`: share of the full speed."""
        dims = contract.action_dims
        self._dims = dims
        self._period_ns = period_ns
        self._speed = speed
        self.reasons: tuple[str, ...] = ()
        """Why the last wish was refused or changed."""
        self._binary = contract.binary
        self._limits = contract.limits  # (action_dim, 2)
        self._limits[self._binary] = (0.0, 1.0)
        self._is_velocity = contract.velocity  # (action_dim,)
        self._full = np.array(  # (action_dim,) full speed of positions [unit/s]
            [dim.max_velocity or (dim.limits[1] - dim.limits[0]) / CROSSING_S for dim in dims]
        )
        self._places = _measured_by(contract)
        walls = {command.workspace.pose for command in contract.commands if command.workspace is not None}
        self.sources = tuple(sorted({name for name, _ in self._places if name} | walls))
        """State sources that tell where the robot stands; commands stop when one is stale."""
        self._slices: dict[str, slice] = {}
        for command in contract.commands:
            first = max((place.stop for place in self._slices.values()), default=0)
            self._slices[command.name] = slice(first, first + len(command.dims))
        self._samples: dict[str, tuple[int, NDArray[np.float64]]] = {}
        self._newest = np.full(len(dims), math.nan)  # (action_dim,) newest command on the topics
        self._target: NDArray[np.float64] | None = None
        self._gate = SafetyFilter(contract, period_ns=period_ns)

    @property
    def moving(self) -> bool:
        """Whether the last wish led to a command."""
        return self._target is not None

    @property
    def interventions(self) -> Mapping[str, int]:
        """How often the safety filter intervened, by cause."""
        return self._gate.interventions

    @property
    def speed(self) -> float:
        """Share of the full speed."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._speed = min(max(value, SLOWEST), FASTEST)

    def measure(self, source: str, values: NDArray[np.floating], stamp_ns: int) -> None:
        """A state sample, in the order of the source's dims."""
        self._samples[source] = stamp_ns, np.asarray(values, np.float64)

    def hear(self, command: str, values: NDArray[np.floating]) -> None:
        """A command on the topics, of the policy or of our own."""
        self._newest[self._slices[command]] = values

    def command(self, wish: Wish, now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) what to send now, in chunk units; None: nothing.

        When the dead-man's key is released, velocities are once set to 0, at once and in one step; positions need
        nothing, since a robot stays where the last of them was.
        """
        if not wish.alive:
            return self.stop()
        target = self._start() if self._target is None else self._target
        if target is None:
            return None
        # An uneven timer makes no uneven way: each command is worth one period.
        way = wish.direction * self._full * self._speed * self._period_ns / 1e9  # (action_dim,)
        toggled = self._binary & wish.toggled
        position = self._near(target + way)
        velocity = np.where(wish.direction >= 0, self._limits[:, 1], -self._limits[:, 0]) * wish.direction * self._speed
        wanted = np.where(self._is_velocity, velocity, np.where(self._binary, target, position))
        return self.follow(np.where(toggled, 1.0 - target, wanted), now_ns)

    def follow(self, values: NDArray[np.floating], now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) what to send now so that the robot does what somebody else, an expert, wants."""
        verdict = self._gate.check(
            np.clip(values, self._limits[:, 0], self._limits[:, 1]),
            now_ns,
            ages_s=self.ages(now_ns),
            measured=self._measured(),
            places={name: values for name, (_, values) in self._samples.items()},
        )
        self.reasons = verdict.reasons
        if verdict.holding:
            return None
        self._target = verdict.values
        return verdict.values

    def stop(self) -> NDArray[np.float64] | None:
        """(action_dim,) what ends all motion, to be sent once; None: nothing is needed."""
        target, self._target = self._target, None
        self.reasons = ()
        if target is None:
            return None
        self._gate.restart()
        if not self._is_velocity.any():
            return None
        return np.where(self._is_velocity, 0.0, target)

    def ages(self, now_ns: int) -> dict[str, float]:
        """Source → age of its newest sample [s]; infinite if there is none."""
        return {
            name: (now_ns - self._samples[name][0]) / 1e9 if name in self._samples else math.inf
            for name in self.sources
        }

    def _measured(self) -> NDArray[np.float64]:
        """(action_dim,) where each dimension stands; NaN: not known. Velocities stand at 0."""
        measured = np.where(self._is_velocity, 0.0, math.nan)  # (action_dim,)
        for i, (source, index) in enumerate(self._places):
            if source in self._samples and not self._is_velocity[i]:
                measured[i] = self._samples[source][1][index]
        return measured

    def _start(self) -> NDArray[np.float64] | None:
        """(action_dim,) where the commands begin; None if that is not known, with the reason."""
        measured = self._measured()
        for i, dim in enumerate(self._dims):
            if dim.kind == "binary" and math.isfinite(measured[i]):
                measured[i] = float(measured[i] > 0.5 * (dim.limits[0] + dim.limits[1]))
        near = np.isnan(measured) | (np.abs(self._newest - measured) <= self._lead())
        # A binary one that is measured can mislead (fingers around a block are neither open nor closed).
        heard = np.isfinite(self._newest) & (near | self._binary) & ~self._is_velocity
        start = np.where(heard, self._newest, measured)
        start = np.where(self._binary & np.isnan(start), 0.0, start)
        unknown = [dim.name for dim, value in zip(self._dims, start, strict=True) if not math.isfinite(value)]
        if unknown:
            self.reasons = (f"where {', '.join(unknown)} stands is not known: no state has come, and no command",)
            return None
        return np.asarray(np.clip(start, self._limits[:, 0], self._limits[:, 1]), np.float64)

    def _near(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """(action_dim,) the target, at most the lead away from what is measured."""
        measured = self._measured()
        measured = np.where(np.isfinite(measured), measured, target)
        return np.clip(target, measured - self._lead(), measured + self._lead())

    def _lead(self) -> NDArray[np.float64]:
        """(action_dim,) how far a command may lead [unit]."""
        return self._full * max(self._speed, 0.1) * LEAD_S


def assignments(texts: Sequence[str], names: Sequence[str], what: str, value: str) -> dict[str, str]:
    """``NAME=value`` texts as a mapping; UserError, naming the parameter `what` and what a `value` is, for others."""
    found: dict[str, str] = {}
    for text in texts:
        if not text.strip():
            continue
        name, _, given = (part.strip() for part in text.partition("="))
        if not given:
            raise UserError(f"parameter '{what}': '{text}' is not ACTION={value}")
        if name not in names:
            raise UserError(f"parameter '{what}': '{name}' is not one of: {', '.join(names) or 'none'}")
        found[name] = given
    return found


def by_order(names: Sequence[str], values: Sequence[str], what: str, value: str) -> dict[str, str]:
    """Names and values in order; UserError if there are more names: then the parameter `what` must be given."""
    if len(names) > len(values):
        raise UserError(
            f"parameter '{what}': there are {len(names)} actions and {len(values)} defaults; name those to be moved, "
            f"e.g. ['{names[0]}={value}']"
        )
    return dict(zip(names, values, strict=False))


def _measured_by(contract: Contract) -> list[tuple[str, int]]:
    """For each action the state source and the index in it that tell where it stands; ("", 0): none."""
    places = {
        f"{source.name}.{dim}": (source.name, i) for source in contract.state for i, dim in enumerate(source.dims)
    }
    by_name: dict[str, tuple[str, int]] = {}
    for qualified, place in places.items():
        by_name.setdefault(qualified.partition(".")[2], place)
    return [
        places[measured] if measured else by_name.get(dim.name, ("", 0))
        for dim, measured in zip(contract.action_dims, contract.measured_by, strict=True)
    ]
