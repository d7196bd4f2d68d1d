"""The data in a pickle, read without executing it: nothing in the file can call anything.

NumPy stores arrays of Python objects as pickles, and unpickling runs what the file says. Here the opcodes are read as a
description of data; the few callables that describe arrays are recognised by name and never called. Anything else is
refused. Reference: the opcodes as `pickletools` documents them, and ``ndarray.__reduce__``.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from robovlm_ros.errors import UserError

_VALUES = frozenset(
    (
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING", "STRING"),
    )
)
"""Opcodes whose argument is a value."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Name(tuple[str, str]):
    """A callable, by module and name."""


class _Dtype:
    def __init__(self, text: str) -> None:
        self.text, self.order = text, "="

    def numpy(self) -> np.dtype[Any]:
        dtype = np.dtype(self.text)
        if dtype.kind not in "biufSU":
            raise UserError(f"arrays of '{self.text}' are not read")
        return dtype.newbyteorder(self.order) if self.order in "<>" else dtype  # type: ignore[arg-type]


class _Array:
    value: Any = None


def read_object_npy(path: Path) -> Any:
    """What ``numpy.save`` stored of one Python object: dicts, lists, tuples, text, numbers and arrays of numbers.

    UserError naming path and reason if the file is something else, or would call anything.
    """
    try:
        with path.open("rb") as stream:
            version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
            read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
            if not dtype.hasobject or shape != ():
                raise UserError("it holds no Python object")
            return _plain(_read(stream.read()))
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: it is no file of numpy.save ({error})") from error


def _read(data: bytes) -> Any:
    """Run the opcodes on a stack of values."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = _to_mark(stack)
            pairs = dict(zip(items[::2], items[1::2], strict=True)) if name == "DICT" else items
            stack.append(tuple(items) if name == "TUPLE" else pairs)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _to_mark(stack)
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _to_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name == "GLOBAL":
            stack.append(_Name(argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_Name(stack[-2:])]
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_described(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _set_state(stack[-1], state)
        elif name == "STOP":
            return stack.pop()
        else:
            raise UserError(f"its opcode {name} is more than data")
    raise UserError("it breaks off")


def _to_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _described(function: Any, arguments: Any) -> Any:
    """The value that a call would make, if it is one of those that NumPy writes."""
    if not isinstance(function, _Name):
        raise UserError("it calls something that is no name")
    module, name = function
    if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        if name == "_reconstruct":
            return _Array()
        if name == "scalar":
            return np.frombuffer(arguments[1], arguments[0].numpy(), 1)[0].item()
    if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":  # protocol 5
        data, dtype, shape, order = arguments
        return np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if order == "F" else "C")
    if (module, name) == ("numpy", "dtype"):
        return _Dtype(str(arguments[0]))
    if (module, name) == ("_codecs", "encode"):  # how bytes were written for Python 2
        return str(arguments[0]).encode("latin1")
    raise UserError(f"it would call {module}.{name}")


def _set_state(value: Any, state: Any) -> None:
    if isinstance(value, _Dtype):
        value.order = str(state[1])
    elif isinstance(value, _Array):
        _, shape, dtype, fortran, data = state
        if dtype.text.startswith("O"):
            if len(data) != math.prod(shape):
                raise UserError("an array of objects has another size than it says")
            value.value = data[0] if shape == () else data
        else:
            array = np.frombuffer(data, dtype.numpy())
            value.value = array.reshape(shape, order="F" if fortran else "C")
    else:
        raise UserError("it sets the state of something that is no array")


def _plain(value: Any) -> Any:
    """Arrays in the places where they were described."""
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, (_Name, _Dtype)) or value is _MARK:
        raise UserError("it holds more than data")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value
