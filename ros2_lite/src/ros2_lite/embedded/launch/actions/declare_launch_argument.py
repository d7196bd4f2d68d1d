"""Declares an argument of a launch file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..action import Action
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions


class DeclareLaunchArgument(Action):
    """After it, the launch configuration ``name`` is set: to the given value, else to the default.

    :param choices: the only valid values; anything else ends the launch with an error.
    :raises RuntimeError: at construction for a default that is not among the choices; at execution for
        a missing value without a default, or one that is not among the choices.
    """

    def __init__(
        self,
        name: str,
        *,
        default_value: SomeSubstitutionsType | None = None,
        description: str | None = None,
        choices: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.__name = name
        self.__default_value = None if default_value is None else normalize_to_list_of_substitutions(default_value)
        self.__choices = None if choices is None else list(choices)
        if self.__choices is not None:
            if not self.__choices:
                raise RuntimeError(f"launch argument '{name}': choices is empty; leave it out to allow all")
            if isinstance(default_value, str) and default_value not in self.__choices:
                raise RuntimeError(
                    f"launch argument '{name}': the default '{default_value}' is not in provided choices "
                    f"{self.__choices}"
                )
        self.__description = self.__describe(description)
        self._conditionally_included = False

    def __describe(self, description: str | None) -> str:
        if self.__choices is None:
            return "no description given" if description is None else description
        if description is None:
            return f"One of: {self.__choices}"
        stop = "" if description.endswith(".") else "."
        return f"{description}{stop} Valid choices are: {self.__choices}"

    @property
    def name(self) -> str:
        """The name of the argument."""
        return self.__name

    @property
    def default_value(self) -> list[Substitution] | None:
        """The default, or None where a value must be given."""
        return self.__default_value

    @property
    def description(self) -> str:
        """The description, with the choices."""
        return self.__description

    @property
    def choices(self) -> list[str] | None:
        """The valid values, or None where all are."""
        return self.__choices

    def describe(self) -> str:
        return f"DeclareLaunchArgument('{self.__name}')"

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        configurations = context.launch_configurations
        if self.__name not in configurations:
            if self.__default_value is None:
                raise RuntimeError(
                    f'Required launch argument "{self.__name}" (description: "{self.__description}") was not provided'
                )
            configurations[self.__name] = perform_substitutions(context, self.__default_value)
        value = configurations[self.__name]
        if self.__choices is not None and value not in self.__choices:
            raise RuntimeError(
                f'Argument "{self.__name}" provided value "{value}" is not valid. Valid options are: {self.__choices}'
            )
        return None
