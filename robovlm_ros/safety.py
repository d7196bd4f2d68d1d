"""Safety: the one gate between any source of commands and the topics.

Pure: time comes in as integer nanoseconds, measurements as arrays. What leaves `SafetyFilter.check`
is finite, within the contract's limits, and changes no faster than the contract allows. To hold means to send nothing
new, and ends no velocity: what is sent when motion must end is `SafetyFilter.halt`.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import ActionDimension, Contract
from robovlm_ros.errors import UserError
from robovlm_ros.workspace import Places, Walls

CAUSES = ("not_finite", "limit", "velocity", "acceleration", "jump", "workspace", "stale")
"""What the filter may have to intervene for, the keys of `SafetyFilter.interventions`."""
ROUNDING = 1e-12
"""By how much a value may change and still count as unchanged [unit, unit/s]."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be sent."""

    values: NDArray[np.float64] | None
    """(action_dim,) values that are safe to send; when holding, the last safe ones with velocities 0 (None: nothing was
    safe yet)."""
    holding: bool
    """True: the request was refused, and nothing new may be sent."""
    reasons: tuple[str, ...] = ()
    """Why the request was refused or changed, one sentence each."""


class SafetyFilter:
    """Refuses what is not finite or rests on stale sources, and limits position and velocity.

    Values are in chunk units: a binary dimension is 0 or 1 (its ``max_velocity`` has no meaning here, since
    the message jumps between its two limits). The rate of change is limited against the value sent before, or,
    for the first value after a pause, against the measured one: a robot never jumps when a policy starts. A velocity
    that is not measured starts at 0; `halt` makes it 0 in one step.
    """

    def __init__(self, contract: Contract, *, period_ns: int, restart_after_ns: int = 500_000_000) -> None:
        """`period_ns`: nominal time between commands [ns]; `restart_after_ns`: a pause after which the robot may
        have been moved by others, so that the last sent value counts no more [ns].

        The time credited to one command is at most two periods: a late command earns no large step.
        """
        if period_ns <= 0 or restart_after_ns <= 0:
            raise UserError("the safety filter needs a positive command period and restart time [ns]")
        self._names = contract.action_names
        self._units = tuple(dim.unit for dim in contract.action_dims)
        self._binary = contract.binary
        self._limits = contract.limits  # (action_dim, 2)
        self._limits[self._binary] = (0.0, 1.0)
        self._orientations = contract.orientations
        self._moving = contract.velocity
        dims = contract.action_dims
        # (action_dim,) each; inf: unlimited
        acceleration = np.array([_bound(dim, dim.max_acceleration) for dim in dims])  # [unit/s^2]
        self._velocity = np.array([_bound(dim, dim.max_velocity) for dim in dims])  # [unit/s]
        self._velocity = np.where(self._moving, np.minimum(self._velocity, acceleration), self._velocity)
        self._acceleration = np.where(self._moving, math.inf, acceleration)
        self._inert = np.isfinite(self._acceleration)  # (action_dim,) positions that speed up and brake
        self._jump = np.array([_bound(dim, dim.max_jump) for dim in dims])  # [unit]
        self._max_age_s = {camera.name: camera.max_age_s for camera in contract.cameras}
        self._max_frozen_s = {c.unchanged: (c.name, c.max_frozen_s) for c in contract.cameras if c.max_frozen_s}
        self._max_age_s |= {source.name: source.max_age_s for source in contract.state}
        self._period_ns = period_ns
        self._restart_after_ns = restart_after_ns
        self._walls = Walls(contract, self._velocity, 2 * period_ns / 1e9)
        self._places: Places = {}
        self._last: NDArray[np.float64] | None = None
        self._last_ns: int | None = None
        self._rate: NDArray[np.float64] = np.zeros(len(dims))  # (action_dim,) of the last sent value [unit/s]
        self._wanted: NDArray[np.float64] | None = None
        self.interventions: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        """How often each of CAUSES made the filter refuse or change a command."""

    def restart(self) -> None:
        """Forget what was sent: the next command starts from the measured values."""
        self._last = self._wanted = None
        self._last_ns = None
        self._rate = np.zeros(len(self._names))

    def halt(self, now_ns: int) -> None:
        """All motion was ended at once, with velocities 0: the next command starts from there."""
        if self._last is not None and self._moving.any():
            self._last, self._last_ns = self._kept(), now_ns

    def check(
        self,
        values: NDArray[np.floating],
        now_ns: int,
        *,
        ages_s: Mapping[str, float] | None = None,
        measured: NDArray[np.floating] | None = None,
        places: Places | None = None,
    ) -> Verdict:
        """Judge one command.

        `values`: (action_dim,) wanted values. `ages_s`: source name → age of its newest sample [s], infinite when
        there was none; only the sources given are judged. `measured`: (action_dim,) see `measured_action`. `places`:
        where the tools of a ``workspace`` are; None: where they were.
        """
        stale = self.stale(ages_s or {})
        if stale:
            return self._refuse("stale", *stale)
        wanted = np.asarray(values, np.float64)
        if wanted.shape != (len(self._names),):
            raise ValueError(f"a command must have shape ({len(self._names)},), not {wanted.shape}")
        finite = np.isfinite(wanted)
        if not finite.all():
            names = ", ".join(name for name, ok in zip(self._names, finite, strict=True) if not ok)
            return self._refuse("not_finite", f"the policy gave no finite number for {names}")
        reasons: list[str] = []
        wanted = np.where(self._binary, wanted >= 0.5, wanted).astype(np.float64)
        self._turn_the_short_way(wanted, now_ns, measured)
        self._places = self._places if places is None else places
        unknown = self._walls.unknown(self._places)
        if unknown is not None:
            return self._refuse("stale", f"where the tool is ('{unknown}') is not known")
        jump = self._jumps(wanted, now_ns, measured)
        if jump:
            return self._refuse("jump", *jump)
        inside = np.clip(wanted, self._limits[:, 0], self._limits[:, 1])
        if not np.array_equal(inside, wanted):
            self.interventions["limit"] += 1
            reasons.append(self._changed("limited to", inside, wanted))
        if self._walls:
            last = np.zeros(len(inside)) if self._last is None or self._paused(now_ns) else self._last
            walls = self._walls.speeds(self._places, ages_s or {}, last)
            free, inside = inside, np.clip(inside, *walls)
            if not np.array_equal(inside, free):
                self.interventions["workspace"] += 1
                reasons.append(self._changed("kept within the workspace by", inside, free))
        safe = self._limit_velocity(inside, now_ns, measured)
        if _differ(safe, inside):
            self.interventions["velocity"] += 1
            reasons.append(self._changed("slowed down to", safe, inside))
        if self._walls:  # at a wall nothing goes on outwards, however hard it must brake
            safe = np.clip(safe, np.where(walls[0] < 0, -np.inf, 0.0), np.where(walls[1] > 0, np.inf, 0.0))
        if self._inert.any():
            slow, safe = safe, self._limit_acceleration(inside, safe, now_ns, measured)
            if _differ(safe, slow):
                self.interventions["acceleration"] += 1
                reasons.append(self._changed("accelerated to", safe, slow))
        self._last, self._last_ns = safe, now_ns
        return Verdict(values=safe.copy(), holding=False, reasons=tuple(reasons))

    def path(self, values: NDArray[np.floating], due_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, action_dim) safe values for those wanted at (n,) coming times [ns], each reached from the one before.

        They are judged as if each were sent when it is due; nothing counts as sent yet. Only the values before the
        first that is refused are given.
        """
        ahead = copy.copy(self)
        ahead.interventions = Counter(self.interventions)
        safe: list[NDArray[np.float64]] = []
        for wanted, due in zip(values, due_ns, strict=True):
            if ahead._last_ns is not None:
                ahead._period_ns = max(int(due) - ahead._last_ns, 1)
            verdict = ahead.check(wanted, int(due))
            if verdict.holding or verdict.values is None:
                break
            safe.append(verdict.values)
        return np.array(safe).reshape(len(safe), len(self._names))

    def _turn_the_short_way(
        self, wanted: NDArray[np.float64], now_ns: int, measured: NDArray[np.floating] | None
    ) -> None:
        """Write each orientation, q or -q, with the sign nearer to where the robot is: the same orientation.

        A driver may change the sign from one sample to the next. Limits of velocity would then lead the four numbers
        through zero, to an orientation that nobody asked for.
        """
        paused = self._last_ns is not None and abs(now_ns - self._last_ns) > self._restart_after_ns
        origin = measured if self._last is None or paused else self._last
        for index in self._orientations if origin is not None else ():
            if np.asarray(origin)[index] @ wanted[index] < 0:
                wanted[index] = -wanted[index]

    def _limit_velocity(
        self, wanted: NDArray[np.float64], now_ns: int, measured: NDArray[np.floating] | None
    ) -> NDArray[np.float64]:
        """(action_dim,) the value nearest to `wanted` that is reachable since the last command."""
        origin, seconds = self._origin(wanted, now_ns, measured)
        reach = np.full(wanted.shape, np.inf)  # (action_dim,)
        np.multiply(self._velocity, seconds, out=reach, where=np.isfinite(self._velocity))
        return np.clip(wanted, origin - reach, origin + reach)

    def _origin(
        self, wanted: NDArray[np.float64], now_ns: int, measured: NDArray[np.floating] | None
    ) -> tuple[NDArray[np.float64], float]:
        """(action_dim,) where the command starts, and the time that it is credited with [s]."""
        elapsed_ns = self._period_ns
        origin = self._last
        if self._last_ns is not None:
            elapsed_ns = now_ns - self._last_ns
            if abs(elapsed_ns) > self._restart_after_ns:  # a pause, or a clock that jumped
                origin = None
        if origin is None:
            elapsed_ns = self._period_ns
            origin = np.where(self._binary, np.nan, measured) if measured is not None else np.full(wanted.shape, np.nan)
            fallback = wanted if self._last is None else self._last
            fallback = np.where(self._moving, 0.0, fallback)
            origin = np.where(np.isfinite(origin), origin, fallback)
            # A robot that stands outside its limits must come inside at once: limits before velocity.
            origin = np.clip(origin, self._limits[:, 0], self._limits[:, 1])
        return origin, min(max(elapsed_ns, 0), 2 * self._period_ns) / 1e9

    def _paused(self, now_ns: int) -> bool:
        """Whether the last value that was sent counts no more."""
        return self._last_ns is None or abs(now_ns - self._last_ns) > self._restart_after_ns

    def _jumps(
        self, wanted: NDArray[np.float64], now_ns: int, measured: NDArray[np.floating] | None
    ) -> tuple[str, ...]:
        """Why the first command after a pause must be refused; empty: it need not."""
        if measured is None or not np.isfinite(self._jump).any() or not self._paused(now_ns):
            return ()
        way = np.abs(wanted - np.where(np.isfinite(measured), measured, wanted))  # (action_dim,)
        return tuple(
            f"{name} would jump by {by:.4g} {unit} from where the robot stands (at most {most:g} {unit})"
            for name, unit, by, most in zip(self._names, self._units, way, self._jump, strict=True)
            if by > most
        )

    def _limit_acceleration(
        self,
        wanted: NDArray[np.float64],
        slow: NDArray[np.float64],
        now_ns: int,
        measured: NDArray[np.floating] | None,
    ) -> NDArray[np.float64]:
        """(action_dim,) `slow`, with what is inert brought on its way to `wanted` at rates that it can reach.

        With x the last value, v its rate, T the time and a the limit, the next rate u keeps |u - v| <= a T, and from
        u the robot can stop within its limits: u T + u^2 / (2 a) <= d = high - x, so u <= a (sqrt(T^2 + 2 d / a) - T);
        likewise below. Braking in steps takes no longer way than braking evenly, so that the next step can keep both,
        whatever its time. What is wanted is reached exactly if its own rate can be matched there; else it is approached
        such that the difference in rates ends where the difference in place does.
        """
        origin, seconds = self._origin(wanted, now_ns, measured)
        rate = np.zeros(len(wanted)) if self._paused(now_ns) else self._rate  # v
        if seconds <= 0.0:
            return np.where(self._inert, origin, slow)
        a = np.where(self._inert, self._acceleration, 1.0)
        steps = a * seconds
        own = np.zeros(len(wanted)) if self._wanted is None else (wanted - self._wanted) / seconds
        own = np.clip(own, -self._velocity, self._velocity)  # the rate of what is wanted

        def stopping(way: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(a * (np.sqrt(seconds**2 + 2.0 * np.maximum(way, 0.0) / a) - seconds), np.float64)

        low = np.maximum(np.maximum(rate - steps, -self._velocity), -stopping(origin - self._limits[:, 0]))
        high = np.minimum(np.minimum(rate + steps, self._velocity), stopping(self._limits[:, 1] - origin))
        way = wanted - origin
        exact = way / seconds
        fits = (np.abs(exact - rate) <= steps * (1 + 1e-9)) & (np.abs(exact - own) <= steps * (1 + 1e-9))
        chosen = np.where(fits, exact, own + np.sign(way) * stopping(np.abs(way)))
        following = np.clip(chosen, np.minimum(low, high), high)  # (action_dim,) u
        self._rate = np.where(self._inert, following, 0.0)
        self._wanted = wanted
        there = np.where(fits & (following == exact), wanted, origin + following * seconds)
        there = np.clip(there, self._limits[:, 0], self._limits[:, 1])
        return np.where(self._inert, there, slow)

    def _refuse(self, cause: str, *reasons: str) -> Verdict:
        """Nothing new may be sent: the robot stands still from here."""
        self.interventions[cause] += 1
        self._rate, self._wanted = np.zeros(len(self._names)), None
        return Verdict(values=self._kept(), holding=True, reasons=reasons)

    def stale(self, ages_s: Mapping[str, float]) -> tuple[str, ...]:
        """Why the robot must hold by the age of its sources: source name → age [s]; empty: it need not."""
        reasons = []
        for name, age in ages_s.items():
            if name in self._max_frozen_s:
                camera, longest = self._max_frozen_s[name]
                if not age <= longest:
                    reasons.append(f"camera '{camera}' shows the same image for {age:.2f} s (limit {longest:g} s)")
                continue
            limit = self._max_age_s[name]
            if age == math.inf:
                reasons.append(f"nothing was received from '{name}' yet")
            elif not age <= limit:
                reasons.append(f"the newest sample of '{name}' is {age:.2f} s old (limit {limit:g} s)")
        return tuple(reasons)

    def _kept(self) -> NDArray[np.float64] | None:
        return None if self._last is None else np.where(self._moving, 0.0, self._last)

    def _changed(self, how: str, after: NDArray[np.float64], before: NDArray[np.float64]) -> str:
        return ", ".join(
            f"{name} {how} {new:.4g} (wanted {old:.4g}) {unit}"
            for name, unit, new, old in zip(self._names, self._units, after, before, strict=True)
            if new != old
        )


def _bound(dim: ActionDimension, limit: float | None) -> float:
    """A limit of a continuous dimension; infinite without one."""
    return math.inf if limit is None or dim.kind == "binary" else limit


def _differ(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether finite values differ by more than rounding; `np.allclose` takes ten times as long, in every command."""
    return bool((np.abs(one - other) > ROUNDING).any())


def measured_action(contract: Contract, state: NDArray[np.floating]) -> NDArray[np.float64]:
    """(action_dim,) where the robot stands in terms of its actions, NaN where they are relative to nothing.

    `state`: (state_dim,) in the order of ``contract.state_names``.
    """
    padded = np.append(np.asarray(state, np.float64), np.nan)  # (state_dim + 1,); index -1 takes the NaN
    return np.asarray(padded[contract.measured_index], np.float64)
