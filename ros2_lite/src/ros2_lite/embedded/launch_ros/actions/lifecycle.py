"""Lifecycle nodes: started, watched, and led through their states."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from launch import logging as launch_logging
from launch.action import Action
from launch.actions import EmitEvent, OpaqueFunction
from launch.event import Event
from launch.event_handler import BaseEventHandler, EventHandler
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch.utilities.type_utils import normalize_typed_substitution, perform_typed_substitution

from ..events.lifecycle import ChangeState, StateTransition
from ..events.matchers import matches_node_name
from ..ros_adapters import get_ros_node
from .node import Node

_CONFIGURE, _ACTIVATE = 1, 3
_WAIT = 1.0  # [s] between looks at whether the launch is shutting down


class LifecycleNode(Node):
    """Runs a lifecycle node: emits ``StateTransition`` for each of its transitions, and answers ``ChangeState``.

    :param name: needed, for its services are found by it; so is `namespace`, which may be empty.
    :param autostart: configure and activate it once it is there.
    """

    def __init__(
        self,
        *,
        name: SomeSubstitutionsType,
        namespace: SomeSubstitutionsType,
        autostart: bool | SomeSubstitutionsType = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, namespace=namespace, **kwargs)
        self.__autostart = normalize_typed_substitution(autostart, bool)
        self.__logger = launch_logging.get_logger("launch_ros.actions.lifecycle_node")
        self.__client: Any = None

    @property
    def is_lifecycle_node(self) -> bool:
        """Whether it has states."""
        return True

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        actions = super().execute(context) or []
        from lifecycle_msgs.msg import TransitionEvent
        from lifecycle_msgs.srv import ChangeState as ChangeStateService

        node = get_ros_node(context)
        loop = context.asyncio_loop
        assert loop is not None

        def moved(message: Any) -> None:  # in the node's thread
            event = StateTransition(action=self, msg=message)
            loop.call_soon_threadsafe(context.emit_event_sync, event)

        node.create_subscription(TransitionEvent, f"{self.node_name}/transition_event", moved, 10)
        self.__client = node.create_client(ChangeStateService, f"{self.node_name}/change_state")
        context.register_event_handler(
            EventHandler(
                matcher=lambda event: isinstance(event, ChangeState) and event.lifecycle_node_matcher(self),
                entities=[OpaqueFunction(function=self.__on_change_state)],
            )
        )
        if perform_typed_substitution(context, self.__autostart, bool):
            actions.append(
                LifecycleTransition(lifecycle_node_names=[self.node_name], transition_ids=[_CONFIGURE, _ACTIVATE])
            )
        return actions

    def __on_change_state(self, context: LaunchContext) -> None:
        from lifecycle_msgs.srv import ChangeState as ChangeStateService

        request = ChangeStateService.Request()
        request.transition.id = context.locals.event.transition_id
        loop = context.asyncio_loop
        assert loop is not None
        # Waiting for a service blocks, so it is done in a thread.
        context.add_completion_future(
            asyncio.ensure_future(loop.run_in_executor(None, self.__change_state, request, context), loop=loop)
        )

    def __change_state(self, request: Any, context: LaunchContext) -> None:
        import threading

        service = self.__client.srv_name
        while not self.__client.wait_for_service(timeout_sec=_WAIT):
            if context.is_shutdown:
                self.__logger.warning(f"Abandoning wait for the '{service}' service, due to shutdown.")
                return
        answered = threading.Event()
        future = self.__client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        while not answered.wait(_WAIT):
            if context.is_shutdown:
                self.__logger.warning(f"Abandoning wait for the '{service}' service response, due to shutdown.")
                future.cancel()
                return
        if future.exception() is not None or not future.result().success:
            name = ChangeState.valid_transitions[request.transition.id]
            self.__logger.error(f"Failed to make transition '{name}' for LifecycleNode '{self.node_name}'")


class LifecycleTransition(Action):
    """Leads lifecycle nodes through a sequence of transitions, each after the one before has succeeded.

    :param lifecycle_node_names: full names of ``LifecycleNode`` actions of this launch.
    :param transition_ids: numbers of lifecycle_msgs/msg/Transition, also as substitutions.
    :raises ValueError: no nodes or no transitions; while running, what is no transition.
    """

    transition_targets = {  # noqa: RUF012 (a table that launch files read)
        1: {"start_state": "configuring", "goal_state": "inactive"},
        2: {"start_state": "cleaningup", "goal_state": "unconfigured"},
        3: {"start_state": "activating", "goal_state": "active"},
        4: {"start_state": "deactivating", "goal_state": "inactive"},
        5: {"start_state": "shuttingdown", "goal_state": "finalized"},
        6: {"start_state": "shuttingdown", "goal_state": "finalized"},
        7: {"start_state": "shuttingdown", "goal_state": "finalized"},
    }

    def __init__(
        self,
        *,
        lifecycle_node_names: Sequence[SomeSubstitutionsType],
        transition_ids: Sequence[int | SomeSubstitutionsType],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not transition_ids:
            raise ValueError("No transition_ids provided.")
        if not lifecycle_node_names:
            raise ValueError("No lifecycle_node_names provided.")
        self.__names = [normalize_to_list_of_substitutions(name) for name in lifecycle_node_names]
        self.__transitions = [
            normalize_to_list_of_substitutions(str(item) if isinstance(item, int) else item) for item in transition_ids
        ]

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        transitions = []
        for item in self.__transitions:
            text = perform_substitutions(context, item)
            if not text.isdigit() or int(text) not in self.transition_targets:
                raise ValueError(
                    f"expected integer for lifecycle transition, one of {list(self.transition_targets)}, got {text}"
                )
            transitions.append(int(text))
        first: list[LaunchDescriptionEntity] = []
        for item in self.__names:
            name = perform_substitutions(context, item)
            sequence = _Sequence(name, transitions)
            context.register_event_handler(sequence)
            first.append(sequence.next_request())
        return first


class _Sequence(BaseEventHandler):
    """Where one node is on its way through the transitions; asks for the next when one has succeeded."""

    def __init__(self, node_name: str, transitions: Sequence[int]) -> None:
        is_it = matches_node_name(node_name)
        super().__init__(matcher=lambda event: isinstance(event, StateTransition) and is_it(event.action))
        self._name = node_name
        self._is_it = is_it
        self._left = list(transitions)

    def next_request(self) -> EmitEvent:
        """Ask for the transition that comes next."""
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=self._is_it, transition_id=self._left[0]))

    def handle(self, event: Event, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        assert isinstance(event, StateTransition)
        super().handle(event, context)
        target = LifecycleTransition.transition_targets[self._left[0]]
        if event.goal_state == "errorprocessing":
            launch_logging.get_logger("launch_ros.actions.lifecycle_transition").info(
                f"Stopping transitions for {self._name} because 'error occured during transitions'"
            )
            context.unregister_event_handler(self)
        elif event.start_state == target["start_state"]:  # the end of the transition that was asked for
            if event.goal_state == target["goal_state"]:
                self._left.pop(0)
                if self._left:
                    return [self.next_request()]
            context.unregister_event_handler(self)
        return None
