"""When a person commanded the robot in the policy's place, as the intervention topic told."""

from __future__ import annotations

from collections.abc import Sequence

from robovlm_ros.bags.schema import deserialize
from robovlm_ros.errors import UserError

TYPE = "std_msgs/msg/Bool"
"""Type of the topic: true from when a person takes over until they hand back."""
Span = tuple[int, int]
"""[begin, end) of an intervention [ns], times of receipt."""


class Interventions:
    """Makes spans of the messages of the topic, in the order of their receipt."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._since_ns: int | None = None

    def hear(self, data: bytes | memoryview, receive_ns: int) -> None:
        """A message (CDR bytes) and when it was received [ns]; one that is broken tells nothing."""
        try:
            person = bool(deserialize(data, TYPE).data)
        except UserError:
            return
        if person and self._since_ns is None:
            self._since_ns = receive_ns
        elif not person and self._since_ns is not None:
            self._spans.append((self._since_ns, receive_ns))
            self._since_ns = None

    def spans(self, end_ns: int) -> tuple[Span, ...]:
        """All of them; one that lasts ends at `end_ns` [ns]."""
        lasting = [] if self._since_ns is None else [(self._since_ns, end_ns)]
        return (*self._spans, *lasting)


def during(spans: Sequence[Span], time_ns: int) -> bool:
    """Whether a person commanded at that time."""
    return any(begin <= time_ns < end for begin, end in spans)
