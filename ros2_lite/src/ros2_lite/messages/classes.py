"""Message and service classes shaped as those that rosidl generates for rclpy, made on first use."""

from __future__ import annotations

import os
import threading
from array import array
from collections import UserString
from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np

from ros2_lite.messages import registry
from ros2_lite.messages.codec import DTYPES, TYPECODES, Codec
from ros2_lite.messages.spec import INT_RANGES, Field, FieldType, MessageSpec

CHECK_FIELDS = os.environ.get("ROS_PYTHON_CHECK_FIELDS", "1") != "0"
"""Whether assignments are checked (AssertionError), as Humble always does; ROS_PYTHON_CHECK_FIELDS=0 turns it off."""

_FLOAT32_MAX = 3.402823466e38
_lock = threading.RLock()
_classes: dict[str, Any] = {}


class Message:
    """Base of all message classes: construction from keywords, equality, representation."""

    __slots__ = ()
    _spec: MessageSpec
    _codec: Codec
    _makers: tuple[tuple[str, Callable[[Any, Any], None], Callable[[], Any]], ...]

    def __init__(self, **kwargs: Any) -> None:
        for name, put, make in self._makers:
            if name in kwargs:
                setattr(self, name, kwargs.pop(name))
            else:
                put(self, make())
        assert not kwargs, f"Invalid arguments passed to constructor: {', '.join(sorted(kwargs))}"

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
            if isinstance(value, (array, np.ndarray)):
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


def service_class(package: str, name: str) -> Any:
    """The class of a service: a holder of ``Request`` and ``Response``."""
    key = f"{package}/srv/{name}"
    with _lock:
        if key not in _classes:
            registry.service(package, name)
            body = {
                "Request": message_class(f"{key}_Request"),
                "Response": message_class(f"{key}_Response"),
                "_name": key,
                "__module__": f"{package}.srv",
                "__doc__": f"Service {key}.",
                "__init__": _no_instances,
            }
            _classes[key] = type(name, (), body)
        return _classes[key]


def _no_instances(self: Any) -> None:
    raise NotImplementedError("Service classes can not be instantiated")


def full_name_of(cls: Any) -> str:
    """``package/msg/Name`` of a message class, ``package/srv/Name`` of a service; TypeError if it is neither."""
    spec = getattr(cls, "_spec", None)
    if isinstance(spec, MessageSpec):
        return spec.name
    name = getattr(cls, "_name", None)
    if isinstance(name, str) and hasattr(cls, "Request"):
        return name
    raise TypeError(f"{cls!r} is not a message or service class")


def _make(spec: MessageSpec) -> Any:
    package, kind, name = spec.name.split("/")
    body: dict[str, Any] = {
        "__slots__": [f"_{field.name}" for field in spec.fields],
        "__module__": f"{package}.{kind}",
        "__doc__": f"Message {spec.name}.",
        "_spec": spec,
    }
    for constant in spec.constants:
        body[constant.name] = constant.value
    checks = {field.name: _check_for(field) for field in spec.fields}
    for field in spec.fields:
        body[field.name] = _property(field, checks[field.name])
    cls = type(name, (Message,), body)
    cls._makers = tuple(  # type: ignore[attr-defined]
        (field.name, getattr(cls, f"_{field.name}").__set__, _default_maker(field)) for field in spec.fields
    )
    cls._codec = Codec(spec, cls, message_class)  # type: ignore[attr-defined]
    _classes[spec.name] = cls
    return cls


def _property(field: Field, check: Callable[[Any], Any]) -> property:
    slot = f"_{field.name}"

    def get(self: Any) -> Any:
        return getattr(self, slot)

    def put(self: Any, value: Any) -> None:
        setattr(self, slot, check(value))

    return property(get, put, doc=f"Message field '{field.name}' ({field.type}).")


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


# ---- checks on assignment ------------------------------------------------------------------------------------------


def _check_for(field: Field) -> Callable[[Any], Any]:
    """A function that returns what is to be stored for a value, or fails with AssertionError."""
    kind = field.type
    if not kind.array:
        check = _check_single(field.name, kind)
        return check if CHECK_FIELDS else _identity
    if kind.base in TYPECODES:
        return _check_numbers(field.name, kind)
    return _check_list(field.name, kind)


def _identity(value: Any) -> Any:
    return value


