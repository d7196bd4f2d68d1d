"""Parameters of nodes: values with a type, files, and how dictionaries become YAML."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from launch.launch_context import LaunchContext
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    SubstitutionFailure,
    ThisLaunchFileDir,
)
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch.utilities.type_utils import normalize_typed_substitution, perform_typed_substitution

from .substitutions import FindPackagePrefix, FindPackageShare

_SCALARS = (bool, int, float, str)
EvaluatedValue = bool | int | float | str | bytes | list[bool] | list[int] | list[float] | list[str]


def write_parameter_file(text: str) -> str:
    """Write a temporary YAML file for nodes of this launch; it is removed when the launch ends."""
    handle, path = tempfile.mkstemp(prefix="launch_params_", suffix=".yaml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)

    def remove() -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)

    atexit.register(remove)
    return path


def _check_value(name: str, value: Any) -> EvaluatedValue:
    """Return ``value`` where ROS 2 has a parameter type for it; TypeError otherwise."""
    if isinstance(value, (*_SCALARS, bytes)):
        return value
    if isinstance(value, Sequence):
        items = list(value)
        if {type(item) for item in items} == {int, float}:
            items = [float(item) for item in items]
        if items and type(items[0]) in _SCALARS and len({type(item) for item in items}) == 1:
            return items
        raise TypeError(
            f"parameter '{name}': a list must not be empty, and its items must all be of one type, "
            f"bool, int, float or str; got {value!r}"
        )
    raise TypeError(
        f"parameter '{name}': valid are bool, int, float, str, bytes and lists of the first four; "
        f"got {value!r}. For text that looks like something else use ParameterValue(value, value_type=str)"
    )


def _from_yaml(name: str, text: str) -> EvaluatedValue:
    """Return the value of a parameter whose substitutions gave ``text``."""
    if not text:
        return ""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise TypeError(
            f"parameter '{name}': '{text}' is not valid YAML; for plain text use ParameterValue(value, value_type=str)"
        ) from None
    return _check_value(name, value)


class ParameterValue:
    """A value with a stated type: ``ParameterValue(LaunchConfiguration('gain'), value_type=float)``.

    :param value_type: bool, int, float, str, or ``List[...]`` of one of them; None asks YAML's rules.
    """

    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        self.__value = value
        self.__type = value_type

    @property
    def value(self) -> Any:
        """The value as it was given."""
        return self.__value

    @property
    def value_type(self) -> Any:
        """The type that was asked for, or None."""
        return self.__type

    def evaluate(self, context: LaunchContext, name: str = "") -> EvaluatedValue:
        """Return the value; TypeError where it is not of the type."""
        value: Any = self.__value
        if isinstance(value, (str, Substitution)) or (
            isinstance(value, Sequence) and any(isinstance(item, Substitution) for item in value)
        ):
            text = perform_substitutions(context, normalize_to_list_of_substitutions(value))
            value = text if self.__type is str else _from_yaml(name, text)
        if self.__type is None:
            return _check_value(name, value)
        if self.__type is str:
            return str(value)
        is_list = hasattr(self.__type, "__origin__")
        wanted = self.__type.__args__[0] if is_list else self.__type
        items = value if is_list and isinstance(value, (list, tuple)) else [value]
        if wanted is float:
            items = [float(item) if type(item) is int else item for item in items]
        if any(type(item) is not wanted for item in items) or is_list != isinstance(value, (list, tuple)):
            raise TypeError(f"parameter '{name}': {value!r} is not of type {self.__type}")
        return list(items) if is_list else items[0]


class Parameter:
    """A single named parameter, passed on the command line and not by a file."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, *, value_type: Any = None) -> None:
        self.__name = normalize_to_list_of_substitutions(name)
        self.__value = ParameterValue(value, value_type=value_type)

    def evaluate(self, context: LaunchContext) -> tuple[str, EvaluatedValue]:
        """Return the name and the value."""
        name = perform_substitutions(context, self.__name)
        return name, self.__value.evaluate(context, name)


