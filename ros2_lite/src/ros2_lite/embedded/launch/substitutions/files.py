"""Substitutions about files and folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .. import logging as launch_logging
from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .substitution_failure import SubstitutionFailure
from .values import describe_all


class PathJoinSubstitution(Substitution):
    """Path components joined; each component may itself be several substitutions to concatenate."""

    def __init__(self, substitutions: Iterable[SomeSubstitutionsType]) -> None:
        self.__components = [normalize_to_list_of_substitutions(item) for item in substitutions]

    @property
    def substitutions(self) -> list[list[Substitution]]:
        """The components."""
        return self.__components

    def describe(self) -> str:
        return f"PathJoin({', '.join(describe_all(component) for component in self.__components)})"

    def perform(self, context: LaunchContext) -> str:
        return os.path.join(*("".join(sub.perform(context) for sub in part) for part in self.__components))

    def __truediv__(self, other: SomeSubstitutionsType) -> PathJoinSubstitution:
        return PathJoinSubstitution([*self.__components, other])


class PathSubstitution(PathJoinSubstitution):
    """A path that further components are joined to with ``/``."""

    def __init__(self, path: SomeSubstitutionsType) -> None:
        super().__init__([path])


class FindExecutable(Substitution):
    """The path of a program on PATH."""

    def __init__(self, *, name: SomeSubstitutionsType) -> None:
        self.__name = normalize_to_list_of_substitutions(name)

    @property
    def name(self) -> list[Substitution]:
        """The name of the program."""
        return self.__name

    def describe(self) -> str:
        return f"FindExec({describe_all(self.__name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__name)
        found = shutil.which(name, path=context.environment.get("PATH"))
        if found is None:
            raise SubstitutionFailure(f"executable '{name}' not found on the PATH")
        return found


class FileContent(Substitution):
    """The text of a file."""

    def __init__(self, path: SomeSubstitutionsType) -> None:
        self.__path = normalize_to_list_of_substitutions(path)

    def describe(self) -> str:
        return f"FileContent({describe_all(self.__path)})"

    def perform(self, context: LaunchContext) -> str:
        path = perform_substitutions(context, self.__path)
        try:
            return Path(path).read_text(encoding="utf-8")
        except OSError as error:
            what = (
                "File not found" if isinstance(error, FileNotFoundError) else f"cannot read the file ({error.strerror})"
            )
            raise SubstitutionFailure(f"{what}: {path}") from error


class ThisLaunchFile(Substitution):
    """The path of the launch file being run."""

    def describe(self) -> str:
        return "ThisLaunchFile()"

    def perform(self, context: LaunchContext) -> str:
        path = context.get_locals_as_dict().get("current_launch_file_path")
        if path is None:
            raise SubstitutionFailure("ThisLaunchFile used outside of a launch file (in a script)")
        return str(path)


class ThisLaunchFileDir(Substitution):
    """The folder of the launch file being run."""

    def describe(self) -> str:
        return "ThisLaunchFileDir()"

    def perform(self, context: LaunchContext) -> str:
        path = context.get_locals_as_dict().get("current_launch_file_directory")
        if path is None:
            raise SubstitutionFailure("ThisLaunchFileDir used outside of a launch file (in a script)")
        return str(path)


class LaunchLogDir(Substitution):
    """The folder of this launch's log files."""

    def describe(self) -> str:
        return "LaunchLogDir()"

    def perform(self, context: LaunchContext) -> str:
        return launch_logging.launch_config.log_dir
