"""Values that may be given as they are or as substitutions, and the words for true and false."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from . import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from ..launch_context import LaunchContext

ValueT = TypeVar("ValueT")

_TRUE = ("true", "on", "1")
_FALSE = ("false", "off", "0")


def coerce_to_type(value: str, data_type: type[ValueT] | None = None) -> ValueT:
    """Return ``value`` as ``data_type``; without one, by YAML's rules.

    :raises ValueError: the text is no such value.
    """
    if data_type is None:
        return cast(ValueT, yaml.safe_load(value))
    result: Any
    if data_type is bool:
        word = value.strip().lower()
        if word not in _TRUE + _FALSE:
            raise ValueError(f"'{value}' is not a boolean; valid are {', '.join(_TRUE + _FALSE)}")
        result = word in _TRUE
    elif data_type in (int, float, str):
        result = data_type(value)  # type: ignore[call-arg]
    else:
        result = yaml.safe_load(value)
        expected = getattr(data_type, "__origin__", data_type)
        if not isinstance(result, expected):
            raise ValueError(f"'{value}' is not a {data_type}")
    return cast(ValueT, result)


def normalize_typed_substitution(
    value: bool | int | float | SomeSubstitutionsType, data_type: type | None = None
) -> bool | int | float | list[Substitution]:
    """Return plain values as they are and everything else as a list of substitutions."""
    if isinstance(value, (bool, int, float)):
        return value
    return normalize_to_list_of_substitutions(value)


def perform_typed_substitution(
    context: LaunchContext,
    value: bool | int | float | list[Substitution],
    data_type: type[ValueT],
) -> ValueT:
    """Return the value of what :func:`normalize_typed_substitution` gave."""
    if isinstance(value, list):
        return coerce_to_type(perform_substitutions(context, value), data_type)
    return data_type(value)  # type: ignore[call-arg]
