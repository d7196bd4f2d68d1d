"""Messages and YAML: filling a message from what was typed, and showing one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import yaml

from ros2_lite.cli.errors import CliError, choices

_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>\Z")
_ARRAY = re.compile(r"(.+)\[(\d+)\]\Z")
_FLOATS = ("double", "float")
_WIDTH = 2**31 - 1  # one line for a text, however long
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """As the original dumps messages: fields one a line, so that a flow style is that of their lists alone."""


_Dumper.add_representer(
    dict, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=False)
)


# -- types -----------------------------------------------------------------------------------------------------------


def get_message(name: str) -> Any:
    """The class of ``package/msg/Type`` or ``package/Type``; CliError where there is none."""
    return _interface(name, "msg", "message")


def get_service(name: str) -> Any:
    """The class of ``package/srv/Type`` or ``package/Type``; CliError where there is none."""
    return _interface(name, "srv", "service")


def get_action(name: str) -> Any:
    """The class of ``package/action/Type`` or ``package/Type``; CliError where there is none."""
    return _interface(name, "action", "action")


_EXAMPLES = {
    "msg": "std_msgs/msg/String",
    "srv": "std_srvs/srv/Trigger",
    "action": "example_interfaces/action/Fibonacci",
}


def _interface(name: str, kind: str, word: str) -> Any:
    parts = name.split("/")
    if len(parts) == 2:
        parts.insert(1, kind)
    if len(parts) != 3 or parts[1] != kind or not all(part.isidentifier() for part in parts):
        raise CliError(
            f"The passed {word} type is invalid", f"'{name}' is not PACKAGE/{kind}/TYPE such as {_EXAMPLES[kind]}"
        )
    try:
        module = importlib.import_module(f"{parts[0]}.{kind}")
    except ImportError:
        from ros2_lite.messages import registry

        known = [package for package in registry.packages() if registry.names(package, kind)]
        raise CliError(
            f"The passed {word} type is invalid",
            f"no package '{parts[0]}' with a {kind} folder; packages are: {choices(known)}",
        ) from None
    try:
        return getattr(module, parts[2])
    except AttributeError:
        known = [n for n in dir(module) if n[0].isupper()]
        raise CliError(
            f"The passed {word} type is invalid", f"types of {parts[0]}.{kind} are: {choices(known, 60)}"
        ) from None


def split_type(name: str) -> tuple[str, str, int | None]:
    """``(element, "" | "array" | "sequence", size or bound)`` of a field's type as rclpy writes it."""
    match = _SEQUENCE.match(name)
    if match:
        return match[1], "sequence", int(match[2]) if match[2] else None
    match = _ARRAY.match(name)
    if match:
        return match[1], "array", int(match[2])
    return name, "", None


# -- from YAML to messages -------------------------------------------------------------------------------------------


