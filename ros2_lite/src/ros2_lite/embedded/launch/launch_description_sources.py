"""Where launch descriptions come from: Python launch files.

XML and YAML launch files would be further sources in this module.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from types import ModuleType
from typing import Any

from .invalid_launch_file_error import InvalidLaunchFileError
from .launch_description import LaunchDescription
from .launch_description_source import LaunchDescriptionSource
from .some_substitutions_type import SomeSubstitutionsType

__all__ = [
    "AnyLaunchDescriptionSource",
    "InvalidLaunchFileError",
    "InvalidPythonLaunchFileError",
    "PythonLaunchDescriptionSource",
    "get_launch_description_from_any_launch_file",
    "get_launch_description_from_python_launch_file",
    "load_python_launch_file_as_module",
]


class InvalidPythonLaunchFileError(InvalidLaunchFileError):
    """The file has no ``generate_launch_description``, or that returns something else."""

    def __init__(self, message: str) -> None:
        self._message = message
        super().__init__("py")

    def __str__(self) -> str:
        return self._message


def load_python_launch_file_as_module(python_launch_file_path: str) -> ModuleType:
    """Return the launch file, executed as a module of its own (its name does not matter)."""
    name = "python_launch_file_" + os.path.basename(python_launch_file_path).replace(".", "_")
    spec = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, python_launch_file_path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def get_launch_description_from_python_launch_file(python_launch_file_path: str) -> LaunchDescription:
    """Return what the file's ``generate_launch_description()`` returns."""
    path = str(python_launch_file_path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"launch file '{path}' does not exist")
    module = load_python_launch_file_as_module(path)
    generate: Any = getattr(module, "generate_launch_description", None)
    if not callable(generate):
        raise InvalidPythonLaunchFileError(
            f"launch file at '{path}' does not contain the required function 'generate_launch_description()'"
        )
    description = generate()
    if not isinstance(description, LaunchDescription):
        raise InvalidPythonLaunchFileError(
            f"generate_launch_description() of '{path}' must return a LaunchDescription, "
            f"got {type(description).__name__}"
        )
    return description


def get_launch_description_from_any_launch_file(launch_file_path: str) -> LaunchDescription:
    """Return the description of a launch file of any known format, by its extension."""
    if not os.path.isfile(launch_file_path):
        raise FileNotFoundError(f"launch file '{launch_file_path}' does not exist")
    if not str(launch_file_path).endswith(".py"):
        raise InvalidPythonLaunchFileError(
            f"launch file '{launch_file_path}' has an unknown format; valid are Python files (*.py)"
        )
    return get_launch_description_from_python_launch_file(launch_file_path)


class PythonLaunchDescriptionSource(LaunchDescriptionSource):
    """A Python launch file."""

    def __init__(self, launch_file_path: SomeSubstitutionsType) -> None:
        super().__init__(None, launch_file_path, "interpreted python launch file")

    def _get_launch_description(self, location: str) -> LaunchDescription:
        return get_launch_description_from_python_launch_file(location)


class AnyLaunchDescriptionSource(LaunchDescriptionSource):
    """A launch file whose extension says its format."""

    def __init__(self, launch_file_path: SomeSubstitutionsType) -> None:
        super().__init__(None, launch_file_path, "any launch file")

    def _get_launch_description(self, location: str) -> LaunchDescription:
        return get_launch_description_from_any_launch_file(location)
