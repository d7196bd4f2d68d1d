"""Includes another launch description."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..action import Action
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..launch_description_source import LaunchDescriptionSource
from ..launch_description_sources import AnyLaunchDescriptionSource
from ..some_substitutions_type import SomeSubstitutionsType
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .launch_configurations import SetLaunchConfiguration
from .opaque import OpaqueFunction

_FILE, _FOLDER = "current_launch_file_path", "current_launch_file_directory"

LaunchArguments = Iterable[tuple[SomeSubstitutionsType, SomeSubstitutionsType]]


class IncludeLaunchDescription(Action):
    """Visits the description of a source (usually a launch file) with the given launch arguments.

    Arguments that the file does not declare are set as launch configurations all the same. Like every
    change to configurations they last until the end of the surrounding scope: put the include into a
    ``GroupAction`` to end them with it.
    """

    def __init__(
        self,
        launch_description_source: LaunchDescriptionSource | SomeSubstitutionsType,
        *,
        launch_arguments: LaunchArguments | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(launch_description_source, LaunchDescriptionSource):
            launch_description_source = AnyLaunchDescriptionSource(launch_description_source)
        self.__source = launch_description_source
        if isinstance(launch_arguments, Mapping):
            launch_arguments = launch_arguments.items()
        self.__arguments = tuple(launch_arguments or ())

    @property
    def launch_description_source(self) -> LaunchDescriptionSource:
        """Where the description comes from."""
        return self.__source

    @property
    def launch_arguments(self) -> tuple[tuple[SomeSubstitutionsType, SomeSubstitutionsType], ...]:
        """The arguments given to it."""
        return self.__arguments

    def describe(self) -> str:
        return f"IncludeLaunchDescription({self.__source.location})"

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        description = self.__source.try_get_launch_description_without_context()
        return [] if description is None else [description]

    def __given_names(self, context: LaunchContext) -> list[str]:
        return [
            perform_substitutions(context, normalize_to_list_of_substitutions(name)) for name, _ in self.__arguments
        ]

    def __check_required(self, context: LaunchContext, description: Any) -> None:
        given = self.__given_names(context)
        found = description.get_launch_arguments_with_include_launch_description_actions()
        for argument, includes in found:
            if argument._conditionally_included or argument.default_value is not None:
                continue
            known = {*given, *context.launch_configurations}
            for include in includes:
                # A name made of substitutions may not be known yet; then the include itself reports it.
                known.update(name for name, _ in include.launch_arguments if isinstance(name, str))
            if argument.name not in known:
                raise RuntimeError(
                    f"Included launch description missing required argument '{argument.name}' "
                    f"(description: '{argument.description}'), given: [{', '.join(given)}]"
                )

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        description = self.__source.get_launch_description(context)
        self.__check_required(context, description)
        before = {key: context.get_locals_as_dict().get(key) for key in (_FILE, _FOLDER)}
        # Arguments are evaluated in the including file, so it is they that come first.
        arguments = [
            (name, perform_substitutions(context, normalize_to_list_of_substitutions(value)))
            for name, value in self.__arguments
        ]
        path = os.path.abspath(self.__source.location)
        folder = os.path.dirname(path) if os.path.exists(path) else self.__source.location
        context.extend_locals({_FILE: path, _FOLDER: folder})

        def restore(context: LaunchContext) -> None:
            for key, value in before.items():
                if value is None:
                    context._remove_local(key)
                else:
                    context.extend_locals({key: value})

        return [
            *(SetLaunchConfiguration(name, value) for name, value in arguments),
            description,
            OpaqueFunction(function=restore),
        ]
