"""Writes a message to the launch log."""

from __future__ import annotations

import logging
from typing import Any

from .. import logging as launch_logging
from ..action import Action
from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..substitutions.values import describe_all
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions


class Log(Action):
    """Logs a message at a level (``debug``, ``info``, ``warning``, ``error`` or ``critical``)."""

    def __init__(self, *, msg: SomeSubstitutionsType, level: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__msg = normalize_to_list_of_substitutions(msg)
        self.__level = normalize_to_list_of_substitutions(level)

    @property
    def msg(self) -> list[Substitution]:
        """The message."""
        return self.__msg

    def describe(self) -> str:
        return f"{type(self).__name__}({describe_all(self.__msg)})"

    def execute(self, context: LaunchContext) -> None:
        name = perform_substitutions(context, self.__level)
        level = logging.getLevelName(name.upper())
        if not isinstance(level, int):
            raise RuntimeError(f"'{name}' is not a log level; valid are debug, info, warning, error, critical")
        launch_logging.get_logger("launch.user").log(level, perform_substitutions(context, self.__msg))


class LogInfo(Log):
    """Logs at INFO."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(msg=msg, level="info", **kwargs)


class LogDebug(Log):
    """Logs at DEBUG."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(msg=msg, level="debug", **kwargs)


class LogWarning(Log):
    """Logs at WARNING."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(msg=msg, level="warning", **kwargs)


class LogError(Log):
    """Logs at ERROR."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(msg=msg, level="error", **kwargs)
