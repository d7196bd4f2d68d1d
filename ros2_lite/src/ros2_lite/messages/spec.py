"""The parser of .msg and .srv text (https://docs.ros.org/en/jazzy/Concepts/Basic/About-Interfaces.html)."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

PRIMITIVES = frozenset(
    [
        "bool",
        "byte",
        "char",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float32",
        "float64",
        "string",
        "wstring",
    ]
)
INT_RANGES: dict[str, tuple[int, int]] = {}
for _bits in (8, 16, 32, 64):
    INT_RANGES[f"int{_bits}"] = (-(2 ** (_bits - 1)), 2 ** (_bits - 1) - 1)
    INT_RANGES[f"uint{_bits}"] = (0, 2**_bits - 1)

_TYPE = re.compile(
    r"^(?P<base>[A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*){0,2})"
    r"(?:<=(?P<string_bound>\d+))?(?P<array>\[(?P<bounded><=)?(?P<size>\d+)?\])?$"
)
_FIELD_NAME = re.compile(r"^[a-z](?:_?[a-z0-9]+)*$")
_CONSTANT = re.compile(r"^(?P<type>\S+)\s+(?P<name>[A-Z][A-Z0-9_]*)\s*=\s*(?P<value>.*)$", re.DOTALL)


class InterfaceError(ValueError):
    """A .msg or .srv text that cannot be read; the message names the interface and the line."""


@dataclass(frozen=True)
class FieldType:
    """The type of one field.

    `base` is a primitive's name (``char`` already read as ``uint8``) or a full name such as ``std_msgs/msg/Header``;
    `array` is ``""``, ``"fixed"``, ``"bounded"`` or ``"unbounded"`` with `size` elements (0 if unbounded);
    `string_bound` is 0 for strings of any length.
    """

    base: str
    array: str = ""
    size: int = 0
    string_bound: int = 0

    @property
    def is_primitive(self) -> bool:
        return self.base in PRIMITIVES

    def __str__(self) -> str:
        """As rclpy writes it: ``double[9]``, ``sequence<string>``, ``std_msgs/Header``."""
        base = _RCLPY_NAMES.get(self.base) or re.sub("/(msg|srv|action)/", "/", self.base)
        if self.string_bound:
            base += f"<{self.string_bound}>"
        if self.array == "fixed":
            return f"{base}[{self.size}]"
        if self.array == "bounded":
            return f"sequence<{base}, {self.size}>"
        return f"sequence<{base}>" if self.array else base


_RCLPY_NAMES = {"float64": "double", "float32": "float", "bool": "boolean", "byte": "octet"}


@dataclass(frozen=True)
class Field:
    """One field: its name, type, and default as a Python value (None where the text gives none)."""

    name: str
    type: FieldType
    default: object = None


@dataclass(frozen=True)
class Constant:
    """One constant of a message."""

    name: str
    type: str
    value: object


@dataclass(frozen=True)
class MessageSpec:
    """One message: `name` is full (``std_msgs/msg/String``, ``std_srvs/srv/Trigger_Request``)."""

    name: str
    fields: tuple[Field, ...]
    constants: tuple[Constant, ...] = ()


def parse_type(text: str, package: str) -> FieldType:
    """Read a field's type; a bare message name belongs to `package`.  InterfaceError if it is none."""
    match = _TYPE.match(text)
    if match is None:
        raise InterfaceError(f"'{text}' is not a field type")
    base = match["base"]
    if base == "char":  # rosidl reads char as uint8, on the wire and in the type hash
        base = "uint8"
    if base not in PRIMITIVES:
        parts = base.split("/")
        if len(parts) == 1:
            base = "std_msgs/msg/Header" if base == "Header" and package != "std_msgs" else f"{package}/msg/{base}"
        elif len(parts) == 2:
            base = f"{parts[0]}/msg/{parts[1]}"
    bound = int(match["string_bound"] or 0)
    if bound and base not in ("string", "wstring"):
        raise InterfaceError(f"'{text}': only strings take a bound")
    if not match["array"]:
        return FieldType(base, string_bound=bound)
    size = int(match["size"] or 0)
    kind = "bounded" if match["bounded"] else "fixed" if match["size"] else "unbounded"
    if kind != "unbounded" and size == 0:
        raise InterfaceError(f"'{text}': an array's size must be above zero")
    return FieldType(base, kind, size, bound)


def _literal(base: str, text: str) -> object:
    text = text.strip()
    if base == "bool":
        if text.lower() in ("true", "1", "false", "0"):
            return text.lower() in ("true", "1")
        raise InterfaceError(f"'{text}' is not a bool")
    if base in ("string", "wstring"):
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
            return str(ast.literal_eval(text))
        return text
    try:
        if base.startswith("float"):
            return float(text)
        value = int(text, 0)
    except ValueError:
        raise InterfaceError(f"'{text}' is not a {base}") from None
    if base == "byte":
        return bytes([value & 0xFF])
    low, high = INT_RANGES[base]
    if not low <= value <= high:
        raise InterfaceError(f"{value} is outside {base} [{low}, {high}]")
    return value


