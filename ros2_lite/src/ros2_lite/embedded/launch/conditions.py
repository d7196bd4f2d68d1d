"""Conditions: whether an action runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .condition import Condition
from .some_substitutions_type import SomeSubstitutionsType
from .substitution import Substitution
from .utilities import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from .launch_context import LaunchContext

__all__ = [
    "IfCondition",
    "InvalidConditionExpressionError",
    "LaunchConfigurationEquals",
    "LaunchConfigurationNotEquals",
    "UnlessCondition",
    "evaluate_condition_expression",
]

VALID_TRUE_EXPRESSIONS = ("true", "1")
VALID_FALSE_EXPRESSIONS = ("false", "0")


class InvalidConditionExpressionError(RuntimeError):
    """The text of a condition is neither true nor false."""

    def __init__(self, expanded_expression: str, expression: Sequence[Substitution], valid: Sequence[str]) -> None:
        source = " + ".join(sub.describe() for sub in expression)
        super().__init__(
            f"invalid condition expression '{expanded_expression}' (from {source}); valid are {', '.join(valid)}"
        )


def evaluate_condition_expression(context: LaunchContext, expression: Sequence[Substitution]) -> bool:
    """Return whether the expression's text says true (``true``, ``1``) or false (``false``, ``0``)."""
    text = perform_substitutions(context, expression).strip().lower()
    if text in VALID_TRUE_EXPRESSIONS:
        return True
    if text in VALID_FALSE_EXPRESSIONS:
        return False
    raise InvalidConditionExpressionError(text, expression, VALID_TRUE_EXPRESSIONS + VALID_FALSE_EXPRESSIONS)


class IfCondition(Condition):
    """True where the text says true."""

    def __init__(self, predicate_expression: SomeSubstitutionsType) -> None:
        super().__init__(predicate=self._evaluate)
        self._expression = normalize_to_list_of_substitutions(predicate_expression)

    def _evaluate(self, context: LaunchContext) -> bool:
        return evaluate_condition_expression(context, self._expression)

    def describe(self) -> str:
        return f"{type(self).__name__}({' + '.join(sub.describe() for sub in self._expression)})"


class UnlessCondition(IfCondition):
    """True where the text says false."""

    def _evaluate(self, context: LaunchContext) -> bool:
        return not super()._evaluate(context)


class LaunchConfigurationEquals(Condition):
    """True where a launch configuration has the given text; None asks that it is unset."""

    def __init__(self, launch_configuration_name: str, expected_value: SomeSubstitutionsType | None) -> None:
        super().__init__(predicate=self._evaluate)
        warnings.warn(
            f"{type(self).__name__} is deprecated, as in ROS 2; use IfCondition with EqualsSubstitution",
            UserWarning,
            stacklevel=2,
        )
        self._name = launch_configuration_name
        self._expected = None if expected_value is None else normalize_to_list_of_substitutions(expected_value)

    def _evaluate(self, context: LaunchContext) -> bool:
        actual = context.launch_configurations.get(self._name)
        if self._expected is None:
            return actual is None
        return bool(actual == perform_substitutions(context, self._expected))

    def describe(self) -> str:
        return f"{type(self).__name__}('{self._name}')"


class LaunchConfigurationNotEquals(LaunchConfigurationEquals):
    """True where a launch configuration has another text; None asks that it is set."""

    def _evaluate(self, context: LaunchContext) -> bool:
        return not super()._evaluate(context)
