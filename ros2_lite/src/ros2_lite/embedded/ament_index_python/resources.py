"""The resource index: marker files below ``share/ament_index/resource_index/<type>/<name>``."""

from __future__ import annotations

import os

from ament_index_python.constants import RESOURCE_INDEX_SUBFOLDER
from ament_index_python.search_paths import get_search_paths


def _folders(resource_type: str) -> list[tuple[str, str]]:
    if not resource_type:
        raise ValueError("The resource type must not be empty")
    return [(path, os.path.join(path, RESOURCE_INDEX_SUBFOLDER, resource_type)) for path in get_search_paths()]


def get_resource(resource_type: str, resource_name: str) -> tuple[str, str]:
    """Content and prefix of a resource.  LookupError when there is none, OSError when it cannot be read."""
    if not resource_name:
        raise ValueError("The resource name must not be empty")
    for prefix, folder in _folders(resource_type):
        path = os.path.join(folder, resource_name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read(), prefix
    raise LookupError(f"Could not find the resource '{resource_name}' of type '{resource_type}'")


def get_resources(resource_type: str) -> dict[str, str]:
    """Prefixes of all resources of a type, by name."""
    found: dict[str, str] = {}
    for prefix, folder in _folders(resource_type):
        if os.path.isdir(folder):
            for name in sorted(os.listdir(folder)):
                if not name.startswith(".") and os.path.isfile(os.path.join(folder, name)):
                    found.setdefault(name, prefix)
    return found


def get_resource_types() -> set[str]:
    """All resource types that there are."""
    types: set[str] = set()
    for path in get_search_paths():
        folder = os.path.join(path, RESOURCE_INDEX_SUBFOLDER)
        if os.path.isdir(folder):
            types.update(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    return types


def has_resource(resource_type: str, resource_name: str) -> str | bool:
    """The prefix of a resource, or False."""
    for prefix, folder in _folders(resource_type):
        if os.path.isfile(os.path.join(folder, resource_name)):
            return prefix
    return False
