"""`ros2 launch`: run a launch file of a package, or one given by its path."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ros2_lite.cli.errors import CliError, Parser, choices

if TYPE_CHECKING:
    from launch import LaunchDescription


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    args = _parser().parse_intermixed_args(arguments)
    path, rest = _launch_file(args.package_name, args.launch_file_name, args.launch_arguments)
    given = _launch_arguments(rest)
    if args.show_all_subprocesses_output:
        os.environ["OVERRIDE_LAUNCH_PROCESS_OUTPUT"] = "both"
    if args.launch_prefix_filter and not args.launch_prefix:
        raise CliError("--launch-prefix must be specified if --launch-prefix-filter is provided")
    for name, value in (("launch-prefix", args.launch_prefix), ("launch-prefix-filter", args.launch_prefix_filter)):
        if value:
            given[name] = value
    if args.print or args.show_args:
        description = _load(path)
        _print_tree(description) if args.print else _print_arguments(description)
        return 0
    return _run(path, given, rest, noninteractive=args.noninteractive, debug=args.debug)


def _parser() -> Parser:
    parser = Parser(prog="ros2 launch", description="Run a launch file.")
    parser.add_argument(
        "-n",
        "--noninteractive",
        action="store_true",
        default=not sys.stdin or not sys.stdin.isatty(),
        help="Run the launch system non-interactively, with no terminal associated",
    )
    parser.add_argument("-d", "--debug", action="store_true", help="Put the launch system in debug mode")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-p",
        "--print",
        "--print-description",
        action="store_true",
        help="Print the launch description to the console without launching it.",
    )
    group.add_argument(
        "-s",
        "--show-args",
        "--show-arguments",
        action="store_true",
        help="Show arguments that may be given to the launch file.",
    )
    parser.add_argument(
        "-a",
        "--show-all-subprocesses-output",
        action="store_true",
        help="Show the output of all processes, whatever the launch file says of it",
    )
    parser.add_argument("--launch-prefix", help="Command to put before all executables, for example a debugger")
    parser.add_argument("--launch-prefix-filter", help="Regular expression for the executables that get the prefix")
    parser.add_argument("package_name", help="Name of the ROS package with the launch file, or the file's path")
    parser.add_argument("launch_file_name", nargs="?", help="Name of the launch file")
    parser.add_argument(
        "launch_arguments",
        nargs="*",
        help="Arguments to the launch file; '<name>:=<value>' (for duplicates, last one wins)",
    )
    return parser


def _launch_file(package: str, name: str | None, rest: list[str]) -> tuple[str, list[str]]:
    """The path of the launch file, and the launch arguments."""
    if os.path.isfile(package):
        return package, ([name] if name is not None else []) + rest
    if os.sep in package or package.endswith(".py"):
        raise CliError(f"launch file '{package}' does not exist")
    from ament_index_python.packages import (
        PackageNotFoundError,
        get_package_share_directory,
        get_packages_with_prefixes,
    )

    try:
        share = str(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError) as error:
        known = choices(get_packages_with_prefixes())
        raise CliError(f"Package '{package}' not found: {str(error)!r}", f"packages here: {known}") from None
    files = _launch_files(share)
    if name is None:
        raise CliError(f"no launch file given; package '{package}' has: {choices(map(os.path.basename, files))}")
    matching = [path for path in files if os.path.basename(path) == name]
    if not matching:
        raise CliError(
            f"file '{name}' was not found in the share directory of package '{package}' which is at '{share}'; "
            f"its launch files are: {choices(map(os.path.basename, files))}"
        )
    if len(matching) > 1:
        raise CliError(
            f"file '{name}' was found more than once in the share directory of package '{package}': {matching}"
        )
    return matching[0], rest


def _launch_files(share: str) -> list[str]:
    """Python files below a share directory that are launch files by their name or their folder.

    The share directory of an editable install is the source root, which holds much else.
    """
    found = []
    for root, folders, files in os.walk(share):
        folders[:] = [
            f for f in folders if not f.startswith(".") and f not in ("build", "install", "log", "__pycache__")
        ]
        in_launch = "launch" in os.path.relpath(root, share).split(os.sep)
        if in_launch and os.path.exists(os.path.join(root, "__init__.py")):
            in_launch = False  # a Python package of that name
        found += [
            os.path.join(root, name)
            for name in files
            if name.endswith(".py") and (in_launch or name.endswith(("launch.py", ".launch.py")))
        ]
    return sorted(found)


def _launch_arguments(arguments: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not separator or not name or not value:
            raise CliError(f"malformed launch argument '{argument}', expected format '<name>:=<value>'")
        result[name] = value
    return result


def _load(path: str) -> LaunchDescription:
    from launch.launch_description_sources import get_launch_description_from_any_launch_file

    try:
        return get_launch_description_from_any_launch_file(path)
    except Exception as error:  # whatever the launch file itself raises
        raise CliError(f"launch file '{path}' cannot be loaded: {type(error).__name__}: {error}") from error


def _print_tree(description: LaunchDescription) -> None:
    from launch import LaunchIntrospector

    print(LaunchIntrospector().format_launch_description(description))


def _print_arguments(description: LaunchDescription) -> None:
    arguments = description.get_launch_arguments()
    print("Arguments (pass arguments as '<name>:=<value>'):")
    for argument in arguments:
        mark = "*" if argument._conditionally_included else ""
        print(f"\n    '{argument.name}':{mark}\n        {argument.description}")
        if argument.default_value is not None:
            print(f"        (default: {' + '.join(sub.describe() for sub in argument.default_value)})")
    if not arguments:
        print("\n  No arguments.")
    elif any(argument._conditionally_included for argument in arguments):
        print("\n* argument(s) which are only used if specific conditions occur")


def _run(path: str, given: dict[str, str], argv: list[str], *, noninteractive: bool, debug: bool) -> int:
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource
    from launch.logging import get_logger

    source = AnyLaunchDescriptionSource(path)
    service = LaunchService(argv=argv, noninteractive=noninteractive, debug=debug)
    try:
        description = source.get_launch_description(service.context)
    except Exception as error:  # whatever the launch file itself raises
        if debug:
            raise
        raise CliError(f"launch file '{path}' cannot be loaded: {type(error).__name__}: {error}") from error
    declared = [argument.name for argument in description.get_launch_arguments()]
    for name in given:
        # Not an error: launch files may read configurations that they do not declare.
        if name not in declared and not name.startswith("launch-prefix"):
            get_logger("launch").warning(
                f"the launch file declares no argument '{name}'; its arguments are: {choices(declared)}"
            )
    include = IncludeLaunchDescription(source, launch_arguments=tuple(given.items()))
    service.include_launch_description(LaunchDescription([include]))
    return service.run()
