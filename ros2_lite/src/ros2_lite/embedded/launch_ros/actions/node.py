"""Runs a ROS node."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError
from launch import logging as launch_logging
from launch.action import Action
from launch.actions import ExecuteLocal, ExecuteProcess
from launch.descriptions import Executable
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

from ..names import join_namespace, validate_namespace, validate_node_name
from ..packages import ExecutableNotFoundError, find_executable
from ..parameter_descriptions import (
    Parameter,
    ParameterFile,
    evaluate_parameter_dict,
    write_parameter_file,
)
from .ros_context import parameter_text

Remappings = Iterable[tuple[SomeSubstitutionsType, SomeSubstitutionsType]]


class _NodeExecutable(Executable):
    """The command line of a node: the package's executable, its arguments, then the ROS arguments."""

    def __init__(
        self, *, package: SomeSubstitutionsType | None, executable: SomeSubstitutionsType, **kwargs: Any
    ) -> None:
        super().__init__(cmd=[executable], **kwargs)
        self._package = None if package is None else normalize_to_list_of_substitutions(package)
        self._executable_name: str | None = None
        self.ros_arguments: list[str] = []

    def program_name(self, cmd: list[str]) -> str:
        return self._executable_name or super().program_name(cmd)

    def prepare(self, context: LaunchContext, action: Action) -> None:
        # The executable may be several words (interpreter and entry point), so it is put in afterwards.
        executable = perform_substitutions(context, self.cmd[0])
        command: tuple[str, ...] = (executable,)
        self._executable_name = os.path.basename(executable)
        if self._package is not None:
            package = perform_substitutions(context, self._package)
            try:
                command = find_executable(package, executable).command
            except PackageNotFoundError as error:
                raise SubstitutionFailure(f"package '{package}' not found: {error}") from error
            except ExecutableNotFoundError as error:
                raise SubstitutionFailure(str(error)) from error
        super().prepare(context, action)
        assert self.final_cmd is not None
        at = len(self.final_cmd) - len(self.cmd)  # behind the words of a prefix
        self.final_cmd[at : at + 1] = command
        self.final_cmd += ["--ros-args", *self.ros_arguments]


