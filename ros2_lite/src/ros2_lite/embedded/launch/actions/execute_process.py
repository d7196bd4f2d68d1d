"""Runs a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..descriptions import Executable
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitutions.values import describe_all
from .execute_local import ExecuteLocal


class ExecuteProcess(ExecuteLocal):
    """Runs ``cmd``; the other parameters are those of :class:`Executable` and :class:`ExecuteLocal`."""

    def __init__(
        self,
        *,
        cmd: Iterable[SomeSubstitutionsType],
        prefix: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        cwd: SomeSubstitutionsType | None = None,
        env: Mapping[Any, SomeSubstitutionsType] | None = None,
        additional_env: Mapping[Any, SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(cmd, str):
            raise TypeError(f"'cmd' must be a list with the program and its arguments, got '{cmd}'")
        description = Executable(cmd=cmd, prefix=prefix, name=name, cwd=cwd, env=env, additional_env=additional_env)
        super().__init__(process_description=description, **kwargs)

    def describe(self) -> str:
        cmd = ", ".join(describe_all(item) for item in self.process_description.cmd)
        cwd = self.process_description.cwd
        env = self.process_description.env
        pairs = ", ".join(f"{describe_all(key)}: {describe_all(value)}" for key, value in env or [])
        return (
            f"ExecuteProcess(cmd=[{cmd}], cwd={describe_all(cwd) if cwd else None}, "
            f"env={'{' + pairs + '}' if env else None}, shell={self.shell})"
        )

    @property
    def name(self) -> Any:
        """The name of the process, final once it has been prepared."""
        return self.process_description.final_name or self.process_description.name

    @property
    def cmd(self) -> Any:
        """The command, final once it has been prepared."""
        return self.process_description.final_cmd or self.process_description.cmd

    @property
    def cwd(self) -> Any:
        """The working directory, final once it has been prepared."""
        return self.process_description.final_cwd or self.process_description.cwd

    @property
    def env(self) -> Any:
        """The environment, final once it has been prepared."""
        return self.process_description.final_env or self.process_description.env

    @property
    def additional_env(self) -> Any:
        """The variables added to the environment."""
        return self.process_description.additional_env
