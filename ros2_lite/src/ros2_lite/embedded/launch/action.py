"""The base of actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .condition import Condition
from .launch_description_entity import LaunchDescriptionEntity

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Action(LaunchDescriptionEntity):
    """An entity with an effect, guarded by an optional condition."""

    def __init__(self, *, condition: Condition | None = None) -> None:
        if condition is not None and not isinstance(condition, Condition):
            raise TypeError(
                f"{type(self).__name__}: 'condition' must be a launch.Condition such as IfCondition, got {condition!r}"
            )
        self.__condition = condition

    @property
    def condition(self) -> Condition | None:
        """The condition, or None where the action always runs."""
        return self.__condition

    def describe(self) -> str:
        return type(self).__name__

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the entities that this action leads to when it runs."""
        return []

    def describe_sub_entities(self) -> list[LaunchDescriptionEntity]:
        return self.get_sub_entities() if self.__condition is None else []

    def describe_conditional_sub_entities(self) -> list[tuple[str, list[LaunchDescriptionEntity]]]:  # type: ignore[override]
        if self.__condition is None:
            return []
        return [("Conditionally included by " + self.describe(), self.get_sub_entities())]

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        if self.__condition is not None and not self.__condition.evaluate(context):
            return None
        return self.execute(context)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Do the action's work, and return the entities to visit next."""
        return None
