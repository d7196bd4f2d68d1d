"""Names: validation, expansion and remapping (https://design.ros2.org/articles/topic_and_service_names.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rclpy.exceptions import (
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidServiceNameException,
    InvalidTopicNameException,
)

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_NODE_NAME = 255


def check_node_name(name: str) -> None:
    """InvalidNodeNameException unless it is one token."""
    if not name:
        raise InvalidNodeNameException(name, "node name must not be empty", 0)
    bad = re.search(r"[^A-Za-z0-9_]", name)
    if bad:
        raise InvalidNodeNameException(
            name, "node name must not contain characters other than alphanumerics or '_'", bad.start()
        )
    if name[0].isdigit():
        raise InvalidNodeNameException(name, "node name must not start with a number", 0)
    if len(name) > _MAX_NODE_NAME:
        raise InvalidNodeNameException(name, "node name length should not exceed '255'", _MAX_NODE_NAME)


def check_namespace(namespace: str) -> None:
    """InvalidNamespaceException unless it is absolute and made of tokens."""
    problem = _absolute_problem(namespace)
    if namespace != "/" and problem:
        raise InvalidNamespaceException(namespace, problem[0].replace("name", "namespace"), problem[1])


def check_full_name(name: str, service: bool = False) -> None:
    """InvalidTopicNameException (or service) unless it is a fully qualified name."""
    problem = _absolute_problem(name)
    if problem:
        raise (InvalidServiceNameException if service else InvalidTopicNameException)(name, *problem)


def check_name(name: str, service: bool = False) -> None:
    """The same for names as users write them: relative, ``~/``, with ``{node}`` substitutions."""
    failure = InvalidServiceNameException if service else InvalidTopicNameException
    if not name:
        raise failure(name, "topic name must not be empty", 0)
    if name.startswith("~") and name != "~" and not name.startswith("~/"):
        raise failure(name, "tilde must be followed by a slash", 1)
    plain = re.sub(r"\{[A-Za-z_][A-Za-z0-9_]*\}", "x", name)
    if "{" in plain or "}" in plain:
        raise failure(name, "topic name has unbalanced curly braces", max(name.find("{"), name.find("}"), 0))
    if plain == "~":
        return
    body = plain[1:] if plain.startswith("~") else plain if plain.startswith("/") else "/" + plain
    problem = _absolute_problem(body)
    if problem:
        raise failure(name, problem[0], min(problem[1], len(name) - 1))


def _absolute_problem(name: str) -> tuple[str, int] | None:
    if not name:
        return "topic name must not be empty", 0
    if name[0] != "/":
        return "name must be absolute, it must lead with a '/'", 0
    if name.endswith("/"):
        return "name must not end with a '/'", len(name) - 1
    bad = re.search(r"[^A-Za-z0-9_/]", name)
    if bad:
        return "name must not contain characters other than alphanumerics, '_', '~', '{', or '}'", bad.start()
    position = 1
    for token in name[1:].split("/"):
        if not token:
            return "name must not contain repeated '/'", position
        if not _TOKEN.match(token):
            return "name tokens must not start with a number", position
        position += len(token) + 1
    return None


def expand(name: str, node: str, namespace: str, service: bool = False) -> str:
    """The fully qualified name of a topic or service of a node."""
    check_name(name, service)
    substitutions = {"node": node, "ns": namespace, "namespace": namespace}

    def substitute(match: re.Match[str]) -> str:
        if match[1] not in substitutions:
            raise ValueError(f"unknown substitution '{match[1]}' in '{name}'; choose from node, ns, namespace")
        return substitutions[match[1]]

    name = re.sub(r"\{(\w+)\}", substitute, name)
    base = "" if namespace == "/" else namespace
    if name == "~" or name.startswith("~/"):
        full = f"{base}/{node}{name[1:]}"
    elif name.startswith("/"):
        full = name
    else:
        full = f"{base}/{name}"
    check_full_name(full, service)
    return full


@dataclass(frozen=True)
class RemapRule:
    """``[node:][rostopic://|rosservice://]from:=to``; `kind` is topic, service, both, node or ns."""

    source: str
    target: str
    kind: str = "both"
    node: str = ""


def remap(name: str, rules: list[RemapRule], node: str, namespace: str, service: bool) -> str:
    """A fully qualified name after the first rule that fits."""
    for rule in rules:
        if rule.kind not in ("both", "service" if service else "topic") or rule.node not in ("", node):
            continue
        if expand(rule.source, node, namespace, service) == name:
            return expand(rule.target, node, namespace, service)
    return name
