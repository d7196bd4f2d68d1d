"""Helpers of the launch package: normalising what users give, and visiting entities."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..launch_description_entity import LaunchDescriptionEntity
from ..some_entities_type import SomeEntitiesType
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution

if TYPE_CHECKING:
    from ..launch_context import LaunchContext

__all__ = [
    "ensure_argument_type",
    "is_a",
    "is_a_subclass",
    "normalize_to_list_of_entities",
    "normalize_to_list_of_substitutions",
    "perform_substitutions",
    "visit_all_entities_and_collect_futures",
]


def is_a(obj: object, entity_type: type) -> bool:
    """Return whether ``obj`` is an instance of ``entity_type``."""
    return isinstance(obj, entity_type)


def is_a_subclass(obj: object, entity_type: type) -> bool:
    """Return whether ``obj`` is an instance, or a subclass, of ``entity_type``."""
    return isinstance(obj, entity_type) or (isinstance(obj, type) and issubclass(obj, entity_type))


def ensure_argument_type(
    argument: object, types: type | Iterable[type], argument_name: str, caller: str | None = None
) -> None:
    """Raise TypeError unless ``argument`` is of one of ``types``."""
    allowed = (types,) if isinstance(types, type) else tuple(types)
    if isinstance(argument, allowed) or argument in allowed:
        return
    where = f" to {caller}" if caller else ""
    names = ", ".join(t.__name__ for t in allowed)
    raise TypeError(f"'{argument_name}' argument{where} must be one of: {names}; got {type(argument).__name__}")


def normalize_to_list_of_substitutions(subst: SomeSubstitutionsType) -> list[Substitution]:
    """Return text, paths, substitutions or an iterable of them as a list of substitutions."""
    from ..substitutions import TextSubstitution

    def one(item: object) -> Substitution:
        if isinstance(item, Substitution):
            return item
        if isinstance(item, (str, Path)):
            return TextSubstitution(text=str(item))
        raise TypeError(
            f"expected text, a path, a substitution or an iterable of them, got {item!r} of type {type(item).__name__}"
        )

    if isinstance(subst, (str, Path, Substitution)):
        return [one(subst)]
    if isinstance(subst, Iterable):
        return [one(item) for item in subst]
    return [one(subst)]


def perform_substitutions(context: LaunchContext, subs: Iterable[Substitution]) -> str:
    """Return the concatenated text of the substitutions."""
    return "".join(context.perform_substitution(sub) for sub in subs)


def normalize_to_list_of_entities(
    entities: SomeEntitiesType | None,
) -> list[LaunchDescriptionEntity]:
    """Return one entity, an iterable (nested ones are flattened) or None as a list."""
    if entities is None:
        return []
    if isinstance(entities, LaunchDescriptionEntity):
        return [entities]
    if not isinstance(entities, Iterable) or isinstance(entities, (str, bytes)):
        raise TypeError(f"expected a launch description entity, got '{entities!r}'")
    return [entity for item in entities for entity in normalize_to_list_of_entities(item)]


def visit_all_entities_and_collect_futures(
    entity: LaunchDescriptionEntity, context: LaunchContext
) -> list[tuple[LaunchDescriptionEntity, asyncio.Future[Any]]]:
    """Visit an entity and all that it yields; return those that go on, with their futures."""
    pairs: list[tuple[LaunchDescriptionEntity, asyncio.Future[Any]]] = []
    sub_entities = entity.visit(context)
    future = entity.get_asyncio_future()
    if future is not None:
        pairs.append((entity, future))
    for sub_entity in normalize_to_list_of_entities(sub_entities):
        pairs.extend(visit_all_entities_and_collect_futures(sub_entity, context))
    return pairs
