"""Policy heads: from action latents to a chunk of actions. A new head is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.options import build
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead, options_of
from robovlm_ros.vlm.heads.mlp import MLPHead, MLPOptions

HEADS: dict[str, tuple[Any, type[Any]]] = {
    "mlp": (MLPHead, MLPOptions),
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
    """The head that a configuration asks for."""
    filled = head_options(values)
    head, options = HEADS[filled.pop("type")]
    built: PolicyHead = head(shape, build(options, filled, "head"))
    return built
