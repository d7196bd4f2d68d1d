"""Event handlers about lifecycle nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launch.event_handler import EventHandler
from launch.some_entities_type import SomeEntitiesType

from .actions.lifecycle import LifecycleNode
from .events.lifecycle import StateTransition

__all__ = ["OnStateTransition"]


class OnStateTransition(EventHandler):
    """Answers the transitions of a lifecycle node, of any where none is given.

    :param transition: only the one of this label; so `start_state` and `goal_state`.
    :param matcher: a function of the event that decides alone.
    :raises RuntimeError: a target that is no lifecycle node.
    """

    def __init__(
        self,
        *,
        entities: SomeEntitiesType,
        target_lifecycle_node: LifecycleNode | None = None,
        transition: str | None = None,
        start_state: str | None = None,
        goal_state: str | None = None,
        matcher: Callable[[Any], bool] | None = None,
        **kwargs: Any,
    ) -> None:
        if target_lifecycle_node is not None and not isinstance(target_lifecycle_node, LifecycleNode):
            raise RuntimeError("OnStateTransition requires a 'LifecycleNode' action as the target")
        wanted = {"transition": transition, "start_state": start_state, "goal_state": goal_state}

        def matches(event: Any) -> bool:
            return (
                isinstance(event, StateTransition)
                and (target_lifecycle_node is None or event.action is target_lifecycle_node)
                and all(value is None or getattr(event, name) == value for name, value in wanted.items())
            )

        super().__init__(matcher=matcher or matches, entities=entities, **kwargs)
        self.__target = target_lifecycle_node

    @property
    def handler_description(self) -> str:
        return "<actions>"

    @property
    def matcher_description(self) -> str:
        target = "" if self.__target is None else f" and event.action == LifecycleNode({hex(id(self.__target))})"
        return f"event == StateTransition{target}"
