"""Functions that pick nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["matches_node_name"]


def matches_node_name(node_name: str) -> Callable[[Any], bool]:
    """Pick the node actions of this full name."""
    wanted = node_name if node_name.startswith("/") else f"/{node_name}"
    return lambda action: bool(action.node_name == wanted)
