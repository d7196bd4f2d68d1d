"""The base of conditions on actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Condition:
    """A yes or no that is decided when the action that carries it is visited."""

    def __init__(self, *, predicate: Callable[[LaunchContext], bool] | None = None) -> None:
        self._predicate = predicate

    def describe(self) -> str:
        """Return a one-line description."""
        return f"{type(self).__name__}()"

    def evaluate(self, context: LaunchContext) -> bool:
        """Return whether the condition holds in ``context``."""
        return self._predicate is not None and self._predicate(context)
