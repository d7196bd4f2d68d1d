"""Options as dataclasses: their documentation, their YAML and their checks, each written once.

A knob is one field of one dataclass with a docstring below it. Command lines, YAML files and help
texts follow from it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robovlm_ros.errors import UserError

_T = TypeVar("_T")


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Field name → the docstring below it, on one line; fields of base classes included."""
    docs: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                docs[field.target.id] = " ".join(text.value.value.split())
    return docs


def field_types(cls: type[Any]) -> dict[str, Any]:
    """Field name → its type, with string annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def build(cls: type[_T], values: Mapping[str, Any], where: str) -> _T:
    """Build options from plain values; UserError for an unknown key, a missing one or a wrong type."""
    hints = field_types(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in hints:
            raise UserError(f"{where}: unknown key '{key}' (keys: {', '.join(hints)})")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and values.get(name) is None:
            raise UserError(f"{where}: '{name}' is missing")
    return cls(**{key: _convert(value, hints[key], f"{where}: '{key}'") for key, value in values.items()})


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError when it is missing or something else."""
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a YAML mapping")
    return values


def _convert(value: Any, hint: Any, where: str) -> Any:
    """A plain value as the field's type, refusing what does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(item for item in arguments if item is not type(None)), where)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        length = None if arguments[-1] is Ellipsis else len(arguments)
        if not isinstance(items, (list, tuple)) or (length is not None and len(items) != length):
            raise UserError(f"{where} must be a list{'' if length is None else f' of {length}'}, not {value!r}")
        return tuple(_convert(item, arguments[0], where) for item in items if item != "")
    if origin is dict:
        if isinstance(value, str):
            return {"type": value}
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping or a type's name, not {value!r}")
        return dict(value)
    if dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(type, hint)):
        return value
    if hint is str and value is False:
        return "off"  # YAML reads the bare word so; where a text may be off, it says what was written
    if hint is str and not isinstance(value, str):
        raise UserError(f"{where} must be text, not {value!r}")
    if hint is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise UserError(f"{where} must be true or false, not {value!r}")
    try:
        if hint in (int, float) and isinstance(value, bool):
            raise ValueError
        if hint is int and isinstance(value, float) and value != int(value):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError) as error:
        kind = {int: "a whole number", float: "a number"}.get(hint, f"of type {getattr(hint, '__name__', hint)}")
        raise UserError(f"{where} must be {kind}, not {value!r}") from error