def parse_values(text: str) -> dict[str, Any]:
    """What was typed, as a dictionary; CliError for anything else."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CliError(f"'{text}' is not valid YAML: {' '.join(str(error).split())}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise CliError(
            "The passed value needs to be a dictionary in YAML format", f"such as '{{data: 1}}', not '{text}'"
        )
    return values


def set_message_fields(message: Any, values: Mapping[str, Any]) -> list[Callable[[Any], None]]:
    """Fill a message; return setters of the stamps that were given as ``now`` (or headers as ``auto``).

    CliError names the field that does not fit.
    """
    stamps: list[Callable[[Any], None]] = []
    try:
        _fill(message, values, "", stamps)
    except (AssertionError, AttributeError, OverflowError, TypeError, ValueError) as error:
        hint = error.hint if isinstance(error, _NoFieldError) else ""
        raise CliError(f"Failed to populate field: {' '.join(str(error).split())}", hint) from None
    return stamps


class _NoFieldError(AttributeError):
    def __init__(self, message: Any, name: str) -> None:
        super().__init__(f"'{type(message).__name__}' object has no attribute '{name}'")
        fields = ", ".join(message.get_fields_and_field_types()) or "none"
        self.hint = f"fields of {_type_name(message)} are: {fields}"


def _fill(message: Any, values: Any, path: str, stamps: list[Callable[[Any], None]]) -> None:
    kind = _type_name(message)
    if not isinstance(values, Mapping):
        raise TypeError(f"'{path or kind}' is a {kind} and needs a dictionary, not {values!r}")
    fields = message.get_fields_and_field_types()
    message._check_fields = True  # what is typed by hand is told at once when it does not fit
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in fields:
            raise _NoFieldError(message, str(name))
        element, form, _ = split_type(fields[name])
        if form:
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise TypeError(f"'{where}' is a {fields[name]} and needs a list, not {value!r}")
            items = [_value(element, item, f"{where}[{i}]", stamps) for i, item in enumerate(value)]
            setattr(message, name, items)
        elif element == "std_msgs/Header" and value == "auto":
            stamps.append(partial(setattr, getattr(message, name), "stamp"))
        elif element == "builtin_interfaces/Time" and value == "now":
            stamps.append(partial(setattr, message, name))
        else:
            setattr(message, name, _value(element, value, where, stamps))


def _value(element: str, value: Any, where: str, stamps: list[Callable[[Any], None]]) -> Any:
    """One value of a field or of an element of a list."""
    if "/" in element:
        package, name = element.split("/")
        message = get_message(f"{package}/msg/{name}")()
        _fill(message, value, where, stamps)
        return message
    wrong = TypeError(f"'{where}' is a {element} and cannot be {value!r}")
    if element.startswith(("string", "wstring")):
        if isinstance(value, (dict, list)) or value is None:
            raise wrong
        return value if isinstance(value, str) else str(value)
    if element == "boolean":
        if value not in (True, False):
            raise wrong
        return bool(value)
    if element == "octet":
        return value if isinstance(value, bytes) else bytes([int(value)])
    try:
        # YAML reads 1e-3 as text; what float() understands is meant as a number.
        number = float(value) if element in _FLOATS else int(value)
    except (TypeError, ValueError):
        raise wrong from None
    if number != (float(value) if isinstance(value, str) else value) and number == number:
        raise wrong  # a fraction for a whole number
    return number


def _type_name(message: Any) -> str:
    module = type(message).__module__.split(".")
    return f"{module[0]}/{module[1] if len(module) > 1 else 'msg'}/{type(message).__name__}"


# -- from messages to YAML -------------------------------------------------------------------------------------------


def message_to_dict(
    message: Any,
    *,
    truncate: int | None = None,
    no_arr: bool = False,
    no_str: bool = False,
    as_bytes: bool = False,
) -> Any:
    """The message as dictionaries, lists and plain values; longer lists and texts end in '...'.

    Bytes become text, each the character of its number, unless they are to stay `as_bytes`.
    """

    def plain(value: Any, kind: str = "") -> Any:
        if isinstance(value, (bytes, bytearray)):
            if as_bytes:
                cut = truncate is not None and len(value) > truncate
                return bytes(value[:truncate]) + (b"..." if cut else b"")
            text = bytes(value[:truncate]).decode("latin-1")
            return text + "..." if truncate is not None and len(value) > truncate else text
        if isinstance(value, str):
            if no_str:
                return f"<string length: <{len(value)}>>"
            return value[:truncate] + "..." if truncate is not None and len(value) > truncate else value
        if isinstance(value, (bool, int, float)):
            return value
        if hasattr(value, "get_fields_and_field_types"):
            return {name: plain(getattr(value, name), t) for name, t in value.get_fields_and_field_types().items()}
        if no_arr and kind:
            return _abbreviated(value, kind)
        # Cut before converting: a camera image has a million elements.
        head = value if truncate is None or len(value) <= truncate else value[:truncate]
        items = head.tolist() if hasattr(head, "tolist") else list(head)
        return [plain(item) for item in items] + (["..."] if len(head) < len(value) else [])

    return plain(message)


def _abbreviated(value: Any, kind: str) -> str:
    element, form, size = split_type(kind)
    if form == "array":
        return f"<array type: {element}[{size}]>"
    bound = f"[{size}]" if size is not None else ""
    return f"<sequence type: {element}{bound}, length: {len(value)}>"


def message_to_yaml(message: Any, *, flow_style: bool = False, **options: Any) -> str:
    """The message as YAML, with the options of :func:`message_to_dict`; `flow_style` puts lists on one line."""
    return dict_to_yaml(message_to_dict(message, **options), flow_style)


def dict_to_yaml(values: dict[str, Any], flow_style: bool = False) -> str:
    """What :func:`message_to_dict` made, as YAML."""
    return str(
        yaml.dump(
            values,
            Dumper=_Dumper,
            allow_unicode=True,
            width=_WIDTH,
            default_flow_style=flow_style,
            sort_keys=False,
        )
    )


def message_to_csv(message: Any, **options: Any) -> str:
    """The values of the message in order, separated by commas."""

    def flat(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in flat(item)]
        if isinstance(value, list):
            return [text for item in value for text in flat(item)]
        return [str(value)]

    return ",".join(flat(message_to_dict(message, as_bytes=True, **options)))


def select_field(message: Any, path: list[str]) -> Any:
    """The field ``a.b.c`` of a message; CliError with the names that would have been valid."""
    value = message
    for name in path:
        fields = value.get_fields_and_field_types() if hasattr(value, "get_fields_and_field_types") else {}
        if name not in fields:
            raise CliError(
                f"Invalid field '{'.'.join(path)}': '{type(value).__name__}' object has no attribute '{name}'",
                f"valid are: {', '.join(fields) or 'none, it is no message'}",
            )
        value = getattr(value, name)
    return value


def message_filter(expression: str | None) -> Callable[[Any], bool]:
    """What ``--filter`` asks of a message, which the expression calls ``m``; CliError where it is no expression.

    It is the user's own Python on the user's own machine, as in the original; nothing that came by network is run.
    """
    if expression is None:
        return lambda _: True
    try:
        code = compile(expression, "--filter", "eval")
    except (SyntaxError, ValueError) as error:
        raise CliError(f"--filter '{expression}' is no Python expression: {error}") from None

    def fits(message: Any) -> bool:
        try:
            return bool(eval(code, {"m": message}))
        except Exception as error:  # whatever the expression does
            raise CliError(f"--filter '{expression}' failed: {type(error).__name__}: {error}") from None

    return fits


def as_text(value: Any) -> str:
    """A single field's value, as `ros2 topic echo --field` shows it."""
    return str(value)
