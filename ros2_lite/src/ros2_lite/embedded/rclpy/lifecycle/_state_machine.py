"""The states and transitions of lifecycle nodes (https://design.ros2.org/articles/node_lifecycle.html)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lifecycle_msgs.msg import State as StateMsg
from lifecycle_msgs.msg import Transition as TransitionMsg

from rclpy._rclpy_pybind11 import RCLError
from rclpy.logging import get_logger

SUCCESS, FAILURE, ERROR = "transition_success", "transition_failure", "transition_error"
_PRIMARY = ("UNKNOWN", "UNCONFIGURED", "INACTIVE", "ACTIVE", "FINALIZED")
_PASSING = ("CONFIGURING", "CLEANINGUP", "SHUTTINGDOWN", "ACTIVATING", "DEACTIVATING", "ERRORPROCESSING")


class State(NamedTuple):
    """A state by number and name."""

    id: int
    label: str


STATES = [
    *(State(getattr(StateMsg, f"PRIMARY_STATE_{name}"), name.lower()) for name in _PRIMARY),
    *(State(getattr(StateMsg, f"TRANSITION_STATE_{name}"), name.lower()) for name in _PASSING),
]
_BY_LABEL = {state.label: state for state in STATES}


class Transition(NamedTuple):
    """A way from one state to another."""

    id: int
    label: str
    start: State
    goal: State


def _ways(action: str, start: str, passing: str, success: str, failure: str) -> list[Transition]:
    """A transition to a passing state, and the three by which it is left."""
    ids = TransitionMsg
    name = action.upper()
    here, between = _BY_LABEL[start], _BY_LABEL[passing]
    return [
        Transition(getattr(ids, f"TRANSITION_{name}"), action, here, between),
        *_ends(name, between, success, failure, "errorprocessing"),
    ]


def _ends(name: str, passing: State, success: str, failure: str, error: str) -> list[Transition]:
    return [
        Transition(getattr(TransitionMsg, f"TRANSITION_ON_{name}_{end}"), label, passing, _BY_LABEL[goal])
        for end, label, goal in (("SUCCESS", SUCCESS, success), ("FAILURE", FAILURE, failure), ("ERROR", ERROR, error))
    ]


TRANSITIONS = [
    *_ways("configure", "unconfigured", "configuring", "inactive", "unconfigured"),
    *_ways("cleanup", "inactive", "cleaningup", "unconfigured", "inactive"),
    *_ways("activate", "inactive", "activating", "active", "inactive"),
    *_ways("deactivate", "active", "deactivating", "inactive", "active"),
    *(
        Transition(
            getattr(TransitionMsg, f"TRANSITION_{label.upper()}_SHUTDOWN"),
            "shutdown",
            _BY_LABEL[label],
            _BY_LABEL["shuttingdown"],
        )
        for label in ("unconfigured", "inactive", "active")
    ),
    *_ends("SHUTDOWN", _BY_LABEL["shuttingdown"], "finalized", "finalized", "errorprocessing"),
    *_ends("ERROR", _BY_LABEL["errorprocessing"], "unconfigured", "finalized", "finalized"),
]


class StateMachine:
    """Where a node stands; `announce` hears of each step as (start, goal)."""

    initialized = True

    def __init__(self, announce: Callable[[State, State], None] | None, services: dict[str, Any]) -> None:
        self.current_state = _BY_LABEL["unconfigured"]
        self._announce = announce
        for name, service in services.items():
            setattr(self, f"service_{name}", service)

    def __getattr__(self, name: str) -> None:
        if name.startswith("service_"):
            return  # made without services
        raise AttributeError(name)

    @property
    def available_states(self) -> list[tuple[int, str]]:
        return list(STATES)

    @property
    def available_transitions(self) -> list[tuple[Any, ...]]:
        """The transitions from the current state, flat: id, label, start's and goal's id and label."""
        return [_flat(item) for item in TRANSITIONS if item.start == self.current_state]

    @property
    def transition_graph(self) -> list[tuple[Any, ...]]:
        """All transitions, flat."""
        return [_flat(item) for item in TRANSITIONS]

    def get_transition_by_label(self, label: str) -> int:
        """The number of a transition from the current state.  RCLError when there is none of that name."""
        return self._find(label).id

    def trigger_transition_by_id(self, transition_id: int, publish_update: bool) -> None:
        """Step.  RCLError when the current state has no such transition."""
        self._step(self._find(transition_id), publish_update)

    def trigger_transition_by_label(self, label: str, publish_update: bool) -> None:
        self._step(self._find(label), publish_update)

    def _find(self, wanted: int | str) -> Transition:
        for item in TRANSITIONS:
            if item.start == self.current_state and wanted in (item.id, item.label):
                return item
        state = self.current_state.label
        get_logger("rcl_lifecycle").warning(f"No transition matching {wanted} found for current state {state}")
        raise RCLError(f"Failed to trigger lifecycle state machine transition: '{state}' has no transition {wanted}")

    def _step(self, transition: Transition, publish_update: bool) -> None:
        self.current_state = transition.goal
        if publish_update and self._announce is not None:
            self._announce(transition.start, transition.goal)


def _flat(item: Transition) -> tuple[Any, ...]:
    return item.id, item.label, *item.start, *item.goal
