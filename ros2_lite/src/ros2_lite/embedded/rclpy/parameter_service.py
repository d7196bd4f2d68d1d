"""The six services through which others read and set a node's parameters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from rclpy.exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameters

if TYPE_CHECKING:
    from rclpy.node import Node


class ParameterService:
    """Serves ``~/describe_parameters`` and its five siblings."""

    def __init__(self, node: Node) -> None:
        self._node = node
        for srv_type, name, callback in (
            (DescribeParameters, "describe_parameters", self._describe),
            (GetParameters, "get_parameters", self._get),
            (GetParameterTypes, "get_parameter_types", self._types),
            (ListParameters, "list_parameters", self._list),
            (SetParameters, "set_parameters", self._set),
            (SetParametersAtomically, "set_parameters_atomically", self._set_atomically),
        ):
            node.create_service(srv_type, f"~/{name}", callback, qos_profile=qos_profile_parameters)

    # As in Jazzy, one name that is not declared makes the whole answer empty.

    def _describe(self, request: Any, response: Any) -> Any:
        with contextlib.suppress(ParameterNotDeclaredException):
            response.descriptors = [self._node.describe_parameter(name) for name in request.names]
        return response

    def _get(self, request: Any, response: Any) -> Any:
        with contextlib.suppress(ParameterNotDeclaredException, ParameterUninitializedException):
            response.values = [self._node.get_parameter(name).get_parameter_value() for name in request.names]
        return response

    def _types(self, request: Any, response: Any) -> Any:
        with contextlib.suppress(ParameterNotDeclaredException):
            response.types = [self._node.get_parameter_type(name) for name in request.names]
        return response

    def _list(self, request: Any, response: Any) -> Any:
        response.result = self._node.list_parameters(list(request.prefixes), request.depth)
        return response

    def _set(self, request: Any, response: Any) -> Any:
        for message in request.parameters:
            parameter = Parameter.from_parameter_msg(message)
            try:
                result = self._node.set_parameters_atomically([parameter])
            except ParameterNotDeclaredException as error:
                result = SetParametersResult(successful=False, reason=str(error))
            response.results.append(result)
        return response

    def _set_atomically(self, request: Any, response: Any) -> Any:
        try:
            response.result = self._node.set_parameters_atomically(
                [Parameter.from_parameter_msg(message) for message in request.parameters]
            )
        except ParameterNotDeclaredException as error:
            response.result = SetParametersResult(successful=False, reason=str(error))
        return response
