"""Actions that hold for the nodes that follow in the same scope: namespace, remaps, parameters."""

from __future__ import annotations

from typing import Any

import yaml
from launch.action import Action
from launch.actions import SetEnvironmentVariable
from launch.launch_context import LaunchContext
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

from ..names import join_namespace, validate_namespace
from ..parameter_descriptions import ParameterFile, evaluate_value


class PushROSNamespace(Action):
    """Puts the nodes that follow into a namespace; a relative one goes below that of the scope."""

    def __init__(self, namespace: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__namespace = normalize_to_list_of_substitutions(namespace)

    @property
    def namespace(self) -> list[Substitution]:
        """The namespace."""
        return self.__namespace

    def describe(self) -> str:
        return f"PushRosNamespace({' + '.join(sub.describe() for sub in self.__namespace)})"

    def execute(self, context: LaunchContext) -> None:
        pushed = perform_substitutions(context, self.__namespace)
        previous = context.launch_configurations.get("ros_namespace")
        namespace = join_namespace(previous, pushed)
        assert namespace is not None
        try:
            validate_namespace(namespace)
        except ValueError as error:
            raise SubstitutionFailure(f"{error} (pushed '{pushed}' onto '{previous or '/'}')") from None
        context.launch_configurations["ros_namespace"] = namespace


PushRosNamespace = PushROSNamespace


class SetRemap(Action):
    """Remaps a name for the nodes that follow."""

    def __init__(self, src: SomeSubstitutionsType, dst: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__src = normalize_to_list_of_substitutions(src)
        self.__dst = normalize_to_list_of_substitutions(dst)

    @property
    def src(self) -> list[Substitution]:
        """The name to replace."""
        return self.__src

    @property
    def dst(self) -> list[Substitution]:
        """The name that replaces it."""
        return self.__dst

    def execute(self, context: LaunchContext) -> None:
        # A new list each time: the scope outside holds the old one.
        pair = (perform_substitutions(context, self.__src), perform_substitutions(context, self.__dst))
        remaps = context.launch_configurations.get("ros_remaps", [])
        context.launch_configurations["ros_remaps"] = [*remaps, pair]


class SetParameter(Action):
    """Sets a parameter of all nodes that follow; a node's own parameters come after it, and win."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__name = normalize_to_list_of_substitutions(name)
        self.__value = value

    def execute(self, context: LaunchContext) -> None:
        name = perform_substitutions(context, self.__name)
        value = evaluate_value(context, name, self.__value)
        parameters = context.launch_configurations.get("global_params", [])
        context.launch_configurations["global_params"] = [*parameters, (name, value)]


class SetUseSimTime(SetParameter):
    """Makes the nodes that follow take their time from ``/clock``, or not."""

    def __init__(self, value: bool | SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__("use_sim_time", value, **kwargs)


class SetParametersFromFile(Action):
    """Gives a parameter file to all nodes that follow."""

    def __init__(self, filename: SomeSubstitutionsType | ParameterFile, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__file = filename if isinstance(filename, ParameterFile) else ParameterFile(filename)

    def execute(self, context: LaunchContext) -> None:
        path = self.__file.evaluate(context)
        parameters = context.launch_configurations.get("global_params", [])
        context.launch_configurations["global_params"] = [*parameters, str(path)]


class SetROSLogDir(SetEnvironmentVariable):
    """Sets the folder for the log files of the nodes that follow."""

    def __init__(self, new_log_dir: SomeSubstitutionsType, **kwargs: Any) -> None:
        super().__init__("ROS_LOG_DIR", new_log_dir, **kwargs)


def parameter_text(value: Any) -> str:
    """Return a value as the command line takes it after ``name:=``."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9).strip()
    return text.removesuffix("...").strip()
