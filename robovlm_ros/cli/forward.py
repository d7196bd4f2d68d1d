"""One control step, three ways, in turns: the engine, the plain forward of transformers, and that compiled."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from robovlm_ros.cli.machine import Peak
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.costs import Ceilings, count, elapsed_s, total
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.plain import STAGES, PlainEngine
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

PICTURES = 8
"""Different observations that follow each other, so that no camera stands still."""
LEAST = 3
"""Rounds at least, however long they take."""
MOST_FAST = 20
"""Steps of the engine in one round at most: as many as take the time of one plain step."""
INSTRUCTION = "reach the red block"
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""By how much of an action's range the engine may differ from the plain forward, before it is said to be wrong."""

Infer = Callable[..., Any]


class Frames:
    """Observations at the contract's rate, without end."""

    def __init__(self, contract: Contract, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._contract, self._number = contract, 0
        self._images = [
            {
                camera.name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
                for camera in contract.cameras
            }
            for _ in range(PICTURES)
        ]

    def next(self) -> Observation:
        """Later by a step than the one before."""
        self._number += 1
        return Observation(
            stamp_ns=self._number * self._contract.step_ns,
            images=self._images[self._number % PICTURES],
            state=np.zeros(len(self._contract.state_names), np.float32),
            instruction=INSTRUCTION,
        )


def measure(
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    ceilings: Ceilings,
    seconds: float,
    *,
    compiled: bool = True,
    make_engine: Callable[[ActionTokenPolicy, ActionTokenProcessor], PolicyEngine] = PolicyEngine,
) -> dict[str, Any]:
    """The row of a configuration; UserError when the engine's actions are not those of the plain forward.

    Args:
        seconds: how long to measure, after everything has run once.
        compiled: also measure `torch.compile` of the plain forward.
        make_engine: what is measured as the fast way.
    """
    device, frames = policy.device, Frames(processor.contract)
    window = int(processor.config.window)
    costs = count(policy, {k: v.to(device) for k, v in processor.collate([processor(frames.next())]).items()})
    plain = PlainEngine(policy, processor)
    engine = make_engine(policy, processor)
    difference = _difference(engine, plain, frames, window)
    ways: dict[str, Infer] = {"fast": engine.infer, "eager": plain.infer}
    compiling: dict[str, Any] = {}
    if compiled:
        other, compiling = _compile(policy, processor, frames, window)
        if other is not None:
            ways["compiled"] = other.infer
    head = _HeadClock(engine)  # not before, for a compiler would stumble over it
    memory: dict[str, float | None] = {"weights_mb": round(_weights(policy) / 1e6, 1)}
    for name, infer in ways.items():
        memory[f"{name}_mb"] = _memory(infer, frames, device)
    samples: dict[str, list[float]] = {name: [] for name in ways}  # [s]
    stages: dict[str, list[dict[str, float]]] = {"fast": [], "eager": []}
    each = 1
    end = time.monotonic() + seconds
    while len(samples["eager"]) < LEAST or time.monotonic() < end:
        for name, infer in ways.items():
            for _ in range(each if name == "fast" else 1):
                head.seconds = 0.0
                observation = frames.next()
                samples[name].append(elapsed_s(partial(infer, observation), device)[0])
                if name == "fast":
                    taken = engine.stages_s
                    stages[name].append(_stages(taken, taken.get("head", head.seconds)))
                elif name == "eager":
                    stages[name].append(dict(plain.stages_s))
        each = int(np.clip(np.median(samples["eager"]) / np.median(samples["fast"]), 1, MOST_FAST))
    if device.type == "cuda":  # kernels run on while the host's clock is read: stages need a clock that waits
        stages = _synchronised(ways, engine, plain, frames, device)
    whole = total(costs)
    floor_ms = 1e3 * whole.floor_s(ceilings)
    fast = _percentiles(samples["fast"])
    eager = _percentiles(samples["eager"])
    return {
        "fast_p50_ms": fast[0],
        "fast_p99_ms": fast[1],
        "eager_p50_ms": eager[0],
        "compiled_p50_ms": _percentiles(samples["compiled"])[0] if "compiled" in samples else None,
        "speedup": round(eager[0] / fast[0], 3),
        "floor_ms": float(f"{floor_ms:.4g}"),
        "share_of_floor": float(f"{floor_ms / fast[0]:.4g}"),
        "stages": _stage_table(stages),
        "eager_p99_ms": eager[1],
        "difference": difference,
        "compile": compiling,
        "parameters": sum(weight.numel() for weight in policy.parameters()),
        "costs": {name: {"gflop": cost.flops / 1e9, "mb": cost.bytes / 1e6} for name, cost in costs.items()},
        "memory": memory,
        "samples_ms": {name: [round(1e3 * value, 4) for value in taken] for name, taken in samples.items()},
    }


def _difference(engine: PolicyEngine, plain: PlainEngine, frames: Frames, window: int) -> float:
    """Largest difference of actions, as a share of their range, over a full window; both have run then."""
    low, high = np.array([dim.limits for dim in engine.contract.action_dims]).T
    worst = 0.0
    for number in range(max(3, window + 1)):
        observation = frames.next()
        torch.manual_seed(number)  # heads that draw, draw the same
        wanted = plain.infer(observation)
        torch.manual_seed(number)
        found = engine.infer(observation).actions
        continuous = ~engine.contract.binary
        worst = max(worst, float((np.abs(found - wanted) / (high - low))[:, continuous].max()))
    tolerance = TOLERANCES[engine.policy.dtype]
    if not worst <= tolerance:
        raise UserError(
            f"the engine's actions differ from the plain forward's by {worst:.2g} of their range, more than "
            f"{tolerance:g}: it computes something else, and how fast says nothing"
        )
    return float(f"{worst:.3g}")


def _compile(
    policy: ActionTokenPolicy, processor: ActionTokenProcessor, frames: Frames, window: int
) -> tuple[PlainEngine | None, dict[str, Any]]:
    """The plain way compiled, after it has run on a full window; what it took, or why there is none."""
    torch._dynamo.reset()
    logging.getLogger("torch._dynamo").setLevel(
        logging.CRITICAL
    )  # that it cannot take all of it in one piece is part of the figure
    begin = time.monotonic()
    made = PlainEngine(policy, processor, wrap=torch.compile)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2 * window + 1):
                made.infer(frames.next())
    except Exception as error:  # whatever a compiler of some machine may raise: the others are still to be measured
        return None, {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    return made, {"seconds": round(time.monotonic() - begin, 1)}


class _HeadClock:
    """How long the policy head took in the newest step, where the engine calls it as a module."""

    def __init__(self, engine: PolicyEngine) -> None:
        self.seconds = 0.0
        engine.policy.head.register_forward_pre_hook(lambda *_: self._add(-1.0))
        engine.policy.head.register_forward_hook(lambda *_: self._add(1.0))

    def _add(self, sign: float) -> None:
        self.seconds += sign * time.perf_counter()


def _stages(taken: dict[str, float], head_s: float) -> dict[str, float]:
    """Of an engine's step, in the words of `STAGES`; engines may know themselves how long the head took."""
    head_s = taken.get("head", head_s)
    spans = (taken["prepare"], taken["vision"], taken["decode"] - head_s, head_s, taken["restore"])
    return dict(zip(STAGES, spans, strict=True))


def _synchronised(
    ways: dict[str, Infer], engine: PolicyEngine, plain: PlainEngine, frames: Frames, device: torch.device
) -> dict[str, list[dict[str, float]]]:
    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    found: dict[str, list[dict[str, float]]] = {"fast": [], "eager": []}
    for _ in range(PICTURES):
        ways["fast"](frames.next(), clock)
        found["fast"].append(_stages(engine.stages_s, engine.stages_s.get("head", 0.0)))
        ways["eager"](frames.next(), clock)
        found["eager"].append(dict(plain.stages_s))
    return found


def _stage_table(stages: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Stage → medians of both ways [ms], and how many times faster the engine's is."""
    table = {}
    for name in STAGES:
        fast, eager = (1e3 * float(np.median([row[name] for row in stages[way]])) for way in ("fast", "eager"))
        table[name] = {"fast_ms": round(fast, 4), "eager_ms": round(eager, 4)}
        if fast > 0:
            table[name]["ratio"] = round(eager / fast, 3)
    return table


def _percentiles(samples: list[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(np.array(samples) * 1e3, (50, 99))
    return round(float(p50), 4), round(float(p99), 4)


def _weights(policy: ActionTokenPolicy) -> int:
    return sum(weight.numel() * weight.element_size() for weight in policy.parameters())


def _memory(infer: Infer, frames: Frames, device: torch.device) -> float | None:
    """What one step holds at most beside what was there before it [MB]."""
    observation = frames.next()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        infer(observation)
        torch.cuda.synchronize(device)
        return round((torch.cuda.max_memory_allocated(device) - before) / 1e6, 1)
    peak = Peak()
    infer(observation)
    return peak.megabytes()