class ParameterFile:
    """A YAML file with parameters; with ``allow_substs`` it may hold ``$(var x)`` and the like."""

    def __init__(
        self,
        param_file: SomeSubstitutionsType,
        *,
        allow_substs: bool | SomeSubstitutionsType = False,
    ) -> None:
        self.__file = normalize_to_list_of_substitutions(param_file)
        self.__allow_substs = normalize_typed_substitution(allow_substs, bool)

    def __repr__(self) -> str:
        return f"ParameterFile({' + '.join(sub.describe() for sub in self.__file)})"

    def evaluate(self, context: LaunchContext) -> Path:
        """Return the path of the file, or of a temporary one with its substitutions performed."""
        path = Path(perform_substitutions(context, self.__file))
        if not perform_typed_substitution(context, self.__allow_substs, bool):
            return path
        text = substitute_text(context, path.read_text(encoding="utf-8"))
        try:
            yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SubstitutionFailure(
                f"the parameter file '{path}' is not valid YAML after its substitutions: {error}"
            ) from error
        return Path(write_parameter_file(text))


_IN_TEXT = {
    "dirname": ThisLaunchFileDir,
    "env": EnvironmentVariable,
    "find-pkg-prefix": FindPackagePrefix,
    "find-pkg-share": FindPackageShare,
    "var": LaunchConfiguration,
}


def substitute_text(context: LaunchContext, text: str) -> str:
    """Return ``text`` with each ``$(var name [default])``, ``$(env ...)``, ... performed, inner ones first."""

    def perform(match: re.Match[str]) -> str:
        kind, *words = match[1].split(None, 2)
        words = [word.strip("'\"") for word in words]
        if kind not in _IN_TEXT:
            raise SubstitutionFailure(f"unknown substitution '{kind}'; valid are {', '.join(_IN_TEXT)}")
        if kind == "var" and len(words) == 2:
            return LaunchConfiguration(words[0], default=words[1]).perform(context)
        if kind == "env" and len(words) == 2:
            return EnvironmentVariable(words[0], default_value=words[1]).perform(context)
        substitution: Any = _IN_TEXT[kind]
        try:
            return str(substitution(*words).perform(context))
        except TypeError:
            raise SubstitutionFailure(f"'{match[0]}' has the wrong number of words") from None

    before = None
    while before != text:
        before, text = text, re.sub(r"\$\(([^$()]+)\)", perform, text)
    return text


def evaluate_parameter_dict(context: LaunchContext, parameters: Mapping[Any, Any]) -> dict[str, Any]:
    """Return names and values of a dictionary of parameters; nested ones are joined by dots."""
    result: dict[str, Any] = {}
    for key, value in parameters.items():
        name = perform_substitutions(context, normalize_to_list_of_substitutions(key))
        if isinstance(value, Mapping):
            inner = evaluate_parameter_dict(context, value)
            result.update({f"{name}.{inner_name}": item for inner_name, item in inner.items()})
        else:
            result[name] = evaluate_value(context, name, value)
    return result


def evaluate_value(context: LaunchContext, name: str, value: Any) -> EvaluatedValue:
    """Return one value. What comes from substitutions follows YAML's rules; plain text stays text.

    A list in which each item is text or a substitution, with at least one substitution, is one text in
    parts; a list of lists of substitutions is a list of values.
    """
    if isinstance(value, ParameterValue):
        return value.evaluate(context, name)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Substitution):
        return _from_yaml(name, context.perform_substitution(value))
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        has_substitution = any(isinstance(item, Substitution) for item in value)
        if has_substitution and all(isinstance(item, (str, Substitution)) for item in value):
            return _from_yaml(name, perform_substitutions(context, normalize_to_list_of_substitutions(value)))
        return _check_value(name, [evaluate_value(context, name, item) for item in value])
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _check_value(name, value.tolist())
    return _check_value(name, value)
