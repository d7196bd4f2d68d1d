"""Events about the states of lifecycle nodes (lifecycle_msgs/msg/State and Transition have the numbers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from launch.event import Event

from .matchers import matches_node_name

if TYPE_CHECKING:
    from ..actions.lifecycle import LifecycleNode

__all__ = ["ChangeState", "StateTransition", "matches_node_name"]


class ChangeState(Event):
    """Asks the lifecycle nodes that the matcher picks for a transition.

    :raises ValueError: a transition that does not exist.
    """

    name = "launch_ros.events.lifecycle.ChangeState"

    valid_transitions = {  # noqa: RUF012 (a table that launch files read)
        0: "TRANSITION_CREATE",
        1: "TRANSITION_CONFIGURE",
        2: "TRANSITION_CLEANUP",
        3: "TRANSITION_ACTIVATE",
        4: "TRANSITION_DEACTIVATE",
        5: "TRANSITION_UNCONFIGURED_SHUTDOWN",
        6: "TRANSITION_INACTIVE_SHUTDOWN",
        7: "TRANSITION_ACTIVE_SHUTDOWN",
        8: "TRANSITION_DESTROY",
    }
    valid_states = {  # noqa: RUF012
        0: "PRIMARY_STATE_UNKNOWN",
        1: "PRIMARY_STATE_UNCONFIGURED",
        2: "PRIMARY_STATE_INACTIVE",
        3: "PRIMARY_STATE_ACTIVE",
        4: "PRIMARY_STATE_FINALIZED",
        10: "TRANSITION_STATE_CONFIGURING",
        11: "TRANSITION_STATE_CLEANINGUP",
        12: "TRANSITION_STATE_SHUTTINGDOWN",
        13: "TRANSITION_STATE_ACTIVATING",
        14: "TRANSITION_STATE_DEACTIVATING",
        15: "TRANSITION_STATE_ERRORPROCESSING",
    }

    def __init__(self, *, lifecycle_node_matcher: Callable[[LifecycleNode], bool], transition_id: int) -> None:
        super().__init__()
        if transition_id not in self.valid_transitions:
            choices = ", ".join(f"{name}: {number}" for number, name in self.valid_transitions.items())
            raise ValueError(f"given transition_id of '{transition_id}', expected one of {{{choices}}}")
        self.__lifecycle_node_matcher = lifecycle_node_matcher
        self.__transition_id = transition_id

    @property
    def lifecycle_node_matcher(self) -> Callable[[LifecycleNode], bool]:
        """Picks the nodes."""
        return self.__lifecycle_node_matcher

    @property
    def transition_id(self) -> int:
        """The transition's number."""
        return self.__transition_id


class StateTransition(Event):
    """A lifecycle node went from one state to another."""

    name = "launch_ros.events.lifecycle.StateTransition"

    def __init__(self, *, action: LifecycleNode, msg: Any) -> None:
        super().__init__()
        self.__action = action
        self.__msg = msg

    @property
    def action(self) -> LifecycleNode:
        """The node."""
        return self.__action

    @property
    def msg(self) -> Any:
        """The node's lifecycle_msgs/msg/TransitionEvent."""
        return self.__msg

    @property
    def timestamp(self) -> int:
        """When, by the node's clock [ns]."""
        return int(self.__msg.timestamp)

    @property
    def transition(self) -> str:
        """The label of the transition."""
        return str(self.__msg.transition.label)

    @property
    def start_state(self) -> str:
        """The label of the state before."""
        return str(self.__msg.start_state.label)

    @property
    def goal_state(self) -> str:
        """The label of the state after."""
        return str(self.__msg.goal_state.label)
