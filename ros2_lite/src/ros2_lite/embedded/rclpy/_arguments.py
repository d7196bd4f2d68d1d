"""The command line after ``--ros-args``: remaps, parameters, parameter files, log levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rclpy._names import RemapRule
from rclpy._rclpy_pybind11 import RCLError, RCLInvalidROSArgsError, UnknownROSArgsError
from rclpy.impl.logging_severity import LoggingSeverity

_FLAG_PAIRS = {
    "--enable-rosout-logs", "--disable-rosout-logs", "--enable-stdout-logs", "--disable-stdout-logs",
    "--enable-external-lib-logs", "--disable-external-lib-logs",
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML scalars as rcl reads them: 1e-3 is a float, dates and 1:30 are strings."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$", "yYnNtTfFoO"),
    ("int", r"^[-+]?(?:0x[0-9a-fA-F]+|[0-9]+)$", "-+0123456789"),
    ("float", r"^[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
     "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return node.value.lower() in ("y", "yes", "true", "on")


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 16) if "x" in text.lower() else int(text)


def _map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key, value in node.value:
        # A parameter may be called "on" or "y": keys are names, never values.
        name = key.value if isinstance(key, yaml.ScalarNode) else loader.construct_object(key, deep=True)
        content = loader.construct_object(value, deep=True)
        # rcl reads on where a node or namespace comes a second time.
        result[name] = _merged(result[name], content) if name in result else content
    return result


def _merged(first: Any, second: Any) -> Any:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return second
    merged = dict(first)
    for name, value in second.items():
        merged[name] = _merged(merged[name], value) if name in merged else value
    return merged


_Loader.add_constructor("tag:yaml.org,2002:map", _map)
_Loader.add_constructor("tag:yaml.org,2002:bool", _bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def load_yaml(text: str) -> Any:
    """YAML text as rcl would read it."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class Arguments:
    """What one ``--ros-args`` section (or several) says, and the arguments that belong to the program."""

    def __init__(self, args: Sequence[str], implicit: bool = False) -> None:
        self.remaps: list[RemapRule] = []
        self.parameters: dict[str, dict[str, Any]] = {}
        """Values by node pattern, in the order in which the patterns first came up."""
        self.log_levels: dict[str, LoggingSeverity] = {}
        self.rosout = True
        self.others: list[str] = []
        for word in args:
            word.encode()  # UnicodeEncodeError for what is no text, as in rclpy
        self._parse(list(args), implicit)

    def _parse(self, args: list[str], inside: bool) -> None:
        position = 0
        while position < len(args):
            word = args[position]
            position += 1
            if word == "--ros-args":
                inside = True
            elif inside and word == "--":
                inside = False
            elif not inside:
                self.others.append(word)
            else:
                name, equals, attached = word.partition("=")
                if word in _FLAG_PAIRS:
                    self.rosout = {"--enable-rosout-logs": True, "--disable-rosout-logs": False}.get(word, self.rosout)
                elif name in ("-r", "--remap", "-p", "--param", "--params-file", "--log-level", "-e", "--enclave",
                              "--log-config-file", "--log-file-name"):  # fmt: skip
                    if equals and name.startswith("--"):
                        value = attached
                    elif position < len(args):
                        value = args[position]
                        position += 1
                    else:
                        raise RCLInvalidROSArgsError(f"Failed to parse ROS arguments: '{word}' needs a value after it")
                    self._option(name, value)
                elif ":=" in word and not word.startswith("-"):
                    self._option("-r", word)  # the old form, without a flag
                else:
                    raise UnknownROSArgsError(
                        f"Found unknown ROS arguments: {[word]}; after --ros-args come -r FROM:=TO, -p NAME:=VALUE,"
                        " --params-file FILE, --log-level LEVEL; '--' ends the ROS arguments"
                    )

    def _option(self, name: str, value: str) -> None:
        if name in ("-r", "--remap"):
            self.remaps.append(_remap_rule(value))
        elif name in ("-p", "--param"):
            target, parameter, content = _parameter(value)
            nested = _flatten(content, parameter, "-p") if isinstance(content, dict) else None
            values = {parameter: _checked(content, parameter, "-p")} if nested is None else nested
            self.parameters.setdefault(f"/{target}" if target else "/**", {}).update(values)
        elif name == "--params-file":
            for pattern, section in _sections(_read_file(value), "", value):
                self.parameters.setdefault(pattern, {}).update(_flatten(section, "", value))
        elif name == "--log-level":
            logger, _, level = value.rpartition(":=")
            try:
                self.log_levels[logger] = LoggingSeverity[level.upper()]
            except KeyError:
                names = ", ".join(item.name.lower() for item in LoggingSeverity)
                raise RCLInvalidROSArgsError(
                    f"Failed to parse ROS arguments: '{level}' is no log level; choose from {names}"
                ) from None

    def node_identity(self, default: str = "") -> tuple[str | None, str | None]:
        """Node name and namespace that the remaps give to a node, None where they give none."""
        found: dict[str, str] = {}
        for rule in self.remaps:
            if rule.kind in ("node", "ns") and rule.node in ("", default):
                found.setdefault(rule.kind, rule.target)
        return found.get("node"), found.get("ns")

    def topic_rules(self) -> list[RemapRule]:
        return [rule for rule in self.remaps if rule.kind not in ("node", "ns")]

    def parameters_for(self, node: str, namespace: str) -> dict[str, Any]:
        """Parameter values for a node: for one pattern the last word counts, of several the one that came up last."""
        full = f"/{node}" if namespace == "/" else f"{namespace}/{node}"
        values: dict[str, Any] = {}
        for pattern, parameters in self.parameters.items():
            if _matches(pattern, full):
                values.update(parameters)
        return values


