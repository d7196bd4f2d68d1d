"""The base of the places that launch descriptions come from."""

from __future__ import annotations

import os

from . import logging as launch_logging
from .launch_context import LaunchContext
from .launch_description import LaunchDescription
from .some_substitutions_type import SomeSubstitutionsType
from .substitution import Substitution
from .utilities import normalize_to_list_of_substitutions, perform_substitutions


class LaunchDescriptionSource:
    """A launch description, given or to be loaded from a location, once."""

    def __init__(
        self,
        launch_description: LaunchDescription | None = None,
        location: SomeSubstitutionsType = "<script>",
        method: str = "unspecified mechanism from a script",
    ) -> None:
        self.__description = launch_description
        self.__location = normalize_to_list_of_substitutions(location)
        self.__expanded_location: str | None = None
        self.__method = method

    @property
    def location(self) -> str:
        """Where the description comes from; in words as long as the path is not known."""
        if self.__expanded_location is not None:
            return self.__expanded_location
        return " + ".join(str(sub.describe()) for sub in self.__location).strip("'")

    @property
    def method(self) -> str:
        """How it is loaded, in words."""
        return self.__method

    @property
    def _location_substitutions(self) -> list[Substitution]:
        return self.__location

    def get_launch_description(self, context: LaunchContext) -> LaunchDescription:
        """Return the description, loaded at the first call."""
        if self.__description is None:
            self.__expanded_location = perform_substitutions(context, self.__location)
            self.__description = self._get_launch_description(self.__expanded_location)
        elif self.__expanded_location is None:
            self.__expanded_location = perform_substitutions(context, self.__location)
        return self.__description

    def try_get_launch_description_without_context(self) -> LaunchDescription | None:
        """Return the description where its path is known without a running launch, else None."""
        if self.__description is not None:
            return self.__description
        try:
            location = perform_substitutions(LaunchContext(), self.__location)
        except Exception as error:
            launch_logging.get_logger("launch").debug(
                f"the path of the launch file '{self.location}' is not known yet: {error}"
            )
            return None
        if not os.path.exists(location):
            return None
        self.__expanded_location = location
        self.__description = self._get_launch_description(location)
        return self.__description

    def _get_launch_description(self, location: str) -> LaunchDescription:
        raise NotImplementedError(f"{type(self).__name__} does not implement _get_launch_description()")
