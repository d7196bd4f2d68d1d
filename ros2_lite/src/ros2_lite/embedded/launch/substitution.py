"""The base of everything that becomes text only when the launch runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Substitution:
    """A piece of text that is known only at run time; subclasses implement :meth:`perform`."""

    def describe(self) -> str:
        """Return how ``--print`` and ``--show-args`` show this substitution."""
        return f"Substitution({self})"

    def perform(self, context: LaunchContext) -> str:
        """Return the text, evaluated in ``context``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement perform()")