def _default(kind: FieldType, text: str) -> object:
    if not kind.is_primitive:
        raise InterfaceError("a message field takes no default")
    if not kind.array:
        return _literal(kind.base, text)
    if not (text.startswith("[") and text.endswith("]")):
        raise InterfaceError(f"'{text}' is not a list")
    body = text[1:-1].strip()
    return [_literal(kind.base, item) for item in re.findall(r"\"[^\"]*\"|'[^']*'|[^,\s]+", body)]


def _strip_comment(line: str) -> str:
    quote = ""
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:index].strip()
    return line.strip()


def parse_message(name: str, text: str) -> MessageSpec:
    """Read the text of one message with the full name `name`.  InterfaceError names the line that is wrong."""
    package = name.split("/")[0]
    fields: list[Field] = []
    constants: list[Constant] = []
    for number, raw in enumerate(text.splitlines(), 1):
        # An apostrophe in a comment must not count as a quote, hence the cheap test first.
        line = raw.split("#", 1)[0].strip() if "=" not in raw and '"' not in raw else _strip_comment(raw)
        if not line:
            continue
        try:
            constant = _CONSTANT.match(line)
            if constant and "<=" not in line.split()[0] + line.split()[1][:2]:
                base = parse_type(constant["type"], package).base
                constants.append(Constant(constant["name"], base, _literal(base, constant["value"])))
                continue
            kind_text, _, rest = line.partition(" ")
            field_name, _, default_text = rest.strip().partition(" ")
            kind = parse_type(kind_text, package)
            if not _FIELD_NAME.match(field_name):
                raise InterfaceError(f"'{field_name}' is not a field name (lower case, digits, single underscores)")
            if any(field.name == field_name for field in fields):
                raise InterfaceError(f"field '{field_name}' is there twice")
            default = _default(kind, default_text.strip()) if default_text.strip() else None
            fields.append(Field(field_name, kind, default))
        except InterfaceError as error:
            raise InterfaceError(f"{name}, line {number} '{raw.strip()}': {error}") from None
    return MessageSpec(name, tuple(fields), tuple(constants))


def parse_service(name: str, text: str) -> tuple[MessageSpec, MessageSpec]:
    """Read the text of one service; returns its request and response."""
    parts = re.split(r"^---\s*$", text, flags=re.MULTILINE)
    if len(parts) != 2:
        raise InterfaceError(f"{name}: a service has one '---' line between request and response")
    return parse_message(f"{name}_Request", parts[0]), parse_message(f"{name}_Response", parts[1])


def parse_action(name: str, text: str) -> tuple[MessageSpec, MessageSpec, MessageSpec]:
    """Read the text of one action; returns its goal, result and feedback."""
    parts = re.split(r"^---\s*$", text, flags=re.MULTILINE)
    if len(parts) != 3:
        raise InterfaceError(f"{name}: an action has two '---' lines between goal, result and feedback")
    goal, result, feedback = (parse_message(f"{name}_{part}", body) for part, body in zip(_PARTS, parts, strict=True))
    return goal, result, feedback


_PARTS = ("Goal", "Result", "Feedback")


def action_specs(name: str, goal: MessageSpec, result: MessageSpec, feedback: MessageSpec) -> dict[str, MessageSpec]:
    """All messages of an action by their full names: the three of its text, and those that carry them.

    As rosidl derives them (http://design.ros2.org/articles/actions.html): requests and responses of the services
    ``NAME_SendGoal`` and ``NAME_GetResult``, and the feedback with the id of its goal.
    """
    goal_id = Field("goal_id", FieldType("unique_identifier_msgs/msg/UUID"))
    stamp = Field("stamp", FieldType("builtin_interfaces/msg/Time"))
    derived = (
        MessageSpec(f"{name}_SendGoal_Request", (goal_id, Field("goal", FieldType(goal.name)))),
        MessageSpec(f"{name}_SendGoal_Response", (Field("accepted", FieldType("bool")), stamp)),
        MessageSpec(f"{name}_GetResult_Request", (goal_id,)),
        MessageSpec(
            f"{name}_GetResult_Response",
            (Field("status", FieldType("int8")), Field("result", FieldType(result.name))),
        ),
        MessageSpec(f"{name}_FeedbackMessage", (goal_id, Field("feedback", FieldType(feedback.name)))),
    )
    return {spec.name: spec for spec in (goal, result, feedback, *derived)}
