"""Policy heads: from action latents to a chunk of actions. A new head is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.options import build
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead, options_of
from robovlm_ros.vlm.heads.diffusion import DiffusionHead, DiffusionOptions
from robovlm_ros.vlm.heads.discrete import DiscreteHead, DiscreteOptions
from robovlm_ros.vlm.heads.flow import FlowHead, FlowOptions
from robovlm_ros.vlm.heads.gpt import GPTHead, GPTOptions
from robovlm_ros.vlm.heads.lstm import LSTMHead, LSTMOptions
from robovlm_ros.vlm.heads.mlp import MLPHead, MLPOptions

HEADS: dict[str, tuple[Any, type[Any]]] = {
    "mlp": (MLPHead, MLPOptions),
    "lstm": (LSTMHead, LSTMOptions),
    "gpt": (GPTHead, GPTOptions),
    "flow": (FlowHead, FlowOptions),
    "diffusion": (DiffusionHead, DiffusionOptions),
    "discrete": (DiscreteHead, DiscreteOptions),
}
"""Name → (head, its options)."""


def head_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """``type`` and all options of that head, defaults filled in; UserError lists the valid ones."""
    kind = values.get("type", "mlp")
    if kind not in HEADS:
        raise UserError(f"head '{kind}' is not one of: {', '.join(HEADS)}")
    options = build(HEADS[kind][1], {key: value for key, value in values.items() if key != "type"}, f"head '{kind}'")
    return {"type": kind, **options_of(type(options), vars(options))}


def build_head(shape: HeadShape, values: Mapping[str, Any]) -> PolicyHead:
    """The head that a configuration asks for; UserError when it cannot have the window."""
    filled = head_options(values)
    kind = filled.pop("type")
    head, options = HEADS[kind]
    if shape.window > 1 and not head.fuses_history:
        fusing = ", ".join(name for name, (one, _) in HEADS.items() if one.fuses_history)
        raise UserError(
            f"head '{kind}' looks at one observation, but window is {shape.window}: "
            f"choose one of the heads {fusing}, or history one_step"
        )
    built: PolicyHead = head(shape, build(options, filled, "head"))
    return built
