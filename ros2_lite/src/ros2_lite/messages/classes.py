"""Message and service classes shaped as those that rosidl generates for rclpy, made on first use."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from ros2_lite.messages import registry
from ros2_lite.messages.checks import check_for
from ros2_lite.messages.codec import DTYPES, TYPECODES, Codec
from ros2_lite.messages.spec import Field, FieldType, MessageSpec

CHECK_FIELDS = os.environ.get("ROS_PYTHON_CHECK_FIELDS", "") == "1"
"""Whether assignments are checked (AssertionError) where a message does not say it itself; off by default, as in Jazzy.

Humble and Iron always check.
"""

_lock = threading.RLock()
_classes: dict[str, Any] = {}


class Message:
    """Base of all message classes: construction from keywords, equality, representation.

    The keyword ``check_fields`` says for this one message whether its assignments are checked.
    """

    __slots__ = ()
    _spec: MessageSpec
    _codec: Codec
    _makers: tuple[tuple[str, Callable[[Any, Any], None], Callable[[], Any], Callable[[Any], Any]], ...]

    def __init__(self: Any, **kwargs: Any) -> None:  # Any: each class has its own slots
        self._check_fields = checked = kwargs.get("check_fields", CHECK_FIELDS)
        if checked:
            unknown = sorted(name for name in kwargs if f"_{name}" not in self.__slots__)
            assert not unknown, f"Invalid arguments passed to constructor: {', '.join(unknown)}"
        for name, put, make, convert in self._makers:
            if name not in kwargs:
                put(self, make())
            elif checked:
                setattr(self, name, convert(kwargs[name]))
            else:
                put(self, convert(kwargs[name]))

    def __getattr__(self, name: str) -> Any:
        # Only asked for what was never set: messages that came by wire are made without the constructor.
        if name == "_check_fields":
            return CHECK_FIELDS
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field names and types, e.g. ``{'header': 'std_msgs/Header', 'data': 'sequence<uint8>'}``."""
        return {field.name: str(field.type) for field in cls._spec.fields}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, self.__class__):
            return False
        for field in self._spec.fields:
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
                if not np.array_equal(mine, theirs):
                    return False
            elif mine != theirs:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = []
        for field in self._spec.fields:
            value = getattr(self, field.name)
            if isinstance(value, array):
                value = value.tolist()
            parts.append(f"{field.name}={value!r}")
        module = self._spec.name.rsplit("/", 1)[0].replace("/", ".")
        return f"{module}.{type(self).__name__}({', '.join(parts)})"


def message_class(full_name: str) -> Any:
    """The class of ``package/msg/Name`` (or a service's ``..._Request``/``..._Response``)."""
    found = _classes.get(full_name)
    if found is None:
        with _lock:
            found = _classes.get(full_name) or _make(registry.spec(full_name))
    return found


class _Late:
    """A message class as an attribute of a class, made when it is first asked for."""

    def __init__(self, full_name: str) -> None:
        self._full_name = full_name

    def __get__(self, instance: object, owner: type) -> Any:
        return message_class(self._full_name)


def service_class(package: str, name: str, kind: str = "srv") -> Any:
    """The class of a service, or (`kind` ``action``) one of an action's two: it holds ``Request`` and ``Response``."""
    key = f"{package}/{kind}/{name}"
    with _lock:
        if key not in _classes:
            registry.spec(f"{key}_Request")
            body = {
                "Request": message_class(f"{key}_Request"),
                "Response": message_class(f"{key}_Response"),
                "Event": _Late(f"{key}_Event"),
                "_name": key,
                "__module__": f"{package}.{kind}",
                "__doc__": f"Service {key}.",
                "__init__": _no_instances("Service"),
            }
            _classes[key] = type(name, (), body)
        return _classes[key]


def action_class(package: str, name: str) -> Any:
    """The class of an action: it holds ``Goal``, ``Result``, ``Feedback``, and in ``Impl`` what carries them."""
    key = f"{package}/action/{name}"
    with _lock:
        if key not in _classes:
            registry.action(package, name)
            carriers = {
                "SendGoalService": service_class(package, f"{name}_SendGoal", "action"),
                "GetResultService": service_class(package, f"{name}_GetResult", "action"),
                "FeedbackMessage": message_class(f"{key}_FeedbackMessage"),
                "CancelGoalService": service_class("action_msgs", "CancelGoal"),
                "GoalStatusMessage": message_class("action_msgs/msg/GoalStatusArray"),
            }
            body: dict[str, Any] = {part: message_class(f"{key}_{part}") for part in ("Goal", "Result", "Feedback")}
            body |= {
                "Impl": type("Impl", (), carriers),
                "_name": key,
                "__module__": f"{package}.action",
                "__doc__": f"Action {key}.",
                "__init__": _no_instances("Action"),
            }
            _classes[key] = type(name, (), body)
        return _classes[key]


