"""The base of events."""

from __future__ import annotations


class Event:
    """Something that happened, or that is asked to happen; event handlers are matched against it."""

    name = "launch.Event"

    def __str__(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"
