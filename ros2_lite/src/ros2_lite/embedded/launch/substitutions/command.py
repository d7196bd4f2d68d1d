"""The output of a command as text."""

from __future__ import annotations

import shlex
import subprocess

from .. import logging as launch_logging
from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .substitution_failure import SubstitutionFailure
from .values import describe_all

_ON_STDERR = ("fail", "ignore", "warn", "capture")


class Command(Substitution):
    """Runs a command without a shell, and is what it writes to stdout.

    ``on_stderr`` says what output on stderr means: 'fail' (default), 'ignore', 'warn' or 'capture'
    (it joins the text).
    """

    def __init__(self, command: SomeSubstitutionsType, *, on_stderr: SomeSubstitutionsType = "fail") -> None:
        self.__command = normalize_to_list_of_substitutions(command)
        self.__on_stderr = normalize_to_list_of_substitutions(on_stderr)

    @property
    def command(self) -> list[Substitution]:
        """The command line."""
        return self.__command

    def describe(self) -> str:
        return f"Command({describe_all(self.__command)})"

    def perform(self, context: LaunchContext) -> str:
        line = perform_substitutions(context, self.__command)
        on_stderr = perform_substitutions(context, self.__on_stderr)
        if on_stderr not in _ON_STDERR:
            raise SubstitutionFailure(
                f"invalid on_stderr '{on_stderr}' for the command '{line}'; valid are {', '.join(_ON_STDERR)}"
            )
        try:
            result = subprocess.run(
                shlex.split(line),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if on_stderr == "capture" else subprocess.PIPE,
                text=True,
                env=dict(context.environment),
                check=False,
            )
        except (OSError, ValueError) as error:
            what = "file not found" if isinstance(error, FileNotFoundError) else f"cannot run '{line}'"
            raise SubstitutionFailure(f"{what}: {error}") from error
        if result.returncode != 0:
            said = (result.stderr or "").strip()
            raise SubstitutionFailure(
                f"executed command failed. Command: {line}; exited with {result.returncode}"
                + (f": {said}" if said else "")
            )
        if result.stderr and on_stderr != "ignore":
            message = f"executed command showed stderr output. Command: {line}; output: {result.stderr.strip()}"
            if on_stderr == "fail":
                raise SubstitutionFailure(message)
            launch_logging.get_logger("launch").warning(message)
        return result.stdout