def _check_single(name: str, kind: FieldType) -> Callable[[Any], Any]:
    base = kind.base
    if base in INT_RANGES:
        low, high = INT_RANGES[base]

        def check_int(value: Any) -> Any:
            assert isinstance(value, int), f"The '{name}' field must be of type 'int', not {_type_of(value)}"
            assert low <= value <= high, f"The '{name}' field must be an integer in [{low}, {high}], not {value}"
            return value

        return check_int
    if base in ("float32", "float64"):
        limit = _FLOAT32_MAX if base == "float32" else float("inf")

        def check_float(value: Any) -> Any:
            assert isinstance(value, float), f"The '{name}' field must be of type 'float', not {_type_of(value)}"
            # not (... > ...) lets NaN through, as rosidl does
            assert not limit < abs(value) < float("inf"), f"The '{name}' field must be a float32, {value} is too large"
            return value

        return check_float
    if base == "bool":

        def check_bool(value: Any) -> Any:
            assert isinstance(value, bool), f"The '{name}' field must be of type 'bool', not {_type_of(value)}"
            return value

        return check_bool
    if base == "byte":

        def check_byte(value: Any) -> Any:
            is_byte = isinstance(value, (bytes, bytearray)) and len(value) == 1
            assert is_byte, f"The '{name}' field must be of type 'bytes' with length 1, not {value!r}"
            return value

        return check_byte
    if base in ("string", "wstring"):
        bound = kind.string_bound

        def check_str(value: Any) -> Any:
            assert isinstance(value, str), f"The '{name}' field must be of type 'str', not {_type_of(value)}"
            assert not bound or len(value) <= bound, f"The '{name}' field must have at most {bound} characters"
            return value

        return check_str

    wanted: list[Any] = []

    def check_message(value: Any) -> Any:
        if not wanted:
            wanted.append(message_class(base))
        assert isinstance(value, wanted[0]), (
            f"The '{name}' field must be a sub message of type '{base.rsplit('/', 1)[1]}', not {_type_of(value)}"
        )
        return value

    return check_message


def _check_size(name: str, kind: FieldType, count: int) -> None:
    if kind.array == "fixed":
        assert count == kind.size, f"The '{name}' field must have {kind.size} elements, not {count}"
    elif kind.array == "bounded":
        assert count <= kind.size, f"The '{name}' field must have at most {kind.size} elements, not {count}"


def _check_numbers(name: str, kind: FieldType) -> Callable[[Any], Any]:
    """Numeric arrays: stored as ndarray (fixed size) or array.array; large ones are checked as a whole."""
    dtype, code = DTYPES[kind.base], TYPECODES[kind.base]
    element = _check_single(name, FieldType(kind.base))
    is_int = kind.base in INT_RANGES

    def check_fixed(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            assert value.dtype == dtype, f"The '{name}' field must have dtype '{dtype}', not '{value.dtype}'"
            assert value.size == kind.size, f"The '{name}' field must have {kind.size} elements, not {value.size}"
            return value
        assert _is_sequence(value), f"The '{name}' field must be a set or sequence, not {_type_of(value)}"
        _check_size(name, kind, len(value))
        if CHECK_FIELDS and not isinstance(value, array):
            for item in value:
                element(item)
        return np.array(list(value) if isinstance(value, set) else value, dtype=dtype)

    def check_sequence(value: Any) -> Any:
        if isinstance(value, array):
            assert value.typecode == code, f"The '{name}' field must be an array('{code}'), not '{value.typecode}'"
            _check_size(name, kind, len(value))
            return value
        if code == "B" and isinstance(value, (bytes, bytearray, memoryview)):
            stored = array(code)
            stored.frombytes(value)
            _check_size(name, kind, len(stored))
            return stored
        if not CHECK_FIELDS:
            return array(code, value)
        assert _is_sequence(value), f"The '{name}' field must be a set or sequence, not {_type_of(value)}"
        _check_size(name, kind, len(value))
        for item in value:
            # rclpy refuses an int in a float array; bool is an int in Python and stays one here.
            assert isinstance(item, int if is_int else float), (
                f"The '{name}' field must be a sequence of {'int' if is_int else 'float'}, not of {_type_of(item)}"
            )
        try:
            return array(code, value)
        except OverflowError as error:
            raise AssertionError(f"The '{name}' field: {error}") from None

    return check_fixed if kind.array == "fixed" else check_sequence


def _check_list(name: str, kind: FieldType) -> Callable[[Any], Any]:
    """Arrays of strings, messages, bools and bytes: plain lists."""
    element = _check_single(name, FieldType(kind.base, string_bound=kind.string_bound))

    def check_list(value: Any) -> Any:
        assert _is_sequence(value), f"The '{name}' field must be a set or sequence, not {_type_of(value)}"
        _check_size(name, kind, len(value))
        if CHECK_FIELDS:
            for item in value:
                element(item)
        return value

    return check_list


def _is_sequence(value: Any) -> bool:
    """As rosidl asks it: NumPy arrays, mappings and their views are none."""
    if isinstance(value, (list, tuple)):
        return True
    return isinstance(value, (Sequence, Set)) and not isinstance(value, (str, UserString))


def _type_of(value: Any) -> str:
    return f"'{type(value).__name__}'"
