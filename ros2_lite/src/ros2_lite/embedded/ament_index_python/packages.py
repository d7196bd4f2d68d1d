"""Packages: where they are installed and where their files are.

Three places are searched: the ament index (AMENT_PREFIX_PATH, then the Python environment), Python distributions that
are installed in editable mode from a folder with a ``package.xml`` (that folder is then the package's share directory,
and ``launch/`` and ``config/`` work as in a workspace built with symbolic links), and the embedded interface packages.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname
from xml.etree import ElementTree

from ament_index_python.resources import get_resources, has_resource

_NAME = re.compile(r"^[A-Za-z][\w-]*$")


class PackageNotFoundError(KeyError):
    """There is no such package."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def get_packages_with_prefixes() -> dict[str, str]:
    """Prefixes of all packages, by name."""
    found = get_resources("packages")
    for name in _source_packages():
        found.setdefault(name, sys.prefix)
    for name in _embedded_packages():
        found.setdefault(name, sys.prefix)
    return found


def get_package_prefix(package_name: str) -> str:
    """The prefix that a package is installed in.  PackageNotFoundError, ValueError for what is no package name."""
    if not _NAME.match(package_name):
        raise ValueError(f"'{package_name}' is not a valid package name")
    prefix = has_resource("packages", package_name)
    if isinstance(prefix, str):
        return prefix
    if package_name in _source_packages() or package_name in _embedded_packages():
        return sys.prefix
    raise PackageNotFoundError(f"package '{package_name}' not found, searching: {_searched()}")


def get_package_share_directory(package_name: str, print_warning: bool = True) -> str:
    """The folder with a package's files: launch, config, and so on.  PackageNotFoundError."""
    if not _NAME.match(package_name):
        raise ValueError(f"'{package_name}' is not a valid package name")
    prefix = has_resource("packages", package_name)
    sources = _source_packages()
    if package_name in sources and (not isinstance(prefix, str) or prefix == sys.prefix):
        return str(sources[package_name])
    if isinstance(prefix, str):
        path = os.path.join(prefix, "share", package_name)
        if print_warning and not os.path.isdir(path):
            print(f"Share directory for package '{package_name}' does not exist: {path}", file=sys.stderr)
        return path
    embedded = _embedded_packages().get(package_name)
    if embedded is not None:
        return str(embedded)
    raise PackageNotFoundError(f"package '{package_name}' not found, searching: {_searched()}")


def get_package_share_path(package_name: str, print_warning: bool = True) -> Path:
    """`get_package_share_directory` as a Path."""
    return Path(get_package_share_directory(package_name, print_warning))


def _searched() -> list[str]:
    from ament_index_python.search_paths import get_search_paths

    return [*get_search_paths(), "packages installed in editable mode"]


def _embedded_packages() -> dict[str, Path]:
    from ros2_lite.messages import registry

    return {name: registry.folder_of(name) for name in registry.packages()}


def _source_packages() -> dict[str, Path]:
    """Folders with a ``package.xml`` that distributions are installed from in editable mode, by package name."""
    found: dict[str, Path] = {}
    for root in _editable_roots():
        path = root / "package.xml"
        if path.is_file():
            try:
                name = ElementTree.parse(path).findtext("name")
            except ElementTree.ParseError as error:
                raise PackageNotFoundError(f"{path} cannot be read: {error}") from None
            if name:
                found.setdefault(name.strip(), root)
    return found


def _editable_roots() -> Iterator[Path]:
    for distribution in metadata.distributions():
        text = distribution.read_text("direct_url.json")
        if not text:
            continue
        try:
            document = json.loads(text)
        except ValueError:
            continue  # not written by an installer: says nothing about this distribution
        if document.get("dir_info", {}).get("editable") and str(document.get("url", "")).startswith("file:"):
            yield Path(url2pathname(urlparse(document["url"]).path))
