"""Substitutions that compare, combine and choose; their text is 'true' or 'false'."""

from __future__ import annotations

import math
from typing import Any

from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import coerce_to_type
from .substitution_failure import SubstitutionFailure
from .values import describe_all


def _boolean(context: LaunchContext, substitutions: list[Substitution]) -> bool:
    text = perform_substitutions(context, substitutions)
    try:
        return coerce_to_type(text, bool)
    except ValueError as error:
        raise SubstitutionFailure(f"{error} (from {describe_all(substitutions)})") from None


def _text(value: bool) -> str:
    return "true" if value else "false"


class NotSubstitution(Substitution):
    """True where the value is false."""

    def __init__(self, value: SomeSubstitutionsType) -> None:
        self.__value = normalize_to_list_of_substitutions(value)

    def describe(self) -> str:
        return f"NotSubstitution({describe_all(self.__value)})"

    def perform(self, context: LaunchContext) -> str:
        return _text(not _boolean(context, self.__value))


class AllSubstitution(Substitution):
    """True where all values are; an empty list is true."""

    def __init__(self, *args: SomeSubstitutionsType) -> None:
        self._values = [normalize_to_list_of_substitutions(value) for value in args]

    def describe(self) -> str:
        return f"{type(self).__name__}({', '.join(describe_all(v) for v in self._values)})"

    def perform(self, context: LaunchContext) -> str:
        return _text(all(self._evaluate(context)))

    def _evaluate(self, context: LaunchContext) -> list[bool]:
        """Each of them, also behind the one that decides: what is no boolean is an error wherever it stands."""
        return [_boolean(context, value) for value in self._values]


class AnySubstitution(AllSubstitution):
    """True where any value is; an empty list is false."""

    def perform(self, context: LaunchContext) -> str:
        return _text(any(self._evaluate(context)))


class AndSubstitution(AllSubstitution):
    """True where both values are."""

    def __init__(self, left: SomeSubstitutionsType, right: SomeSubstitutionsType) -> None:
        super().__init__(left, right)


class OrSubstitution(AnySubstitution):
    """True where either value is."""

    def __init__(self, left: SomeSubstitutionsType, right: SomeSubstitutionsType) -> None:
        super().__init__(left, right)


def _plain(value: Any) -> Any:
    """Return numbers and booleans as the text that a launch configuration would have."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _text(value)
    return str(value) if isinstance(value, (int, float)) else value


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class EqualsSubstitution(Substitution):
    """True where both values are the same text, the same boolean or nearly the same number."""

    def __init__(self, left: Any | SomeSubstitutionsType, right: Any | SomeSubstitutionsType) -> None:
        self._left = normalize_to_list_of_substitutions(_plain(left))
        self._right = normalize_to_list_of_substitutions(_plain(right))

    def describe(self) -> str:
        return f"{type(self).__name__}({describe_all(self._left)}, {describe_all(self._right)})"

    def _equal(self, context: LaunchContext) -> bool:
        left = perform_substitutions(context, self._left)
        right = perform_substitutions(context, self._right)
        if left.lower() in _BOOLEANS and right.lower() in _BOOLEANS:
            return _BOOLEANS[left.lower()] == _BOOLEANS[right.lower()]
        try:
            return math.isclose(float(left), float(right))  # a nan equals nothing
        except ValueError:
            return left == right

    def perform(self, context: LaunchContext) -> str:
        return _text(self._equal(context))


class NotEqualsSubstitution(EqualsSubstitution):
    """True where the values differ."""

    def perform(self, context: LaunchContext) -> str:
        return _text(not self._equal(context))


class IfElseSubstitution(Substitution):
    """One of two texts, by a condition."""

    def __init__(
        self,
        condition: SomeSubstitutionsType,
        if_value: SomeSubstitutionsType = "",
        else_value: SomeSubstitutionsType = "",
    ) -> None:
        if if_value == "" and else_value == "":
            raise RuntimeError("IfElseSubstitution needs an if_value, an else_value or both")
        self.__condition = normalize_to_list_of_substitutions(condition)
        self.__if = normalize_to_list_of_substitutions(if_value)
        self.__else = normalize_to_list_of_substitutions(else_value)

    def describe(self) -> str:
        parts = (self.__condition, self.__if, self.__else)
        return f"IfElseSubstitution({', '.join(describe_all(part) for part in parts)})"

    def perform(self, context: LaunchContext) -> str:
        chosen = self.__if if _boolean(context, self.__condition) else self.__else
        return perform_substitutions(context, chosen)
