"""Parameters from one dataclass: field name, default, docstring and range become the ROS 2 declaration.

@dataclass(frozen=True, kw_only=True)
class Settings:
    rate_hz: float = limited(10.0, 0.1, 1000.0)
    \"\"\"Rate of ... [Hz].\"\"\"

settings = declare(node, Settings)
follow(node, settings, changed)      # changed(new_settings) may raise UserError to refuse
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from robovlm_ros.errors import UserError
from robovlm_ros.options import field_docs

T = TypeVar("T")


def limited(default: Any, low: float, high: float, *, fixed: bool = False) -> Any:
    """A number between `low` and `high`; `fixed`: it cannot change while the node runs."""
    return dataclasses.field(default=default, metadata={"range": (low, high), "fixed": fixed})


def choice(default: str, choices: Sequence[str], *, fixed: bool = False) -> Any:
    """A text out of `choices`."""
    return dataclasses.field(default=default, metadata={"choices": tuple(choices), "fixed": fixed})


def fixed(default: Any) -> Any:
    """A value that cannot change while the node runs."""
    return dataclasses.field(default=default, metadata={"fixed": True})


def declare(node: Node, kind: type[T]) -> T:
    """Declare a parameter for each field of the dataclass `kind` and return what they were set to.

    UserError when a value from the command line, launch file or YAML has the wrong type or is out of range.
    """
    values = {}
    docs = field_docs(kind)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        try:
            values[item.name] = node.declare_parameter(
                item.name, item.default, _descriptor(item, docs.get(item.name, ""))
            ).value
        except ParameterException as error:
            raise UserError(f"parameter '{item.name}': {' '.join(str(error).split())}") from error
        _check(item, values[item.name])
    return kind(**values)


def follow(node: Node, settings: T, changed: Callable[[T], None]) -> None:
    """Call `changed` with the new settings whenever parameters change while the node runs.

    Fields that are `fixed` are refused by their read-only descriptor; a UserError from `changed`, or a value
    that is not among its choices, refuses the change and its text is the reason that the caller reads.
    """
    current = [settings]
    fields = {item.name: item for item in dataclasses.fields(settings)}  # type: ignore[arg-type]

    def set_parameters(parameters: list[Parameter]) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters if parameter.name in fields}
        try:
            for name, value in values.items():
                _check(fields[name], value)
            if values:
                new = dataclasses.replace(current[0], **values)  # type: ignore[type-var]
                changed(new)
                current[0] = new
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(set_parameters)


def _descriptor(item: dataclasses.Field[Any], doc: str) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=doc, read_only=bool(item.metadata.get("fixed", False)))
    if "range" in item.metadata:
        low, high = item.metadata["range"]
        if isinstance(item.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
            ]
    if "choices" in item.metadata:
        descriptor.additional_constraints = "one of: " + ", ".join(item.metadata["choices"])
    return descriptor


def _check(item: dataclasses.Field[Any], value: Any) -> None:
    choices = item.metadata.get("choices")
    if choices is not None and value not in choices:
        raise UserError(f"parameter '{item.name}': '{value}' is not one of: {', '.join(choices)}")