def _remap_rule(text: str) -> RemapRule:
    source, separator, target = text.partition(":=")
    if not separator or not source or not target:
        raise RCLInvalidROSArgsError(
            f"Failed to parse ROS arguments: '{text}' is no remap rule; write FROM:=TO, for example -r chatter:=/chat"
        )
    node, kind = "", "both"
    match = re.match(r"^([A-Za-z_][A-Za-z0-9_]*):(?!//)(.+)$", source)
    if match:
        node, source = match[1], match[2]
    if source.startswith("rostopic://"):
        kind, source = "topic", source[len("rostopic://") :]
    elif source.startswith("rosservice://"):
        kind, source = "service", source[len("rosservice://") :]
    elif source in ("__node", "__name"):
        kind = "node"
    elif source == "__ns":
        kind = "ns"
    for prefix in ("rostopic://", "rosservice://"):
        if target.startswith(prefix):
            target = target[len(prefix) :]
    return RemapRule(source, target, kind, node)


def _parameter(text: str) -> tuple[str, str, Any]:
    name, separator, value = text.partition(":=")
    if not separator or not name:
        raise RCLInvalidROSArgsError(
            f"Failed to parse ROS arguments: '{text}' is no parameter; write NAME:=VALUE, for example -p rate:=30.0"
        )
    node, colon, bare = name.rpartition(":")
    try:
        parsed = load_yaml(value)
    except yaml.YAMLError:
        raise RCLInvalidROSArgsError(
            f"Failed to parse ROS arguments: the value of parameter '{name}' is no YAML: {value}"
        ) from None
    if parsed is None:
        parsed = value
    return (node if colon else ""), bare, parsed


def _read_file(path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RCLError(f"cannot read the parameter file '{path}': {error.strerror}") from None
    try:
        document = load_yaml(text)
    except yaml.YAMLError as error:
        raise RCLError(f"the parameter file '{path}' is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise RCLError(f"the parameter file '{path}' must map node names to 'ros__parameters'")
    list(_sections(document, "", path))
    return document


def _sections(document: dict[Any, Any], prefix: str, path: str) -> list[tuple[str, dict[Any, Any]]]:
    """(node pattern, parameters) of a file, in order; namespaces may nest."""
    found: list[tuple[str, dict[Any, Any]]] = []
    for key, value in document.items():
        if not isinstance(value, dict):
            where = f"{prefix}/{key}".lstrip("/")
            raise RCLError(f"parameter file '{path}': '{where}' holds no 'ros__parameters'")
        pattern = f"{prefix}/{str(key).strip('/')}"
        if "ros__parameters" in value:
            parameters = value["ros__parameters"]
            if parameters is None:
                parameters = {}
            if not isinstance(parameters, dict):
                raise RCLError(f"parameter file '{path}': 'ros__parameters' of '{pattern}' must be a mapping")
            found.append((pattern, parameters))
            rest = {name: inner for name, inner in value.items() if name != "ros__parameters"}
        else:
            rest = value
        found += _sections(rest, pattern, path)
    return found


def _matches(pattern: str, full_name: str) -> bool:
    """Whether a file's node name fits: ``*`` is one token, ``**`` any number of them."""
    parts = [part for part in pattern.split("/") if part]
    expression = "".join(
        r"(?:/\w+)*" if part == "**" else r"/\w+" if part == "*" else "/" + re.escape(part) for part in parts
    )
    return re.fullmatch(expression, full_name) is not None


def _flatten(parameters: dict[Any, Any], prefix: str, path: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict):
            flat.update(_flatten(value, name, path))
        else:
            flat[name] = _checked(value, name, path)
    return flat


def _checked(value: Any, name: str, path: str) -> Any:
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        if len(kinds) > 1:
            raise RCLError(f"parameter '{name}' ({path}): a list must hold one type only, not {value}")
        if kinds - {bool, int, float, str}:
            raise RCLError(f"parameter '{name}' ({path}): a list may hold bools, integers, floats or strings")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise RCLError(f"parameter '{name}' ({path}): {value!r} is no parameter value")
    return value
