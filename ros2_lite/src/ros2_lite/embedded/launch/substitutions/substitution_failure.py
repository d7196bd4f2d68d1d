"""The error of substitutions."""

from __future__ import annotations


class SubstitutionFailure(RuntimeError):  # noqa: N818 (the name that launch files know)
    """A substitution has no text in this context; the message says why."""
