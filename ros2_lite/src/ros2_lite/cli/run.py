"""`ros2 run`: become an executable of a package."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence

from ros2_lite.cli.errors import CliError, Parser, choices


def main(arguments: Sequence[str]) -> int:
    """Replace this process by the executable, so that signals and the exit code are its own."""
    parser = Parser(prog="ros2 run", description="Run a package specific executable.")
    parser.add_argument(
        "--prefix", help="Prefix command, which should go before the executable, e.g. 'gdb -ex run --args'"
    )
    parser.add_argument("package_name", help="Name of the ROS package")
    parser.add_argument("executable_name", nargs="?", help="Name of the executable")
    parser.add_argument("argv", nargs=argparse.REMAINDER, help="Pass arbitrary arguments to the executable")
    args = parser.parse_args(arguments)

    from ament_index_python.packages import PackageNotFoundError, get_packages_with_prefixes
    from launch_ros.packages import ExecutableNotFoundError, find_executable, package_executables

    try:
        if args.executable_name is None:
            valid = choices(package_executables(args.package_name))
            raise CliError(f"no executable given; valid executables of '{args.package_name}' are: {valid}")
        command = list(find_executable(args.package_name, args.executable_name).command)
    except PackageNotFoundError:
        known = choices(get_packages_with_prefixes())
        raise CliError(f"Package '{args.package_name}' not found", f"packages here: {known}") from None
    except ExecutableNotFoundError as error:
        raise CliError("No executable found", str(error)) from None
    command = [*shlex.split(args.prefix or ""), *command, *args.argv]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise CliError(f"cannot run '{command[0]}': {error.strerror}") from None
