"""What a policy runs on: the fast stages that equal the plain ones here and now, found out before the first step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from robovlm_ros.checkpoints import PRECISIONS
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.fast import PARTS, FastStages, PlainStages
from robovlm_ros.runtime.graph import GraphStages
from robovlm_ros.runtime.preprocessing import NotFusedError
from robovlm_ros.runtime.quantised import Quantiser
from robovlm_ros.runtime.tape import NotRecordableError
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

GRAPH = "graph"
"""All of the step as one program."""
WHOLE, HALF, EIGHT = 1e-4, 5e-2, 0.3
"""Largest error of a fast part in float32; in half precision, where the plain forward rounds as much itself; and of the
text tower in eight bits: root mean square of the difference, as a share of the standard deviation of what the plain
forward gives."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall be fast."""

    parts: tuple[str, ...]
    """Of `robovlm_ros.runtime.fast.PARTS`."""
    by_name: bool
    """Whether they were asked for by name, so that one that cannot be is an error."""
    precision: str = "auto"
    """Of `robovlm_ros.checkpoints.PRECISIONS`."""


def fast_parts(fast: str, precision: str = "auto") -> Wanted:
    """What ``fast`` and ``precision`` ask for; UserError when they are none of these, or do not go together.

    auto: each part of the forward that equals the plain one here, on a CUDA device all of it as one graph; off: the
    plain forward; or names out of `PARTS`, separated by commas, or `GRAPH`, which then must be fast.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision '{precision}' is not one of: {', '.join(PRECISIONS)}")
    if precision != "auto" and fast not in ("auto", GRAPH) and "text" not in fast:
        raise UserError(f"precision '{precision}' is of the fast text tower: choose fast auto, or text among its parts")
    if fast in ("auto", "off"):
        return Wanted(parts=PARTS if fast == "auto" else (), by_name=False, precision=precision)
    names = tuple(name.strip() for name in fast.split(","))
    unknown = [name for name in names if name not in (*PARTS, GRAPH)]
    if unknown:
        raise UserError(f"fast '{unknown[0]}' is not one of: auto, off, or out of {', '.join((*PARTS, GRAPH))}")
    return Wanted(parts=names, by_name=True, precision=precision)


def make_stages(policy: ActionTokenPolicy, processor: ActionTokenProcessor, wanted: Wanted) -> PlainStages:
    """The stages of a control step; UserError when a part was asked for by name and cannot be fast.

    A part whose check fails is the plain one, and the log says so in a line.
    """
    if not wanted.parts:
        return PlainStages(policy, processor)
    limits = dict.fromkeys((*PARTS, GRAPH), WHOLE if policy.dtype == torch.float32 else HALF)
    if wanted.precision != "auto":
        limits["text"] = limits[GRAPH] = EIGHT
    if GRAPH in wanted.parts or (not wanted.by_name and policy.device.type == "cuda"):
        try:
            return _graph(GraphStages(policy, processor, make=_maker(wanted)), limits)
        except (NotRecordableError, NotFusedError) as error:
            if wanted.by_name:
                raise UserError(f"fast '{GRAPH}' cannot be with this policy: {error}; choose auto or off") from error
            _LOG.warning("no graph of the step: %s", error)
    stages = FastStages(policy, processor, parts=wanted.parts, make=_maker(wanted))
    stages.errors = errors(stages)
    failed = {part: _apart(found, limits[part]) for part, found in stages.errors.items() if not found <= limits[part]}
    for part, why in failed.items():
        stages.drop(part, why)
    for part in wanted.parts:
        if part in stages.why and (wanted.by_name or (part == "text" and wanted.precision != "auto")):
            raise UserError(f"fast '{part}' cannot be with this policy: {stages.why[part]}; choose auto or off")
    if failed:
        _LOG.warning("not fast: %s", "; ".join(f"{part} ({why})" for part, why in failed.items()))
    return stages if stages.parts else PlainStages(policy, processor)


def _maker(wanted: Wanted) -> Quantiser | None:
    return None if wanted.precision == "auto" else Quantiser(wanted.precision)


def _graph(stages: GraphStages, limits: Mapping[str, float]) -> GraphStages:
    """All of a step as one program; NotRecordableError when it differs from the plain forward."""
    stages.errors = errors(stages)
    for part, found in stages.errors.items():
        if not found <= limits[part]:
            raise NotRecordableError(_apart(found, limits[part]))
    return stages


def _apart(found: float, limit: float) -> str:
    return f"it differs from the plain forward by {found:.2g} of a deviation, above {limit:g}"


@torch.inference_mode()
def errors(stages: FastStages) -> dict[str, float]:
    """Part → error against the plain forward, for noise as images, state and instruction [share of a deviation].

    Image preparation is not among them: it is compared when it is made.
    """
    policy, processor = stages.policy, stages.processor
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, shape, dtype=np.uint8)
        for name, shape in zip(processor.cameras, stages.shapes, strict=True)
    }
    state = rng.normal(size=len(processor.contract.state_names)).astype(np.float32)
    seen = Observation(stamp_ns=0, images=images, state=state, instruction="go on and go")
    plain = PlainStages(policy, processor)
    inputs = plain.prepare(seen)
    features = plain.see(inputs)
    found = {}
    if stages.vision is not None:
        found["vision"] = _error(stages.vision(inputs["pixel_values"]), features)
    if stages.tower is None and stages.head is None:
        return found
    output = plain.decide(seen, inputs, features, None, None)
    if stages.tower is not None:
        found["text"] = _error(stages.latents(seen.instruction, features, inputs.get("state")), output.latents)
    assert output.latents is not None
    if isinstance(stages, GraphStages):
        stages.prepare(seen)
        found[GRAPH] = _error(stages.instruct(seen.instruction).run()[0], output.latents)
    if stages.head is not None:
        found["head"] = _error(stages.head(output.latents[:, None])[:, -1], output.actions)
    return found


def _error(found: torch.Tensor, wanted: torch.Tensor | None) -> float:
    """Root mean square of the difference as a share of the standard deviation; NaN where there is one."""
    assert wanted is not None
    if found.shape != wanted.shape:
        return float("inf")
    spread = wanted.float().std(unbiased=False).clamp(min=1e-6)
    return float((found.float() - wanted.float()).square().mean().sqrt() / spread)