class Node(ExecuteProcess):
    """Runs an executable of a package (or, without a package, a path) as a ROS node.

    :param name: replaces the node's own name.
    :param namespace: a relative one goes below what ``PushRosNamespace`` has pushed.
    :param exec_name: the name in the log; that of the executable by default.
    :param parameters: dictionaries (nested ones are joined by dots), paths of YAML files, ``Parameter``
        and ``ParameterFile``; later ones win.
    :param remappings: pairs (from, to).
    :param ros_arguments: further arguments behind ``--ros-args``, for example ``['--log-level', 'debug']``.
    :param arguments: arguments for the program itself.
    :param kwargs: those of ``ExecuteProcess`` but ``cmd`` and ``name``: output, respawn, on_exit, prefix,
        additional_env, emulate_tty, condition, ...
    :raises TypeError: parameters or remappings of another form.
    """

    UNSPECIFIED_NODE_NAME = "<node_name_unspecified>"
    UNSPECIFIED_NODE_NAMESPACE = "<node_namespace_unspecified>"

    def __init__(
        self,
        *,
        executable: SomeSubstitutionsType,
        package: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        namespace: SomeSubstitutionsType | None = None,
        exec_name: SomeSubstitutionsType | None = None,
        parameters: Sequence[Any] | None = None,
        remappings: Remappings | None = None,
        ros_arguments: Iterable[SomeSubstitutionsType] | None = None,
        arguments: Iterable[SomeSubstitutionsType] | None = None,
        prefix: SomeSubstitutionsType | None = None,
        cwd: SomeSubstitutionsType | None = None,
        env: Mapping[Any, SomeSubstitutionsType] | None = None,
        additional_env: Mapping[Any, SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        for argument, what in ((arguments, "arguments"), (ros_arguments, "ros_arguments")):
            if isinstance(argument, str):
                raise TypeError(f"Node: '{what}' must be a list of arguments, got '{argument}'")
        self.__package = package
        self.__executable = executable
        self.__name = None if name is None else normalize_to_list_of_substitutions(name)
        self.__namespace = None if namespace is None else normalize_to_list_of_substitutions(namespace)
        self.__ros_arguments = [normalize_to_list_of_substitutions(item) for item in ros_arguments or ()]
        self.__parameters = self.__check_parameters(parameters)
        try:
            self.__remappings = [
                (normalize_to_list_of_substitutions(src), normalize_to_list_of_substitutions(dst))
                for src, dst in remappings or ()
            ]
        except ValueError:
            raise TypeError(f"Node: 'remappings' must be pairs (from, to), got {remappings!r}") from None
        self.__final_name: str | None = None
        self.__node_executable = _NodeExecutable(
            package=package,
            executable=executable,
            arguments=arguments,
            name=exec_name,
            prefix=prefix,
            cwd=cwd,
            env=env,
            additional_env=additional_env,
        )
        # Not through ExecuteProcess: the command line is made by the description above.
        ExecuteLocal.__init__(self, process_description=self.__node_executable, **kwargs)

    @staticmethod
    def __check_parameters(parameters: Sequence[Any] | None) -> list[Any]:
        if parameters is None:
            return []
        if isinstance(parameters, (str, Mapping)) or not isinstance(parameters, Sequence):
            raise TypeError(f"Node: 'parameters' must be a list of dictionaries and YAML files, got {parameters!r}")
        result: list[Any] = []
        for item in parameters:
            if isinstance(item, (Mapping, Parameter, ParameterFile)):
                result.append(item)
            else:
                result.append(ParameterFile(item))
        return result

    @property
    def node_package(self) -> Any:
        """The package, as it was given."""
        return self.__package

    @property
    def node_executable(self) -> Any:
        """The executable, as it was given."""
        return self.__executable

    @property
    def node_name(self) -> str:
        """The full name; known once the action has been executed."""
        if self.__final_name is None:
            raise RuntimeError("cannot access 'node_name' before executing action")
        return self.__final_name

    def describe(self) -> str:
        def text(value: Any) -> str:
            if value is None:
                return "None"
            items: list[Substitution] = normalize_to_list_of_substitutions(value)
            return " + ".join(item.describe() for item in items)

        return (
            f"Node(package={text(self.__package)}, executable={text(self.__executable)}, "
            f"name={text(self.__name)}, namespace={text(self.__namespace)})"
        )

    # -- execution ----------------------------------------------------------------------------

    def __evaluate_names(self, context: LaunchContext) -> tuple[str | None, str | None]:
        name = None if self.__name is None else perform_substitutions(context, self.__name)
        given = None if self.__namespace is None else perform_substitutions(context, self.__namespace)
        # An empty one, as launch files pass through an argument that is '' by default, is the one around it, or '/'.
        namespace = join_namespace(context.launch_configurations.get("ros_namespace"), given)
        if name is not None:
            validate_node_name(name)
        if namespace is not None:
            validate_namespace(namespace)
        return name, namespace

    def __parameter_file(self, parameters: dict[str, Any]) -> str:
        unspecified = (self.UNSPECIFIED_NODE_NAME, self.UNSPECIFIED_NODE_NAMESPACE)
        is_known = not any(word in self.node_name for word in unspecified)
        content = {self.node_name if is_known else "/**": {"ros__parameters": parameters}}
        return write_parameter_file(yaml.safe_dump(content, default_flow_style=False, allow_unicode=True))

    def __parameter_arguments(self, context: LaunchContext) -> list[str]:
        result: list[str] = []
        for item in context.launch_configurations.get("global_params", []):
            if isinstance(item, tuple):
                result += ["-p", f"{item[0]}:={parameter_text(item[1])}"]
            else:
                result += ["--params-file", os.path.abspath(item)]
        for item in self.__parameters:
            if isinstance(item, Parameter):
                name, value = item.evaluate(context)
                result += ["-p", f"{name}:={parameter_text(value)}"]
                continue
            if isinstance(item, ParameterFile):
                path = str(item.evaluate(context))
            else:
                parameters = evaluate_parameter_dict(context, item)
                if not parameters:
                    continue
                path = self.__parameter_file(parameters)
            if not Path(path).is_file():
                launch_logging.get_logger("launch_ros").warning(f"Parameter file path is not a file: {path}")
                continue
            result += ["--params-file", path]
        return result

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        try:
            name, namespace = self.__evaluate_names(context)
        except ValueError as error:
            raise RuntimeError(f"{self.describe()}: {error}") from None
        prefix = namespace if namespace is not None else self.UNSPECIFIED_NODE_NAMESPACE
        self.__final_name = f"{prefix.rstrip('/')}/{name or self.UNSPECIFIED_NODE_NAME}"
        arguments = [perform_substitutions(context, item) for item in self.__ros_arguments]
        if name is not None:
            arguments += ["-r", f"__node:={name}"]
        if namespace is not None:
            arguments += ["-r", f"__ns:={namespace}"]
        arguments += self.__parameter_arguments(context)
        remaps = list(context.launch_configurations.get("ros_remaps", []))
        remaps += [
            (perform_substitutions(context, src), perform_substitutions(context, dst)) for src, dst in self.__remappings
        ]
        for src, dst in remaps:
            arguments += ["-r", f"{src}:={dst}"]
        self.__node_executable.ros_arguments = arguments
        self.__warn_of_same_name(context)
        return super().execute(context)

    def __warn_of_same_name(self, context: LaunchContext) -> None:
        if "<" in self.node_name:
            return
        names: dict[str, int] = context.get_locals_as_dict().get("unique_ros_node_names", {})
        names[self.node_name] = names.get(self.node_name, 0) + 1
        context.extend_globals({"unique_ros_node_names": names})
        if names[self.node_name] > 1:
            launch_logging.get_logger("launch_ros").warning(
                f"there are now at least {names[self.node_name]} nodes with the name {self.node_name} "
                "created within this launch context"
            )
