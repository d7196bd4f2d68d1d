"""Substitutions about packages and parameters."""

from __future__ import annotations

import shlex

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch.launch_context import LaunchContext
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import PathJoinSubstitution, SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

from .packages import ExecutableNotFoundError, find_executable

__all__ = [
    "ExecutableInPackage",
    "FindPackage",
    "FindPackagePrefix",
    "FindPackageShare",
    "Parameter",
]


class FindPackage(Substitution):
    """The base of what finds a package by its name."""

    def __init__(self, package: SomeSubstitutionsType) -> None:
        self.__package = normalize_to_list_of_substitutions(package)

    @property
    def package(self) -> list[Substitution]:
        """The name of the package."""
        return self.__package

    def describe(self) -> str:
        package = " + ".join(sub.describe() for sub in self.__package)
        return f"{type(self).__name__}(pkg={package})"

    def find(self, package_name: str) -> str:
        """Return the path that is asked for."""
        raise NotImplementedError

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__package)
        try:
            return self.find(name)
        except (PackageNotFoundError, ValueError) as error:
            raise SubstitutionFailure(f"package '{name}' not found: {error}") from error

    def __truediv__(self, other: SomeSubstitutionsType) -> PathJoinSubstitution:
        return PathJoinSubstitution([self, other])


class FindPackagePrefix(FindPackage):
    """The folder into which a package is installed."""

    def find(self, package_name: str) -> str:
        return str(get_package_prefix(package_name))


class FindPackageShare(FindPackage):
    """The share folder of a package, with its launch and configuration files."""

    def find(self, package_name: str) -> str:
        return str(get_package_share_directory(package_name))


class ExecutableInPackage(FindPackage):
    """An executable of a package, quoted for a command line where it is several words."""

    def __init__(self, executable: SomeSubstitutionsType, package: SomeSubstitutionsType) -> None:
        super().__init__(package)
        self.__executable = normalize_to_list_of_substitutions(executable)

    @property
    def executable(self) -> list[Substitution]:
        """The name of the executable."""
        return self.__executable

    def describe(self) -> str:
        executable = " + ".join(sub.describe() for sub in self.__executable)
        package = " + ".join(sub.describe() for sub in self.package)
        return f"ExecInPkg(pkg={package}, exec={executable})"

    def perform(self, context: LaunchContext) -> str:
        package = perform_substitutions(context, self.package)
        try:
            found = find_executable(package, perform_substitutions(context, self.__executable))
        except PackageNotFoundError as error:
            raise SubstitutionFailure(f"package '{package}' not found: {error}") from error
        except ExecutableNotFoundError as error:
            raise SubstitutionFailure(str(error)) from error
        return found.path if found.path is not None else shlex.join(found.command)


class Parameter(Substitution):
    """The text of a parameter that ``SetParameter`` or ``SetParametersFromFile`` has set before."""

    def __init__(self, name: SomeSubstitutionsType, *, default: SomeSubstitutionsType | None = None) -> None:
        self.__name = normalize_to_list_of_substitutions(name)
        self.__default = None if default is None else normalize_to_list_of_substitutions(default)

    def describe(self) -> str:
        return f"Parameter({' + '.join(sub.describe() for sub in self.__name)})"

    def perform(self, context: LaunchContext) -> str:
        name = perform_substitutions(context, self.__name)
        for item in reversed(context.launch_configurations.get("global_params", [])):
            if isinstance(item, tuple) and item[0] == name:
                return str(item[1])
        if self.__default is not None:
            return perform_substitutions(context, self.__default)
        raise SubstitutionFailure(f"parameter '{name}' has not been set by SetParameter")
