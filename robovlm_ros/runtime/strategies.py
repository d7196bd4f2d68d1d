"""Strategies: which decisions make the command of an instant, and with which share.

A strategy is a pure function of time and of the newest decisions, each with the time at which it came; all weigh by
due times alone, so that the time that inference took needs no handling of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.action import ActionChunk
from robovlm_ros.errors import UserError

STRATEGIES = ("first", "receding", "ensemble", "blend", "rtc")
"""Names of the strategies."""
MEMORY = 64
"""Decisions that a strategy remembers at most."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A chunk, and when it came."""

    chunk: ActionChunk
    """What was decided."""
    taken_ns: int
    """When it was decided [ns]: after inference, so behind the first due time."""


Weights = Callable[[Sequence[Decision], int], NDArray[np.float64]]
"""(decisions, oldest first, and the time now [ns]) → (n,) the share of each in the command, at least 0, 1 in all."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way to make commands of decisions."""

    weights: Weights
    """Shares of the decisions. A leading one that has none never gets one again, and is forgotten."""
    memory: int = MEMORY
    """Decisions to remember; of more, the oldest and the newest ones stay."""
    guidance: float | None = None
    """How much a decision is drawn towards the one before it, at most; None: it is made anew."""


def make_strategy(
    name: str, *, step_ns: int, execute_steps: int, ensemble_decay: float, blend_s: float, rtc_guidance: float = 5.0
) -> Strategy:
    """The strategy of that name; UserError with the valid ones otherwise.

    - ``first``: the newest decision alone.
    - ``receding``: of each chunk its first `execute_steps` actions, by their due times; then the newest decision.
    - ``ensemble``: all chunks that reach to now, weighted exp(-`ensemble_decay` i), i = 0 for the oldest (Zhao et al.
      2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", section IV-A).
    - ``blend``: each new decision takes over linearly within `blend_s`; the command has no jump.
    - ``rtc``: each new decision begins with what the one before has committed, and is drawn towards the rest of it by
      at most `rtc_guidance` (`robovlm_ros.runtime.rtc`).
    """
    if name == "first":
        return FIRST
    if name == "receding":
        return Strategy(
            weights=lambda decisions, now_ns: _receding(decisions, now_ns, execute_steps, step_ns), memory=2
        )
    if name == "ensemble":
        return Strategy(weights=lambda decisions, now_ns: _ensemble(decisions, now_ns, ensemble_decay, step_ns))
    if name == "blend":
        return Strategy(weights=lambda decisions, now_ns: _blend(decisions, now_ns, blend_s))
    if name == "rtc":
        return dataclasses.replace(FIRST, guidance=rtc_guidance)
    raise UserError(f"strategy '{name}' is not one of: {', '.join(STRATEGIES)}")


def _only(count: int, index: int) -> NDArray[np.float64]:
    weights = np.zeros(count)
    weights[index] = 1.0
    return weights


def _receding(decisions: Sequence[Decision], now_ns: int, steps: int, step_ns: int) -> NDArray[np.float64]:
    due_ns = decisions[0].chunk.due_ns
    end_ns = int(due_ns[min(steps, len(due_ns)) - 1]) + step_ns
    return _only(len(decisions), 0 if int(due_ns[0]) <= now_ns < end_ns else -1)


def _ensemble(decisions: Sequence[Decision], now_ns: int, decay: float, step_ns: int) -> NDArray[np.float64]:
    reach = [int(d.chunk.due_ns[0]) <= now_ns <= int(d.chunk.due_ns[-1]) + step_ns for d in decisions]
    if not any(reach):
        return _only(len(decisions), -1)
    place = np.cumsum(reach) - 1  # (n,) 0 for the oldest that reaches to now
    weights = np.where(reach, np.exp(-decay * place), 0.0)
    return np.asarray(weights / weights.sum(), np.float64)


def _blend(decisions: Sequence[Decision], now_ns: int, blend_s: float) -> NDArray[np.float64]:
    weights, left = np.zeros(len(decisions)), 1.0
    for i in range(len(decisions) - 1, 0, -1):  # the newest first; what it leaves is for those before it
        since_s = (now_ns - decisions[i].taken_ns) / 1e9
        share = min(since_s / blend_s, 1.0) if blend_s > 0 and since_s >= 0 else 1.0  # below 0: the clock has jumped
        weights[i] = left * share
        left *= 1.0 - share
    weights[0] = left
    return weights


FIRST = Strategy(weights=lambda decisions, _now_ns: _only(len(decisions), -1), memory=1)
"""Trust the newest decision entirely."""
