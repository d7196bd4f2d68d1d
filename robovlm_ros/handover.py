"""Who commands the robot: a policy or a person, never both.

The protocol has two latched topics of ``std_msgs/Bool``. A teleoperation node says on the contract's
``intervention_topic`` that a person takes over (true) or hands back (false); a policy answers each of these messages
on `answer_topic` with whether it has yielded. The person's commands begin after the policy's "true", the policy's after
the person's "false"; whoever starts late finds the newest word of the other. A policy that yielded to a person whose
teleoperation node has died goes on yielding: the next such node takes the person's place. Pure: time is an argument.
"""

from __future__ import annotations

PATIENCE_NS = 2_000_000_000
"""How long a policy may take to answer [ns]."""
STATES = ("joining", "policy", "asking", "person", "returning")
"""What `Handover.state` can be: in ``joining``, ``asking`` and ``returning`` the policy's answer is awaited."""


def answer_topic(intervention_topic: str) -> str:
    """Where a policy says whether it has yielded."""
    return f"{intervention_topic}/yielded"


class Handover:
    """The teleoperation side of the protocol. Not thread-safe: the caller locks."""

    def __init__(self, now_ns: int, *, wait: bool, person: bool) -> None:
        """`wait`: there is a policy, whose word comes first; `person`: the person is to command from the start."""
        self.state = "joining"
        """One of STATES."""
        self.to_say: bool | None = None
        """What is to be said on the intervention topic; the caller says it and sets this to None."""
        self.refusal = ""
        """Why the last attempt to take over failed; empty: it did not."""
        self._person = person  # the person wants to command
        self._deadline_ns = now_ns + PATIENCE_NS
        if not wait:
            self._enter("person" if person else "policy", now_ns)

    @property
    def in_control(self) -> bool:
        """Whether the person's commands may be sent."""
        return self.state == "person"

    @property
    def settled(self) -> bool:
        """Whether no answer is awaited."""
        return self.state in ("policy", "person")

    def take_over(self, now_ns: int, *, wait: bool) -> None:
        """The person takes over; `wait`: for the policy's answer, since there is one."""
        self.refusal = ""
        if self.state == "policy":
            self._enter("asking" if wait else "person", now_ns)
        self._person = True  # an answer that is awaited comes first: two questions at once could not be told apart

    def refuse(self, reason: str) -> None:
        """The person cannot take over."""
        self.refusal = reason

    def hand_back(self, now_ns: int, *, wait: bool) -> None:
        """The person hands back; from here on nothing of theirs may be sent."""
        self._person = False
        if self.state in ("asking", "person"):
            self._enter("returning" if wait else "policy", now_ns)

    def answered(self, yielded: bool, now_ns: int) -> None:
        """The policy's word. One that says while the person commands that it has not yielded is asked again."""
        if yielded and self.state in ("asking", "joining"):
            self._enter("person", now_ns)
        elif not yielded and self.state in ("returning", "joining"):
            self._enter("asking" if self._person else "policy", now_ns)
        elif not yielded and self.state == "person":
            self._enter("asking", now_ns)

    def tick(self, now_ns: int) -> None:
        """Wait no longer than PATIENCE_NS: without an answer the person does not get control."""
        if self.settled or now_ns < self._deadline_ns:
            return
        if self._person:
            self.refusal = f"the policy did not yield within {PATIENCE_NS / 1e9:g} s"
        self._enter("policy", now_ns)

    def _enter(self, state: str, now_ns: int) -> None:
        said_already = (self.state, state) in (("asking", "person"), ("returning", "policy"))
        self.state, self._deadline_ns = state, now_ns + PATIENCE_NS
        if not said_already:
            self.to_say = state in ("asking", "person")