def _no_instances(what: str) -> Callable[[Any], None]:
    def refuse(self: Any) -> None:
        raise NotImplementedError(f"{what} classes can not be instantiated")

    return refuse


def full_name_of(cls: Any) -> str:
    """``package/msg/Name`` of a message class, ``package/srv/Name`` of a service, ...; TypeError if it is none."""
    spec = getattr(cls, "_spec", None)
    if isinstance(spec, MessageSpec):
        return spec.name
    name = getattr(cls, "_name", None)
    if isinstance(name, str) and (hasattr(cls, "Request") or hasattr(cls, "Goal")):
        return name
    raise TypeError(f"{cls!r} is not a message or service class")


def _make(spec: MessageSpec) -> Any:
    package, kind, name = spec.name.split("/")
    body: dict[str, Any] = {
        "__slots__": [*(f"_{field.name}" for field in spec.fields), "_check_fields"],
        "__module__": f"{package}.{kind}",
        "__doc__": f"Message {spec.name}.",
        "_spec": spec,
    }
    for constant in spec.constants:
        body[constant.name] = constant.value
    cls: Any = type(name, (Message,), body)
    makers = []
    for field in spec.fields:
        put, convert = getattr(cls, f"_{field.name}").__set__, _conversion(field.type)
        setattr(cls, field.name, _property(field, put, convert))
        makers.append((field.name, put, _default_maker(field), _constructor_conversion(field)))
    cls._makers = tuple(makers)
    cls._codec = Codec(spec, cls, message_class, explain)
    _classes[spec.name] = cls
    return cls


def _property(field: Field, put: Callable[[Any, Any], None], convert: Callable[[Any], Any]) -> property:
    check = check_for(field, message_class)

    def assign(self: Any, value: Any) -> None:
        put(self, check(value) if self._check_fields else convert(value))

    return property(attrgetter(f"_{field.name}"), assign, doc=f"Message field '{field.name}' ({field.type}).")


def _conversion(kind: FieldType) -> Callable[[Any], Any]:
    """What an assignment makes of a value without any check: numbers in arrays become arrays, a copy."""
    if not kind.array or kind.base not in TYPECODES:
        return _identity
    code, dtype = TYPECODES[kind.base], DTYPES[kind.base]
    if kind.array == "fixed":
        return lambda value: np.array(value, dtype=dtype)

    def to_array(value: Any) -> array[Any]:
        # array() goes through the elements of an ndarray or a memoryview one by one.
        if isinstance(value, (np.ndarray, memoryview)):
            flat = np.asarray(value)
            if flat.ndim == 1 and flat.dtype == dtype:
                stored = array(code)
                stored.frombytes(np.ascontiguousarray(flat).data.cast("B"))
                return stored
        return array(code, value)

    return to_array


def _constructor_conversion(field: Field) -> Callable[[Any], Any]:
    """What the constructor does to a keyword before it is assigned, checked or not."""
    convert, kind = _conversion(field.type), field.type
    if kind.array != "fixed" or kind.base not in TYPECODES:
        return convert

    def to_ndarray(value: Any) -> Any:
        made = convert(value)
        assert made.shape == (kind.size,), f"The '{field.name}' field must have {kind.size} elements, not {made.shape}"
        return made

    return to_ndarray


def _identity(value: Any) -> Any:
    return value


def explain(message: Any, path: str = "") -> str | None:
    """Which field of a message holds what its type cannot carry, and why; None if none is found."""
    for field in message._spec.fields:
        name, value = f"{path}{field.name}", getattr(message, field.name)
        try:
            check_for(Field(name, field.type), message_class)(value)
        except AssertionError as error:
            return str(error)
        items = () if field.type.is_primitive else value if field.type.array else (value,)
        for index, item in enumerate(items):
            found = explain(item, f"{name}[{index}]." if field.type.array else f"{name}.")
            if found:
                return found
    return None


def _default_maker(field: Field) -> Callable[[], Any]:
    kind = field.type
    if kind.is_primitive and not kind.array:
        plain: dict[str, Any] = {"bool": False, "byte": b"\0", "string": "", "wstring": ""}
        value = plain.get(kind.base, 0.0 if kind.base.startswith("float") else 0)
        if field.default is not None:
            value = field.default
        return lambda: value
    if not kind.array:
        base = kind.base
        return lambda: message_class(base)()
    values = field.default if isinstance(field.default, list) else []
    if kind.base in TYPECODES:
        if kind.array == "fixed":
            dtype, size = DTYPES[kind.base], kind.size
            return lambda: np.array(values, dtype=dtype) if values else np.zeros(size, dtype=dtype)
        code = TYPECODES[kind.base]
        return lambda: array(code, values)
    if kind.array == "fixed":
        element = _default_maker(Field(field.name, FieldType(kind.base, string_bound=kind.string_bound)))
        return lambda: list(values) if values else [element() for _ in range(kind.size)]
    return lambda: list(values)
