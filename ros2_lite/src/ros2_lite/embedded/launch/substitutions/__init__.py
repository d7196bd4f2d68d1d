"""Substitutions: text that is known only when the launch runs."""

from .booleans import (
    AllSubstitution,
    AndSubstitution,
    AnySubstitution,
    EqualsSubstitution,
    IfElseSubstitution,
    NotEqualsSubstitution,
    NotSubstitution,
    OrSubstitution,
)
from .command import Command
from .files import (
    FileContent,
    FindExecutable,
    LaunchLogDir,
    PathJoinSubstitution,
    PathSubstitution,
    ThisLaunchFile,
    ThisLaunchFileDir,
)
from .python_expression import PythonExpression
from .substitution_failure import SubstitutionFailure
from .values import (
    AnonName,
    EnvironmentVariable,
    LaunchConfiguration,
    LocalSubstitution,
    TextSubstitution,
)

LaunchLogDirectory = LaunchLogDir

__all__ = [
    "AllSubstitution",
    "AndSubstitution",
    "AnonName",
    "AnySubstitution",
    "Command",
    "EnvironmentVariable",
    "EqualsSubstitution",
    "FileContent",
    "FindExecutable",
    "IfElseSubstitution",
    "LaunchConfiguration",
    "LaunchLogDir",
    "LocalSubstitution",
    "NotEqualsSubstitution",
    "NotSubstitution",
    "OrSubstitution",
    "PathJoinSubstitution",
    "PathSubstitution",
    "PythonExpression",
    "SubstitutionFailure",
    "TextSubstitution",
    "ThisLaunchFile",
    "ThisLaunchFileDir",
]
