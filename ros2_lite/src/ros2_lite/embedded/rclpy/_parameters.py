"""The parameters of a node: declared, described, checked, set, and announced on ``/parameter_events``."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import (
    ListParametersResult,
    ParameterDescriptor,
    ParameterEvent,
    ParameterValue,
    SetParametersResult,
)

from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from rclpy.parameter import PARAMETER_SEPARATOR_STRING, Parameter, parameter_value_to_python
from rclpy.validate_parameter_name import validate_parameter_name

if TYPE_CHECKING:
    from rclpy.clock import Clock
    from rclpy.publisher import Publisher

PreCallback = Callable[[list[Parameter]], list[Parameter]]
OnCallback = Callable[[list[Parameter]], Any]
PostCallback = Callable[[list[Parameter]], None]
_WRONG_TYPE = "Wrong parameter type"
_ARRAYS = range(5, 10)
_RELATIVE_TOLERANCE = 1e-6
"""Of floating-point ranges, as rclpy's Node.PARAM_REL_TOL."""


class Parameters:
    """The part of `Node` that has to do with parameters."""

    _allow_undeclared_parameters: bool
    _parameter_event_publisher: Publisher
    _clock: Clock

    def _rclpy_init_parameters(self) -> None:
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._parameter_overrides: dict[str, Parameter] = {}
        self._pre_set_parameters_callbacks: list[PreCallback] = []
        self._on_set_parameters_callbacks: list[OnCallback] = []
        self._post_set_parameters_callbacks: list[PostCallback] = []
        self._rclpy_parameters_lock = threading.RLock()

    def get_fully_qualified_name(self) -> str:
        raise NotImplementedError

    # ---- declaring ------------------------------------------------------------------------------------------------

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare a parameter with a default value (or a `Parameter.Type`); returns it with the value that counts.

        Raises ParameterAlreadyDeclaredException, InvalidParameterException (its name), InvalidParameterTypeException,
        InvalidParameterValueException (a range, or a callback that refused it).
        """
        if value is None and descriptor is None:
            entry: tuple[Any, ...] = (name,)
        else:
            entry = (name, value, ParameterDescriptor() if descriptor is None else descriptor)
        return self.declare_parameters("", [entry], ignore_override)[0]

    def declare_parameters(
        self, namespace: str, parameters: Iterable[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare (name, value, descriptor) tuples, the last two optional; `namespace` is put before the names."""
        declared: list[tuple[Parameter, Any]] = []
        for index, entry in enumerate(parameters):
            if not 1 <= len(entry) <= 3:
                raise TypeError(
                    f"Invalid parameter tuple length at index {index} in parameters list: {entry};"
                    " expecting length between 1 and 3"
                )
            name = entry[0]
            if not isinstance(name, str):
                raise TypeError(f"First element {name} at index {index} in parameters list is not a str.")
            name = f"{namespace}.{name}" if namespace else name
            validate_parameter_name(name)
            descriptor = entry[2] if len(entry) > 2 else ParameterDescriptor()
            if not isinstance(descriptor, ParameterDescriptor):
                raise TypeError(
                    f"Third element {descriptor} at index {index} in parameters list is not a ParameterDescriptor."
                )
            if len(entry) == 1:
                warnings.warn(
                    f"when declaring parameter named '{name}', declaring a parameter only providing its name is"
                    " deprecated: give a default value, a type, or a descriptor with dynamic_typing=True",
                    stacklevel=3,
                )
                descriptor.dynamic_typing = True
            value = self._rclpy_default_and_type(name, entry[1] if len(entry) > 1 else None, descriptor)
            if not ignore_override and name in self._parameter_overrides:
                value = self._parameter_overrides[name].value
            if isinstance(value, (list, tuple)) and not value and descriptor.type in _ARRAYS:
                # An empty list has no type of its own: it takes the declared one.
                declared.append((Parameter(name, Parameter.Type(descriptor.type), []), descriptor))
            else:
                declared.append((Parameter(name, value=value), descriptor))
        already = [parameter.name for parameter, _ in declared if parameter.name in self._parameters]
        if already:
            raise ParameterAlreadyDeclaredException(already)
        for parameter, descriptor in declared:
            result = self._rclpy_set_atomically([parameter], {parameter.name: descriptor}, declaring=True)
            if not result.successful:
                if result.reason.startswith(_WRONG_TYPE):
                    raise InvalidParameterTypeException(parameter, Parameter.Type(descriptor.type).name)
                raise InvalidParameterValueException(parameter.name, parameter.value, result.reason)
        return [self._parameters[parameter.name] for parameter, _ in declared]

    def _rclpy_default_and_type(self, name: str, second: Any, descriptor: Any) -> Any:
        """The default value of a declaration; sets the descriptor's type."""
        if isinstance(second, Parameter.Type):
            if second == Parameter.Type.NOT_SET:
                raise ValueError(f"Cannot declare parameter {{{name}}} as statically typed of type NOT_SET")
            if descriptor.dynamic_typing:
                raise ValueError(
                    f"When declaring parameter {{{name}}} passing a descriptor with `dynamic_typing=True` is not"
                    " allowed when the parameter type is provided"
                )
            descriptor.type = second.value
            return None
        if isinstance(second, ParameterValue):
            second = parameter_value_to_python(second)
        if not descriptor.dynamic_typing:
            kind = Parameter.Type.from_parameter_value(second)
            if kind == Parameter.Type.NOT_SET:
                raise ValueError(
                    "Cannot declare a statically typed parameter with default value of type PARAMETER_NOT_SET"
                )
            descriptor.type = kind.value
        return second

    def undeclare_parameter(self, name: str) -> None:
        """Forget a parameter.  ParameterNotDeclaredException, ParameterImmutableException (read-only)."""
        if not self.has_parameter(name):
            raise ParameterNotDeclaredException(name)
        if self._descriptors[name].read_only:
            raise ParameterImmutableException(name)
        del self._parameters[name]
        del self._descriptors[name]

    def has_parameter(self, name: str) -> bool:
        """Whether the parameter is declared."""
        return name in self._parameters

    # ---- reading --------------------------------------------------------------------------------------------------

    def get_parameter(self, name: str) -> Parameter:
        """A parameter.  ParameterNotDeclaredException; ParameterUninitializedException when it has no value yet."""
        if self.has_parameter(name):
            parameter = self._parameters[name]
            if parameter.type_ != Parameter.Type.NOT_SET or self._descriptors[name].dynamic_typing:
                return parameter
            raise ParameterUninitializedException(name)
        if self._allow_undeclared_parameters:
            return Parameter(name, Parameter.Type.NOT_SET, None)
        raise ParameterNotDeclaredException(name)

    def get_parameters(self, names: list[str]) -> list[Parameter]:
        """Several parameters; see `get_parameter`."""
        if not all(isinstance(name, str) for name in names):
            raise TypeError("All names must be instances of type str")
        return [self.get_parameter(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        """A parameter, or the alternative when it is not declared or has no value."""
        if alternative_value is None:
            alternative_value = Parameter(name, Parameter.Type.NOT_SET)
        parameter = self._parameters.get(name)
        return alternative_value if parameter is None or parameter.type_ == Parameter.Type.NOT_SET else parameter

    def get_parameter_type(self, name: str) -> Any:
        """A parameter's type as a number."""
        if self.has_parameter(name):
            return self._parameters[name].type_.value
        if self._allow_undeclared_parameters:
            return Parameter.Type.NOT_SET.value
        raise ParameterNotDeclaredException(name)

    def get_parameter_types(self, names: list[str]) -> list[Any]:
        if not all(isinstance(name, str) for name in names):
            raise TypeError("All names must be instances of type str")
        return [self.get_parameter_type(name) for name in names]

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """Parameters below a prefix, by the rest of their names."""
        start = prefix + PARAMETER_SEPARATOR_STRING if prefix else ""
        return {name[len(start) :]: value for name, value in self._parameters.items() if name.startswith(start)}

    def list_parameters(self, prefixes: list[str], depth: int) -> Any:
        """Names (and their prefixes) below some prefixes, down to a depth; 0 is any depth."""
        if not isinstance(prefixes, list) or not all(isinstance(prefix, str) for prefix in prefixes):
            raise TypeError("The prefixes argument must be a list of str")
        if not isinstance(depth, int):
            raise TypeError("The depth must be instance of type int")
        if depth < 0:
            raise ValueError("The depth must be greater than or equal to zero")
        separator = PARAMETER_SEPARATOR_STRING

        def shallow(rest: str) -> bool:
            return depth == 0 or rest.count(separator) < depth

        result = ListParametersResult()
        for name in self._parameters:
            if prefixes:
                if not any(
                    name == prefix or (name.startswith(prefix + separator) and shallow(name[len(prefix) + 1 :]))
                    for prefix in prefixes
                ):
                    continue
            elif not shallow(name):
                continue
            result.names.append(name)
            parent = name.rpartition(separator)[0]
            if parent and parent not in result.prefixes:
                result.prefixes.append(parent)
        return result

    def describe_parameter(self, name: str) -> Any:
        """A parameter's descriptor."""
        if name in self._descriptors:
            return self._descriptors[name]
        if self._allow_undeclared_parameters:
            return ParameterDescriptor()
        raise ParameterNotDeclaredException(name)

    def describe_parameters(self, names: list[str]) -> list[Any]:
        return [self.describe_parameter(name) for name in names]

    def set_descriptor(self, name: str, descriptor: Any, alternative_value: Any = None) -> Any:
        """Give a declared parameter a new descriptor; returns the parameter's value.

        Raises ParameterNotDeclaredException, ParameterImmutableException, ParameterValueException when the value does
        not fit it (then `alternative_value` is tried).
        """
        if not self.has_parameter(name):
            if not self._allow_undeclared_parameters:
                raise ParameterNotDeclaredException(name)
            return self.get_parameter(name).get_parameter_value()
        if self._descriptors[name].read_only:
            raise ParameterImmutableException(name)
        current = self.get_parameter(name)
        if alternative_value is not None:
            current = Parameter(name, value=parameter_value_to_python(alternative_value))
        descriptor.type = current.type_.value
        result = self._apply_descriptor(current, descriptor, check_read_only=False)
        if not result.successful:
            raise InvalidParameterValueException(name, current.value, result.reason)
        self._descriptors[name] = descriptor
        self._parameters[name] = current
        return current.get_parameter_value()

    # ---- setting --------------------------------------------------------------------------------------------------

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """Set parameters one by one; a SetParametersResult for each.  ParameterNotDeclaredException."""
        results = []
        for parameter in parameter_list:
            self._rclpy_check_declared([parameter])
            results.append(self._rclpy_set_atomically(self._rclpy_before([parameter])))
        return results

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> Any:
        """Set all parameters or none; one SetParametersResult.  ParameterNotDeclaredException."""
        self._rclpy_check_declared(parameter_list)
        return self._rclpy_set_atomically(self._rclpy_before(parameter_list))

    def _rclpy_before(self, parameters: list[Parameter]) -> list[Parameter] | None:
        """What the pre-set callbacks make of a list; None when they leave nothing."""
        if not self._pre_set_parameters_callbacks:
            return parameters
        changed = [item for callback in self._pre_set_parameters_callbacks for item in callback(parameters)]
        if changed:
            self._rclpy_check_declared(changed)
        return changed or None

    def _rclpy_check_declared(self, parameters: list[Parameter]) -> None:
        if not all(isinstance(parameter, Parameter) for parameter in parameters):
            raise TypeError(f"parameter must be instance of type '{Parameter!r}'")
        missing = [parameter.name for parameter in parameters if parameter.name not in self._parameters]
        if missing and not self._allow_undeclared_parameters:
            raise ParameterNotDeclaredException(missing)

    def _rclpy_set_atomically(
        self, parameters: list[Parameter] | None, descriptors: dict[str, Any] | None = None, declaring: bool = False
    ) -> Any:
        if parameters is None:
            return SetParametersResult(
                successful=False,
                reason="parameter list cannot be empty, this might be due to pre_set_parameters_callback modifying the"
                " original parameters list.",
            )
        with self._rclpy_parameters_lock:
            known = self._descriptors if descriptors is None else descriptors
            for parameter in parameters:
                if parameter.name in known:
                    result = self._apply_descriptor(parameter, known[parameter.name], check_read_only=not declaring)
                    if not result.successful:
                        return result
            for callback in self._on_set_parameters_callbacks:
                result = callback(parameters)
                if not result.successful:
                    return result
            event = ParameterEvent(node=self.get_fully_qualified_name())
            for parameter in parameters:
                name = parameter.name
                if parameter.type_ == Parameter.Type.NOT_SET and not declaring:
                    event.deleted_parameters.append(parameter.to_parameter_msg())
                    self._parameters.pop(name, None)
                    self._descriptors.pop(name, None)
                    continue
                if descriptors is not None:
                    self._descriptors[name] = descriptors[name]
                elif name not in self._descriptors:
                    self._descriptors[name] = ParameterDescriptor(
                        name=name, dynamic_typing=True, type=parameter.type_.value
                    )
                new = self.get_parameter_or(name).type_ == Parameter.Type.NOT_SET
                (event.new_parameters if new else event.changed_parameters).append(parameter.to_parameter_msg())
                self._parameters[name] = parameter
            event.stamp = self._clock.now().to_msg()
            self._parameter_event_publisher.publish(event)
        for post in self._post_set_parameters_callbacks:
            post(parameters)
        return SetParametersResult(successful=True)

    def _apply_descriptor(self, parameter: Parameter, descriptor: Any, check_read_only: bool) -> Any:
        """Whether a descriptor allows a value; sets the descriptor's name, and its type if that is dynamic."""
        descriptor.name = parameter.name
        reason = ""
        if check_read_only and descriptor.read_only:
            reason = f"Trying to set a read-only parameter: {parameter.name}."
        elif descriptor.dynamic_typing:
            descriptor.type = parameter.type_.value
        elif parameter.type_ == Parameter.Type.NOT_SET:
            if self.has_parameter(parameter.name):
                reason = "Static parameter cannot be undeclared"
        elif parameter.type_.value != descriptor.type:
            reason = f"{_WRONG_TYPE}, expected '{Parameter.Type(descriptor.type)}' got '{parameter.type_}'"
        if not reason:
            if parameter.type_ == Parameter.Type.INTEGER and descriptor.integer_range:
                reason = _range_problem(parameter, descriptor.integer_range[0], exact=True)
            elif parameter.type_ == Parameter.Type.DOUBLE and descriptor.floating_point_range:
                reason = _range_problem(parameter, descriptor.floating_point_range[0], exact=False)
        return SetParametersResult(successful=not reason, reason=reason)

    # ---- callbacks ------------------------------------------------------------------------------------------------

    def add_pre_set_parameters_callback(self, callback: PreCallback) -> None:
        """Change a list of parameters before it is checked; not called for declarations."""
        self._pre_set_parameters_callbacks.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: OnCallback) -> None:
        """Accept or refuse a list of parameters with a SetParametersResult."""
        self._on_set_parameters_callbacks.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: PostCallback) -> None:
        """Hear of parameters that were set."""
        self._post_set_parameters_callbacks.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: PreCallback) -> None:
        self._pre_set_parameters_callbacks.remove(callback)

    def remove_on_set_parameters_callback(self, callback: OnCallback) -> None:
        self._on_set_parameters_callbacks.remove(callback)

    def remove_post_set_parameters_callback(self, callback: PostCallback) -> None:
        self._post_set_parameters_callbacks.remove(callback)


def _range_problem(parameter: Parameter, limits: Any, exact: bool) -> str:
    """Why a number is outside a range or between its steps; empty when it is fine.  The edges are always fine.

    Floating-point numbers are compared with a relative tolerance alone, so that next to zero nothing is close to zero.
    """
    low, high = sorted((limits.from_value, limits.to_value))
    value, step = parameter.value, limits.step

    def close(a: float, b: float) -> bool:
        return a == b if exact else math.isclose(a, b, rel_tol=_RELATIVE_TOLERANCE)

    if close(value, low) or close(value, high):
        return ""
    if not low < value < high:
        # rclpy has no full stop here for floating-point ranges: `ros2 param set` prints the sentence.
        stop = "." if exact else ""
        return f"Parameter {parameter.name} out of range{stop} Min: {low}, Max: {high}, value: {value}"
    if step == 0:
        return ""
    if (value - low) % step if exact else not close(low + round((value - low) / step) * step, value):
        valid = "a valid step" if exact else "close enough to a valid step"
        return (
            f"The parameter value for {parameter.name} is not {valid}. "
            f"Min: {low}, max: {high}, value: {value}, step: {step}"
        )
    return ""
