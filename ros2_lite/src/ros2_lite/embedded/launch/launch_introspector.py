"""Describes a launch description as a tree (``ros2 launch --print``)."""

from __future__ import annotations

from collections.abc import Iterable

from .actions import RegisterEventHandler
from .launch_description import LaunchDescription
from .launch_description_entity import LaunchDescriptionEntity


def _tree(lines: list[tuple[str, list[LaunchDescriptionEntity]]], indent: str) -> list[str]:
    result: list[str] = []
    for index, (text, children) in enumerate(lines):
        last = index == len(lines) - 1
        result.append(f"{indent}{'└' if last else '├'}── {text}")
        below = indent + ("    " if last else "│   ")
        result.extend(_tree([_line(child) for child in children], below))
    return result


def _line(entity: LaunchDescriptionEntity) -> tuple[str, list[LaunchDescriptionEntity]]:
    children = list(entity.describe_sub_entities())
    condition = getattr(entity, "condition", None)
    text = entity.describe()
    if isinstance(entity, RegisterEventHandler):
        text, children = entity.event_handler.describe()
        text = f"RegisterEventHandler: {text}"
    else:
        for _, sub_entities in entity.describe_conditional_sub_entities():
            children.extend(sub_entities)
    if condition is not None:
        text += f"  [{condition.describe()}]"
    return text, children


def format_entities(entities: Iterable[LaunchDescriptionEntity]) -> list[str]:
    """Return a line for each entity, with its sub-entities below it."""
    return _tree([_line(entity) for entity in entities], "")


class LaunchIntrospector:
    """Describes launch descriptions without running them."""

    def format_launch_description(self, launch_description: LaunchDescription) -> str:
        """Return the tree of entities as text."""
        return "\n".join([repr(launch_description), *format_entities(launch_description.entities)])
