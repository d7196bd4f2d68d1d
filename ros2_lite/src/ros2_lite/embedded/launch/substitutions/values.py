"""Substitutions for plain values: text, launch configurations, environment, context locals."""

from __future__ import annotations

import os
import random
import socket
import time
from typing import Any

from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .substitution_failure import SubstitutionFailure


def describe_all(substitutions: list[Substitution]) -> str:
    """Return the descriptions of several substitutions as one sum."""
    return " + ".join(sub.describe() for sub in substitutions)


class TextSubstitution(Substitution):
    """Fixed text."""

    def __init__(self, *, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"TextSubstitution expected text to be a str, got '{type(text).__name__}'")
        self.__text = text

    @property
    def text(self) -> str:
        """The text."""
        return self.__text

    def describe(self) -> str:
        return f"'{self.__text}'"

    def perform(self, context: LaunchContext) -> str:
        return self.__text


class LaunchConfiguration(Substitution):
    """The text of a launch configuration, which a launch argument or an action has set."""

    def __init__(
        self, variable_name: SomeSubstitutionsType, *, default: Any | SomeSubstitutionsType | None = None
    ) -> None:
        self.__name = normalize_to_list_of_substitutions(variable_name)
        self.__default: list[Substitution] | None = None
        if default is not None:
            # A default may be a number or a boolean as well: it is its text that counts.
            items = [default] if isinstance(default, (str, Substitution)) else default
            items = list(items) if isinstance(items, (list, tuple)) else [items]
            self.__default = normalize_to_list_of_substitutions(
                [item if isinstance(item, Substitution) else str(item) for item in items]
            )

    @property
    def variable_name(self) -> list[Substitution]:
        """The name of the configuration."""
        return self.__name

    def describe(self) -> str:
        return f"LaunchConfiguration({describe_all(self.__name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__name)
        if name in context.launch_configurations:
            return str(context.launch_configurations[name])
        if self.__default is None:
            known = ", ".join(sorted(context.launch_configurations)) or "none"
            raise SubstitutionFailure(f"launch configuration '{name}' does not exist; there are: {known}")
        return perform_substitutions(context, self.__default)


class EnvironmentVariable(Substitution):
    """The value of an environment variable of the launch context."""

    def __init__(self, name: SomeSubstitutionsType, *, default_value: SomeSubstitutionsType | None = None) -> None:
        self.__name = normalize_to_list_of_substitutions(name)
        self.__default = None if default_value is None else normalize_to_list_of_substitutions(default_value)

    @property
    def name(self) -> list[Substitution]:
        """The name of the variable."""
        return self.__name

    @property
    def default_value(self) -> list[Substitution] | None:
        """What stands in for an unset variable."""
        return self.__default

    def describe(self) -> str:
        return f"EnvVar({describe_all(self.__name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__name)
        value = context.environment.get(name)
        if value is not None:
            return value
        if self.__default is None:
            raise SubstitutionFailure(f"environment variable '{name}' does not exist")
        return perform_substitutions(context, self.__default)


class LocalSubstitution(Substitution):
    """A value of ``context.locals``, for example ``event.returncode``; dictionary keys as ``x['k']``."""

    def __init__(self, expression: str, description: str | None = None) -> None:
        self.__expression = expression
        self.__description = description

    @property
    def expression(self) -> str:
        """The path to the value."""
        return self.__expression

    def describe(self) -> str:
        return self.__description or f"LocalVar('{self.__expression}')"

    def perform(self, context: LaunchContext) -> str:
        value: Any = context.locals
        for part in self.__expression.replace("['", ".").replace("']", "").split("."):
            if part.startswith("_"):
                raise SubstitutionFailure(f"'{self.__expression}' names the private value '{part}'")
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        return str(value)


class AnonName(Substitution):
    """A name made unique to this launch; the same given name gives the same unique one."""

    def __init__(self, name: SomeSubstitutionsType) -> None:
        self.__name = normalize_to_list_of_substitutions(name)

    def describe(self) -> str:
        return f"AnonName({describe_all(self.__name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__name)
        key = f"anon{name}"
        if key not in context.launch_configurations:
            host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
            unique = f"{name}_{host}_{os.getpid()}_{time.time_ns() // 1_000_000}_{random.getrandbits(32)}"
            context.launch_configurations[key] = unique
        return str(context.launch_configurations[key])
