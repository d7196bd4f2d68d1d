"""Names of nodes and namespaces, checked without loading rclpy (a launch needs no DDS)."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def validate_node_name(name: str) -> None:
    """Raise ValueError unless ``name`` is a valid node name."""
    if not _TOKEN.match(name):
        raise ValueError(
            f"'{name}' is not a valid node name: letters, digits and underscores, not starting with a digit"
        )


def validate_namespace(namespace: str) -> None:
    """Raise ValueError unless ``namespace`` is absolute and made of valid names."""
    if namespace == "/":
        return
    if not namespace.startswith("/") or not all(_TOKEN.match(part) for part in namespace[1:].split("/")):
        raise ValueError(
            f"'{namespace}' is not a valid namespace: names of letters, digits and underscores, "
            "not starting with a digit, separated by single '/'"
        )


def join_namespace(base: str | None, namespace: str | None) -> str | None:
    """Return ``namespace`` seen from ``base``, absolute; None where neither is given."""
    if namespace is None:
        namespace = base
    elif not namespace.startswith("/"):
        namespace = f"{(base or '').rstrip('/')}/{namespace}"
    if namespace is None:
        return None
    return "/" + namespace.strip("/")
