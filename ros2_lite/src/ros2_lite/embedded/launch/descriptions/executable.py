"""A command line with its environment, evaluated when the process is about to start."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ..action import Action
from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..substitutions import LaunchConfiguration
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions

_counter = itertools.count(1)

_Pairs = list[tuple[list[Substitution], list[Substitution]]]


def _pairs(mapping: Mapping[Any, SomeSubstitutionsType] | None) -> _Pairs | None:
    if mapping is None:
        return None
    return [
        (normalize_to_list_of_substitutions(key), normalize_to_list_of_substitutions(value))
        for key, value in mapping.items()
    ]


def _evaluate(context: LaunchContext, pairs: _Pairs) -> dict[str, str]:
    return {perform_substitutions(context, key): perform_substitutions(context, value) for key, value in pairs}


class Executable:
    """What is run.

    :param cmd: program and arguments, one item each.
    :param prefix: words to put before it (a debugger, for example); the launch configuration
        ``launch-prefix`` by default, which ``launch-prefix-filter`` may limit to some programs.
    :param name: the name in the log, to which ``-<number>`` is added; the program's by default.
    :param env: the whole environment; that of the launch by default.
    :param additional_env: variables to add to it.
    """

    def __init__(
        self,
        *,
        cmd: Iterable[SomeSubstitutionsType],
        prefix: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        cwd: SomeSubstitutionsType | None = None,
        env: Mapping[Any, SomeSubstitutionsType] | None = None,
        additional_env: Mapping[Any, SomeSubstitutionsType] | None = None,
        arguments: Iterable[SomeSubstitutionsType] | None = None,
    ) -> None:
        self.cmd = [normalize_to_list_of_substitutions(item) for item in [*cmd, *(arguments or ())]]
        self.prefix = normalize_to_list_of_substitutions(
            LaunchConfiguration("launch-prefix", default="") if prefix is None else prefix
        )
        self._filtered = prefix is None
        self.name = None if name is None else normalize_to_list_of_substitutions(name)
        self.cwd = None if cwd is None else normalize_to_list_of_substitutions(cwd)
        self.env = _pairs(env)
        self.additional_env = _pairs(additional_env)
        self.final_cmd: list[str] | None = None
        self.final_name: str | None = None
        self.final_cwd: str | None = None
        self.final_env: dict[str, str] | None = None

    def program_name(self, cmd: list[str]) -> str:
        """Return what the process is called where no name is given."""
        return os.path.basename(cmd[0])

    def prepare(self, context: LaunchContext, action: Action) -> None:
        """Evaluate everything; the results are the ``final_...`` attributes."""
        cmd = [perform_substitutions(context, item) for item in self.cmd]
        name = self.program_name(cmd) if self.name is None else perform_substitutions(context, self.name)
        pattern = str(context.launch_configurations.get("launch-prefix-filter", ""))
        if not self._filtered or re.match(pattern, self.program_name(cmd)):
            cmd = [*shlex.split(perform_substitutions(context, self.prefix)), *cmd]
        self.final_cmd = cmd
        self.final_name = f"{name}-{next(_counter)}"
        self.final_cwd = None if self.cwd is None else perform_substitutions(context, self.cwd)
        env = dict(context.environment) if self.env is None else _evaluate(context, self.env)
        # A launched Python program writes to a pipe: its lines must not wait for a full buffer.
        env.setdefault("PYTHONUNBUFFERED", "1")
        env.update(_evaluate(context, self.additional_env or []))
        self.final_env = env
