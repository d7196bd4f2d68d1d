"""Actions on the environment of the processes that are started afterwards."""

from __future__ import annotations

import os
from typing import Any

from ..action import Action
from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..substitutions.values import describe_all
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution


class SetEnvironmentVariable(Action):
    """Sets a variable."""

    def __init__(self, name: SomeSubstitutionsType, value: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__name = normalize_to_list_of_substitutions(name)
        self.__value = normalize_to_list_of_substitutions(value)

    @property
    def name(self) -> list[Substitution]:
        """The name of the variable."""
        return self.__name

    @property
    def value(self) -> list[Substitution]:
        """The value it is set to."""
        return self.__value

    def describe(self) -> str:
        return f"SetEnvironmentVariable({describe_all(self.__name)}, {describe_all(self.__value)})"

    def execute(self, context: LaunchContext) -> None:
        name = perform_substitutions(context, self.__name)
        context.environment[name] = perform_substitutions(context, self.__value)


class AppendEnvironmentVariable(Action):
    """Adds to a variable that lists things, at its end or, with ``prepend``, at its start."""

    def __init__(
        self,
        name: SomeSubstitutionsType,
        value: SomeSubstitutionsType,
        prepend: bool | SomeSubstitutionsType = False,
        separator: SomeSubstitutionsType = os.pathsep,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.__name = normalize_to_list_of_substitutions(name)
        self.__value = normalize_to_list_of_substitutions(value)
        self.__prepend = normalize_typed_substitution(prepend, bool)
        self.__separator = normalize_to_list_of_substitutions(separator)

    def execute(self, context: LaunchContext) -> None:
        name = perform_substitutions(context, self.__name)
        parts = [context.environment.get(name, ""), perform_substitutions(context, self.__value)]
        if perform_typed_substitution(context, self.__prepend, bool):
            parts.reverse()
        separator = perform_substitutions(context, self.__separator)
        context.environment[name] = separator.join(part for part in parts if part)


class UnsetEnvironmentVariable(Action):
    """Removes a variable, where it is set."""

    def __init__(self, name: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__name = normalize_to_list_of_substitutions(name)

    def execute(self, context: LaunchContext) -> None:
        context.environment.pop(perform_substitutions(context, self.__name), None)


class PushEnvironment(Action):
    """Saves the environment for a later :class:`PopEnvironment`."""

    def execute(self, context: LaunchContext) -> None:
        context._push_environment()


class PopEnvironment(Action):
    """Restores the environment that was saved last."""

    def execute(self, context: LaunchContext) -> None:
        context._pop_environment()


class ResetEnvironment(Action):
    """Restores the environment in which the launch began."""

    def execute(self, context: LaunchContext) -> None:
        context._reset_environment()
