"""What an assignment to a message's field is checked for, where checks are on: the rules of rosidl's Python classes."""

from __future__ import annotations

from array import array
from collections import UserString
from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np

from ros2_lite.messages.codec import DTYPES, TYPECODES
from ros2_lite.messages.spec import INT_RANGES, Field, FieldType

ClassOf = Callable[[str], Any]
"""The class of a message by its full name."""

_FLOAT32_MAX = 3.402823466e38


def check_for(field: Field, class_of: ClassOf) -> Callable[[Any], Any]:
    """A function that returns what is to be stored for a value, or fails with AssertionError."""
    kind = field.type
    if not kind.array:
        return _check_single(field.name, kind, class_of)
    if kind.base in TYPECODES:
        return _check_numbers(field.name, kind, class_of)
    return _check_list(field.name, kind, class_of)


def _check_single(name: str, kind: FieldType, class_of: ClassOf) -> Callable[[Any], Any]:
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
            wanted.append(class_of(base))
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


def _check_numbers(name: str, kind: FieldType, class_of: ClassOf) -> Callable[[Any], Any]:
    """Numeric arrays: stored as ndarray (fixed size) or array.array; large ones are checked as a whole."""
    dtype, code = DTYPES[kind.base], TYPECODES[kind.base]
    element = _check_single(name, FieldType(kind.base), class_of)
    is_int = kind.base in INT_RANGES

    def check_fixed(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            assert value.dtype == dtype, f"The '{name}' field must have dtype '{dtype}', not '{value.dtype}'"
            assert value.size == kind.size, f"The '{name}' field must have {kind.size} elements, not {value.size}"
            return value
        assert _is_sequence(value), f"The '{name}' field must be a set or sequence, not {_type_of(value)}"
        _check_size(name, kind, len(value))
        if not isinstance(value, array):
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


def _check_list(name: str, kind: FieldType, class_of: ClassOf) -> Callable[[Any], Any]:
    """Arrays of strings, messages, bools and bytes: plain lists."""
    element = _check_single(name, FieldType(kind.base, string_bound=kind.string_bound), class_of)

    def check_list(value: Any) -> Any:
        assert _is_sequence(value), f"The '{name}' field must be a set or sequence, not {_type_of(value)}"
        _check_size(name, kind, len(value))
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
