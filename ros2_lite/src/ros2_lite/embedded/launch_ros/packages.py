"""Packages and their executables, for ``Node`` and for ``ros2 run``.

An executable of a package is a file in ``<prefix>/lib/<package>``, as ROS 2 installs it, or else a console
script of the installed Python distribution of that name, run by the interpreter that runs the launch.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix


class ExecutableNotFoundError(LookupError):
    """The package has no such executable; the message lists those that it has."""


@dataclass(frozen=True)
class PackageExecutable:
    """How an executable is started: the first words of its command line."""

    name: str
    command: tuple[str, ...]
    path: str | None
    """The file, where it is one; None for a console script that is started by its entry point."""


def _distribution(package: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _prefix(package: str) -> str | None:
    try:
        return str(get_package_prefix(package))
    except PackageNotFoundError:
        return None
    except ValueError:  # not a package name at all
        return None


def package_executables(package: str) -> dict[str, PackageExecutable]:
    """Return the executables of a package by name.

    :raises PackageNotFoundError: there is neither a package nor a distribution of that name.
    """
    found: dict[str, PackageExecutable] = {}
    distribution = _distribution(package)
    prefix = _prefix(package)
    if distribution is None and prefix is None:
        raise PackageNotFoundError(package)
    for entry in distribution.entry_points if distribution is not None else ():
        if entry.group == "console_scripts":
            found[entry.name] = _console_script(entry)
    folder = Path(prefix or "", "lib", package)
    if prefix is not None and folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file() and os.access(path, os.X_OK):
                found[path.name] = PackageExecutable(path.name, (str(path),), str(path))
    return found


def _console_script(entry: metadata.EntryPoint) -> PackageExecutable:
    """How to run a console script by this interpreter: the script that pip made of it, or else its function."""
    module, _, attribute = entry.value.partition("[")[0].strip().partition(":")
    name = attribute.split(".")[0]
    script = Path(sys.executable).parent / entry.name
    try:
        text = script.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    # Another distribution may have put a script of the same name there; pip writes this line into each of them.
    if sys.executable in text and f"from {module} import {name}" in text and os.access(script, os.X_OK):
        return PackageExecutable(entry.name, (str(script),), str(script))
    # argv[0] is what the program calls itself in its usage text. The working directory, which `python -c` puts first
    # in sys.path, goes: a console script does not find modules there either.
    code = (
        f"import sys; sys.path[:1] = filter(None, sys.path[:1]); from {module} import {name}; "
        f"sys.argv[0] = {entry.name!r}; sys.exit({attribute}())"
    )
    return PackageExecutable(entry.name, (sys.executable, "-c", code), None)


def find_executable(package: str, executable: str) -> PackageExecutable:
    """Return one executable of a package.

    :raises PackageNotFoundError: no such package.
    :raises ExecutableNotFoundError: no such executable; the message lists the valid ones.
    """
    executables = package_executables(package)
    if executable in executables:
        return executables[executable]
    valid = ", ".join(sorted(executables)) or "none"
    raise ExecutableNotFoundError(
        f"executable '{executable}' not found in package '{package}'; valid executables are: {valid}"
    )
