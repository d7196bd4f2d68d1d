"""`ros2 pkg`: packages, where they are installed, and their executables."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli.errors import CliError, Parser, choices


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = Parser(prog="ros2 pkg", description="Various package related sub-commands.")
    verbs = parser.add_subparsers(title="Commands", dest="verb", required=True, metavar="VERB", parser_class=Parser)
    verbs.add_parser("list", help="Output a list of available packages")
    prefix = verbs.add_parser("prefix", help="Output the prefix path of a package")
    prefix.add_argument("package_name", help="The package name")
    prefix.add_argument("--share", action="store_true", help="Show share directory for the package")
    executables = verbs.add_parser("executables", help="Output a list of package specific executables")
    executables.add_argument("package_name", nargs="?", help="Name of the package; all by default")
    executables.add_argument("--full-path", action="store_true", help="Show full path of the executable")
    xml = verbs.add_parser("xml", help="Output the XML of the package manifest or a specific tag")
    xml.add_argument("package_name", help="The package name")
    xml.add_argument("-t", "--tag", help="The XML tag to output (e.g. 'version')")
    args = parser.parse_args(arguments)
    if args.verb == "list":
        for name in sorted(_packages()):
            print(name)
    elif args.verb == "prefix":
        print(_prefix(args.package_name, args.share))
    elif args.verb == "xml":
        _xml(args.package_name, args.tag)
    else:
        _executables(args.package_name, args.full_path)
    return 0


def _packages() -> dict[str, str]:
    from ament_index_python.packages import get_packages_with_prefixes

    return dict(get_packages_with_prefixes())


def _not_found(name: str) -> CliError:
    return CliError("Package not found", f"there is no package '{name}'; packages here: {choices(_packages())}")


def _prefix(name: str, share: bool) -> str:
    from ament_index_python.packages import (
        PackageNotFoundError,
        get_package_prefix,
        get_package_share_directory,
    )

    try:
        return str(get_package_share_directory(name) if share else get_package_prefix(name))
    except (PackageNotFoundError, ValueError):
        raise _not_found(name) from None


def _executables(name: str | None, full_path: bool) -> None:
    from ament_index_python.packages import PackageNotFoundError
    from launch_ros.packages import package_executables

    for package in [name] if name else sorted(_packages()):
        try:
            found = package_executables(package)
        except PackageNotFoundError:
            raise CliError(f"Package '{package}' not found", f"packages here: {choices(_packages())}") from None
        for executable in sorted(found.values(), key=lambda item: item.name):
            if full_path:
                print(executable.path or f"{executable.name} (an entry point of the distribution '{package}')")
            else:
                print(package, executable.name)


def _xml(name: str, tag: str | None) -> None:
    import os
    import xml.etree.ElementTree

    path = os.path.join(_prefix(name, True), "package.xml")
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        raise CliError(f"Package XML manifest not found: {path}: {error}") from None
    if tag is None:
        xml.etree.ElementTree.dump(tree)
        return
    elements = tree.getroot().findall(tag)
    if not elements:
        known = choices({element.tag for element in tree.getroot()})
        raise CliError(f"XML tag not found: '{tag}'; tags of {path}: {known}")
    for element in elements:
        print(element.text)
