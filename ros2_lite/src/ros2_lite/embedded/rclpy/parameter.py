"""Parameters as values."""

from __future__ import annotations

import array
from enum import Enum
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue

PARAMETER_SEPARATOR_STRING = "."

_FIELDS = {
    1: "bool_value", 2: "integer_value", 3: "double_value", 4: "string_value", 5: "byte_array_value",
    6: "bool_array_value", 7: "integer_array_value", 8: "double_array_value", 9: "string_array_value",
}  # fmt: skip
_SCALARS: dict[int, type] = {1: bool, 2: int, 3: float, 4: str}
_ELEMENTS: dict[int, type] = {5: bytes, 6: bool, 7: int, 8: float, 9: str}
_NUMBERS = (7, 8)
_TYPED = (6, 7, 8, 9)


class Parameter:
    """A name with a typed value."""

    class Type(Enum):
        """The types that a parameter can have."""

        NOT_SET = ParameterType.PARAMETER_NOT_SET
        BOOL = ParameterType.PARAMETER_BOOL
        INTEGER = ParameterType.PARAMETER_INTEGER
        DOUBLE = ParameterType.PARAMETER_DOUBLE
        STRING = ParameterType.PARAMETER_STRING
        BYTE_ARRAY = ParameterType.PARAMETER_BYTE_ARRAY
        BOOL_ARRAY = ParameterType.PARAMETER_BOOL_ARRAY
        INTEGER_ARRAY = ParameterType.PARAMETER_INTEGER_ARRAY
        DOUBLE_ARRAY = ParameterType.PARAMETER_DOUBLE_ARRAY
        STRING_ARRAY = ParameterType.PARAMETER_STRING_ARRAY

        @classmethod
        def from_parameter_value(cls, parameter_value: Any) -> Parameter.Type:
            """The type of a Python value; TypeError when it is none of these."""
            if parameter_value is None:
                return cls.NOT_SET
            for number, kind in _SCALARS.items():  # bool comes before int, whose subclass it is
                if isinstance(parameter_value, kind):
                    return cls(number)
            if isinstance(parameter_value, (list, tuple, array.array)):
                for number, kind in _ELEMENTS.items():
                    if all(isinstance(item, kind) for item in parameter_value):
                        return cls(number)
                raise TypeError(f"The given value is not a list of one of the allowed types '{parameter_value}'.")
            raise TypeError(f"The given value is not one of the allowed types '{parameter_value}'.")

        def check(self, parameter_value: Any) -> bool:
            """Whether a Python value is of this type."""
            number = self.value
            if number == 0:
                return parameter_value is None
            if number in _SCALARS:
                return isinstance(parameter_value, _SCALARS[number])
            # Only numbers come as array.array, from the fields of a message.
            kinds = (list, tuple, array.array) if number in _NUMBERS else (list, tuple)
            if not isinstance(parameter_value, kinds):
                return False
            if number == 5:
                return all(isinstance(item, bytes) and len(item) == 1 for item in parameter_value)
            return all(isinstance(item, _ELEMENTS[number]) for item in parameter_value)

    @classmethod
    def from_parameter_msg(cls, param_msg: Any) -> Parameter:
        """From rcl_interfaces/msg/Parameter; integer and double arrays stay the array.array of the message."""
        type_ = cls.Type(param_msg.value.type)
        value = None if type_ == cls.Type.NOT_SET else getattr(param_msg.value, _FIELDS[type_.value])
        return cls(param_msg.name, type_, value)

    def __init__(self, name: str, type_: Parameter.Type | None = None, value: Any = None) -> None:
        if type_ is None:
            type_ = Parameter.Type.from_parameter_value(value)
        if not isinstance(type_, Parameter.Type):
            raise TypeError(f"type must be an instance of '{Parameter.Type!r}'")
        if not type_.check(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._type_ = type_
        self._name = name
        self._value = value

    @property
    def name(self) -> str:
        return self._name

    @property
    def type_(self) -> Parameter.Type:
        return self._type_

    @property
    def value(self) -> Any:
        return self._value

    def get_parameter_value(self) -> Any:
        """As rcl_interfaces/msg/ParameterValue."""
        message = ParameterValue(type=self._type_.value)
        if self._type_ != Parameter.Type.NOT_SET:
            setattr(message, _FIELDS[self._type_.value], self._value)
        return message

    def to_parameter_msg(self) -> Any:
        """As rcl_interfaces/msg/Parameter."""
        return ParameterMsg(name=self._name, value=self.get_parameter_value())

    def __repr__(self) -> str:
        return f"Parameter(name={self._name!r}, type_={self._type_}, value={self._value!r})"


def parameter_value_to_python(parameter_value: Any) -> Any:
    """The Python value in a ParameterValue; None when it is not set.  RuntimeError for an unknown type."""
    number = parameter_value.type
    if number == ParameterType.PARAMETER_NOT_SET:
        return None
    if number not in _FIELDS:
        raise RuntimeError(f"unexpected parameter type {number}")
    value = getattr(parameter_value, _FIELDS[number])
    return list(value) if number in _ELEMENTS else value


def get_parameter_value(string_value: str) -> Any:
    """The ParameterValue that a text stands for, guessed by PyYAML's rules (which read ``1e5`` as a text).

    What is no value of a parameter, such as a list of several types, is the text itself.
    """
    import yaml

    try:
        value = yaml.safe_load(string_value)
    except yaml.YAMLError:
        value = string_value
    for number, kind in _SCALARS.items():  # bool comes before int, whose subclass it is
        if isinstance(value, kind):
            return _value_message(number, value)
    if isinstance(value, list):
        for number in _TYPED:  # so that an empty list is one of bools
            if all(isinstance(item, _ELEMENTS[number]) for item in value):
                return _value_message(number, value)
    return _value_message(4, string_value)


def _value_message(number: int, value: Any) -> Any:
    return ParameterValue(type=number, **{_FIELDS[number]: value})


def parameter_dict_from_yaml_file(
    parameter_file: str,
    use_wildcard: bool = False,
    target_nodes: list[str] | None = None,
    namespace: str = "",
) -> dict[str, Any]:
    """Parameter messages by name, from the sections of some nodes (default: all) of a parameter file.

    Each value is guessed anew from its text by :func:`get_parameter_value`; of two sections that nest parameters under
    one name, the later one counts.  RuntimeError when it is no parameter file or lacks a node.
    """
    import yaml

    document = yaml.safe_load(Path(parameter_file).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise RuntimeError("YAML file is not a valid ROS parameter file")
    keys = ["/**"] if use_wildcard and "/**" in document else []
    for node in target_nodes or []:
        if node not in document:
            raise RuntimeError(f"Param file does not contain parameters for {node}, only for nodes: {list(document)}")
        keys.append(node)
    if not target_nodes:
        keys += [key for key in document if key != "/**"]
    if not keys:
        raise RuntimeError("Param file does not contain selected parameters")
    merged: dict[str, Any] = {}
    for key in keys:
        section = document[key]
        if not isinstance(section, dict) or "ros__parameters" not in section:
            raise RuntimeError(f"YAML file is not a valid ROS parameter file for node {key}")
        merged.update(section["ros__parameters"] or {})
    return _messages(merged, namespace)


def _messages(parameters: dict[Any, Any], prefix: str) -> dict[str, Any]:
    """Parameter messages by name of nested parameters."""
    found: dict[str, Any] = {}
    for key, value in parameters.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found.update(_messages(value, name + PARAMETER_SEPARATOR_STRING))
        else:
            found[name] = ParameterMsg(name=name, value=get_parameter_value(str(value)))
    return found
