"""Groups actions, with a scope of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..action import Action
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from .environment import PopEnvironment, PushEnvironment, ResetEnvironment
from .launch_configurations import (
    PopLaunchConfigurations,
    PushLaunchConfigurations,
    ResetLaunchConfigurations,
    SetLaunchConfiguration,
)


class GroupAction(Action):
    """Several actions under one condition.

    :param scoped: changes to configurations, namespaces, remaps and environment end with the group.
    :param forwarding: whether the group sees the configurations from outside (scoped groups only).
    :param launch_configurations: configurations to set at the start of the group.
    """

    def __init__(
        self,
        actions: Iterable[LaunchDescriptionEntity],
        *,
        scoped: bool = True,
        forwarding: bool = True,
        launch_configurations: Mapping[Any, SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        actions = list(actions)
        configurations = dict(launch_configurations or {})
        begin: list[LaunchDescriptionEntity] = [
            SetLaunchConfiguration(name, value) for name, value in configurations.items()
        ]
        end: list[LaunchDescriptionEntity] = []
        if scoped:
            if not forwarding:
                begin = [ResetEnvironment(), ResetLaunchConfigurations(configurations)]
            begin = [PushLaunchConfigurations(), PushEnvironment(), *begin]
            end = [PopEnvironment(), PopLaunchConfigurations()]
        self.__entities = [*begin, *actions, *end]

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        return self.__entities

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        return self.__entities
