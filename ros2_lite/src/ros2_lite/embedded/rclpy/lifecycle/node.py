"""Lifecycle nodes."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_msgs.msg import State as StateMsg
from lifecycle_msgs.msg import Transition as TransitionMsg
from lifecycle_msgs.msg import TransitionDescription, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState

from rclpy._rclpy_pybind11 import RCLError
from rclpy._rclpy_pybind11 import TransitionCallbackReturnType as TransitionCallbackReturn
from rclpy.lifecycle._state_machine import State, StateMachine
from rclpy.lifecycle.managed_entity import ManagedEntity
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.node import Node

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup

_CALLBACKS = {
    StateMsg.TRANSITION_STATE_CONFIGURING: "on_configure",
    StateMsg.TRANSITION_STATE_CLEANINGUP: "on_cleanup",
    StateMsg.TRANSITION_STATE_SHUTTINGDOWN: "on_shutdown",
    StateMsg.TRANSITION_STATE_ACTIVATING: "on_activate",
    StateMsg.TRANSITION_STATE_DEACTIVATING: "on_deactivate",
    StateMsg.TRANSITION_STATE_ERRORPROCESSING: "on_error",
}


class LifecycleState(NamedTuple):
    """A state by name and number; what callbacks get."""

    label: str
    state_id: int


class LifecycleNodeMixin(ManagedEntity):
    """What makes a `Node` (to be inherited beside it and built after it) a lifecycle node."""

    _state_machine: StateMachine
    _managed_entities: set[ManagedEntity]

    def __init__(
        self, *, enable_communication_interface: bool = True, callback_group: CallbackGroup | None = None
    ) -> None:
        if not isinstance(enable_communication_interface, bool):
            raise TypeError("enable_communication_interface must be a bool")
        assert isinstance(self, Node), "LifecycleNodeMixin is inherited beside Node"
        self._managed_entities = set()
        services: dict[str, Any] = {}
        if enable_communication_interface:
            self._rclpy_pub_transition_event = self.create_publisher(TransitionEvent, "~/transition_event", 10)
            for name, srv_type, callback in (
                ("change_state", ChangeState, self._rclpy_on_change_state),
                ("get_state", GetState, self._rclpy_on_get_state),
                ("get_available_states", GetAvailableStates, self._rclpy_on_get_available_states),
                ("get_available_transitions", GetAvailableTransitions, self._rclpy_on_get_available_transitions),
                ("get_transition_graph", GetAvailableTransitions, self._rclpy_on_get_transition_graph),
            ):
                services[name] = self.create_service(srv_type, f"~/{name}", callback, callback_group=callback_group)
                setattr(self, f"_service_{name}", services[name])
        self._state_machine = StateMachine(self._rclpy_announce if enable_communication_interface else None, services)

    def _rclpy_announce(self, start: State, goal: State) -> None:
        event = TransitionEvent()
        event.start_state.id, event.start_state.label = start
        event.goal_state.id, event.goal_state.label = goal
        self._rclpy_pub_transition_event.publish(event)

    # ---- transitions ----------------------------------------------------------------------------------------------

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Configure the node.  RCLError when it is not unconfigured."""
        return self._rclpy_change_state(TransitionMsg.TRANSITION_CONFIGURE)

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Clean up.  RCLError when the node is not inactive."""
        return self._rclpy_change_state(TransitionMsg.TRANSITION_CLEANUP)

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Activate.  RCLError when the node is not inactive."""
        return self._rclpy_change_state(TransitionMsg.TRANSITION_ACTIVATE)

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Deactivate.  RCLError when the node is not active."""
        return self._rclpy_change_state(TransitionMsg.TRANSITION_DEACTIVATE)

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Finalize the node.  RCLError when it is finalized already."""
        label = self._state_machine.current_state.label
        if label not in ("unconfigured", "inactive", "active"):
            raise RCLError(f"Shutdown transition not possible from '{label}'")
        return self._rclpy_change_state(getattr(TransitionMsg, f"TRANSITION_{label.upper()}_SHUTDOWN"))

    def _rclpy_change_state(self, transition_id: int) -> TransitionCallbackReturn:
        machine = self._state_machine
        before = LifecycleState(machine.current_state.label, machine.current_state.id)
        machine.trigger_transition_by_id(transition_id, True)
        result = self._rclpy_call_back(before)
        machine.trigger_transition_by_label(result.to_label(), True)
        if result == TransitionCallbackReturn.ERROR:
            machine.trigger_transition_by_label(self._rclpy_call_back(before).to_label(), True)
        return result

    def _rclpy_call_back(self, before: LifecycleState) -> TransitionCallbackReturn:
        """Call what belongs to the passing state that the machine is in; an exception is an ERROR."""
        name = _CALLBACKS[self._state_machine.current_state.id]
        try:
            result: TransitionCallbackReturn = getattr(self, name)(before)
        except Exception:  # whatever the user's code raises: the node goes on to process an error
            if isinstance(self, Node):
                self.get_logger().error(f"{name} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        return result

    # ---- callbacks to override; each asks the managed entities ----------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_configure", state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_shutdown", state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_activate", state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_deactivate", state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_ask("on_error", state)

    def _rclpy_ask(self, name: str, state: LifecycleState) -> TransitionCallbackReturn:
        """Call the managed entities, up to the first that does not succeed."""
        for entity in self._managed_entities:
            result = getattr(entity, name)(state)
            if not isinstance(result, TransitionCallbackReturn):
                raise TypeError(f"{name}() of {type(entity)} must return a TransitionCallbackReturn, not {result!r}")
            if result != TransitionCallbackReturn.SUCCESS:
                return result
        return TransitionCallbackReturn.SUCCESS

    # ---- managed entities -----------------------------------------------------------------------------------------

    def add_managed_entity(self, entity: ManagedEntity) -> None:
        """Let an entity hear of the node's transitions."""
        if not isinstance(entity, ManagedEntity):
            raise TypeError("Expected a rclpy.lifecycle.ManagedEntity instance.")
        self._managed_entities.add(entity)

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> LifecyclePublisher:
        """A publisher that is silent unless the node is active; arguments of `Node.create_publisher`."""
        if "publisher_class" in kwargs:
            raise TypeError("create_publisher() got an unexpected keyword argument 'publisher_class'")
        assert isinstance(self, Node)
        publisher = Node.create_publisher(self, *args, **kwargs, publisher_class=LifecyclePublisher)
        assert isinstance(publisher, LifecyclePublisher)
        self._managed_entities.add(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        self._managed_entities.discard(publisher)
        assert isinstance(self, Node)
        return Node.destroy_publisher(self, publisher)

    # ---- services -------------------------------------------------------------------------------------------------

    def _rclpy_on_change_state(self, request: Any, response: Any) -> Any:
        transition_id = request.transition.id
        if request.transition.label:
            try:
                transition_id = self._state_machine.get_transition_by_label(request.transition.label)
            except RCLError:
                response.success = False
                return response
        try:
            response.success = self._rclpy_change_state(transition_id) == TransitionCallbackReturn.SUCCESS
        except RCLError:  # asked for by somebody else: no reason for this node to end
            response.success = False
        return response

    def _rclpy_on_get_state(self, request: Any, response: Any) -> Any:
        response.current_state.id, response.current_state.label = self._state_machine.current_state
        return response

    def _rclpy_on_get_available_states(self, request: Any, response: Any) -> Any:
        response.available_states = [StateMsg(id=id_, label=name) for id_, name in self._state_machine.available_states]
        return response

    def _rclpy_on_get_available_transitions(self, request: Any, response: Any) -> Any:
        response.available_transitions = _descriptions(self._state_machine.available_transitions)
        return response

    def _rclpy_on_get_transition_graph(self, request: Any, response: Any) -> Any:
        response.available_transitions = _descriptions(self._state_machine.transition_graph)
        return response


def _descriptions(transitions: list[tuple[Any, ...]]) -> list[Any]:
    return [
        TransitionDescription(
            transition=TransitionMsg(id=id_, label=label),
            start_state=StateMsg(id=start, label=start_label),
            goal_state=StateMsg(id=goal, label=goal_label),
        )
        for id_, label, start, start_label, goal, goal_label in transitions
    ]


class LifecycleNode(LifecycleNodeMixin, Node):
    """A managed node: its transitions are asked for by others (`ros2 lifecycle set`) or by itself (`trigger_...`)."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **kwargs: Any) -> None:
        Node.__init__(self, node_name, **kwargs)
        LifecycleNodeMixin.__init__(self, enable_communication_interface=enable_communication_interface)
