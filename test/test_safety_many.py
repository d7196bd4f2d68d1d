"""The safety filter against many random sequences of commands: none gets a forbidden one through.

All dimensions of a contract are judged beside each other, so that each of them is a sequence of its own. What may be
sent is worked out here once more, from what the contract says and from what was sent, not from the filter's state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robovlm_ros.contract import Contract
from robovlm_ros.safety import SafetyFilter

DIMS, COMMANDS = 100, 60
PERIOD_NS, RESTART_NS = 10_000_000, 500_000_000
TOLERANCE = 1e-7


def make_contract(rng: np.random.Generator) -> Contract:
    """So many actions with random limits: positions, velocities and a few that are binary."""
    dims: list[dict[str, Any]] = []
    for i in range(DIMS):
        low = float(rng.uniform(-2, 0.5))
        dim = {"name": f"a{i}", "unit": "rad", "limits": [low, low + float(rng.uniform(0.05, 4.0))]}
        kind = rng.choice(["plain", "slow", "inert", "inert", "speed", "binary"])
        if kind in ("slow", "inert"):
            dim["max_velocity"] = float(rng.uniform(0.1, 5.0))
        if kind == "inert":
            dim["max_acceleration"] = float(rng.uniform(0.2, 50.0))
            if rng.random() < 0.3:
                del dim["max_velocity"]
        if kind == "speed":
            dim |= {"unit": "rad/s", "limits": [-abs(low) - 0.1, 1.5], "max_acceleration": float(rng.uniform(0.5, 9.0))}
        if kind == "binary":
            dim["kind"] = "binary"
        dims.append(dim)
    kind = "std_msgs/msg/Float64MultiArray"
    return Contract.from_dict(
        {
            "name": "many", "rate_hz": 10.0,
            "cameras": {"front": {"topic": "/front", "width": 8, "height": 8}},
            "state": {"arm": {"topic": "/state", "type": kind, "dims": [f"s{i}" for i in range(DIMS)], "unit": "rad"}},
            "commands": {"all": {"topic": "/command", "type": kind, "dims": dims}},
        }
    )  # fmt: skip


def wish(rng: np.random.Generator, last: np.ndarray) -> np.ndarray:
    """(DIMS,) what somebody wants: near, far, to and fro, absurd, or no number at all."""
    kinds = rng.integers(0, 5, DIMS)
    found = np.choose(
        kinds,
        [
            last + rng.normal(0, 0.01, DIMS),
            rng.uniform(-4, 4, DIMS),
            np.where(rng.random(DIMS) < 0.5, -1e6, 1e6),
            last,
            rng.normal(0, 1e-9, DIMS),
        ],
    )
    if rng.random() < 0.03:
        found[rng.integers(DIMS)] = rng.choice([np.nan, np.inf, -np.inf])
    return found


def check_run(rng: np.random.Generator) -> int:
    """Send random commands through one filter; how many were passed."""
    contract = make_contract(rng)
    gate = SafetyFilter(contract, period_ns=PERIOD_NS, restart_after_ns=RESTART_NS)
    dims = contract.action_dims
    binary, moving = contract.binary, contract.velocity
    limits = np.where(binary[:, None], [0.0, 1.0], contract.limits)  # (DIMS, 2)
    fastest = np.array([dim.max_velocity or np.inf for dim in dims])
    hardest = np.array([dim.max_acceleration or np.inf for dim in dims])
    fastest = np.where(moving, np.minimum(fastest, hardest), fastest)  # of a velocity, its own rate of change
    hardest = np.where(moving | binary, np.inf, hardest)
    fastest = np.where(binary, np.inf, fastest)
    last: np.ndarray | None = None
    last_ns, now_ns, passed = 0, 10**15, 0
    rate = np.zeros(DIMS)
    for _ in range(COMMANDS):
        steps = rng.choice([0.0, 0.3, 1.0, 1.0, 1.0, 1.4, 2.5, 8.0, 70.0, -1.0, -80.0])
        now_ns += round(steps * PERIOD_NS)
        measured = rng.uniform(-3, 3, DIMS) if last is None or rng.random() < 0.2 else last + rng.normal(0, 0.01, DIMS)
        measured[rng.random(DIMS) < 0.1] = np.nan
        stale = rng.random() < 0.03
        wanted = wish(rng, np.zeros(DIMS) if last is None else last)
        verdict = gate.check(wanted, now_ns, ages_s={"front": 9.0 if stale else 0.1}, measured=measured)
        if stale or not np.isfinite(wanted).all():
            assert verdict.holding
            rate = np.zeros(DIMS)  # it stands still from here
            continue
        assert not verdict.holding
        sent = verdict.values
        assert sent is not None
        assert np.isfinite(sent).all()
        assert (sent >= limits[:, 0]).all()
        assert (sent <= limits[:, 1]).all()
        assert np.isin(sent[binary], (0.0, 1.0)).all()
        fresh = last is None or abs(now_ns - last_ns) > RESTART_NS
        seconds = (PERIOD_NS if fresh else min(max(now_ns - last_ns, 0), 2 * PERIOD_NS)) / 1e9
        if fresh:
            where = np.where(moving, 0.0, np.where(np.isfinite(measured), measured, np.nan if last is None else last))
            start, rate = np.clip(where, limits[:, 0], limits[:, 1]), np.zeros(DIMS)
            start = np.where(moving & np.isfinite(measured), np.clip(measured, limits[:, 0], limits[:, 1]), start)
        else:
            assert last is not None
            start = last
        known = np.isfinite(start)  # where a robot stands that nobody measures is where it is first sent to
        way = np.where(known, sent - start, 0.0)
        bound = np.isfinite(fastest)
        assert (np.abs(way)[bound] <= fastest[bound] * seconds + TOLERANCE).all()
        if seconds > 0:
            now_rate = np.where(known, way / seconds, 0.0)
            inert = np.isfinite(hardest)
            assert (np.abs(now_rate - rate)[inert] <= hardest[inert] * seconds + TOLERANCE / seconds).all()
            rate = now_rate
        else:
            assert (sent == start)[np.isfinite(hardest) & known].all()
        last, last_ns, passed = sent, now_ns, passed + 1
    return passed


@pytest.mark.parametrize("filters", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_random_sequence_of_commands_gets_one_through_that_is_out_of_bounds(filters: int) -> None:
    rng = np.random.default_rng(6)
    passed = sum(check_run(rng) for _ in range(filters))
    assert passed > 0.8 * filters * COMMANDS
