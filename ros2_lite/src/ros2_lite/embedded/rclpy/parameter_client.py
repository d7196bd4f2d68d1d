"""Parameters of another node, through its services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from rclpy.parameter import Parameter, parameter_dict_from_yaml_file
from rclpy.publisher import wait_until
from rclpy.qos import QoSProfile, qos_profile_parameter_events, qos_profile_services_default
from rclpy.task import Future

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.client import Client
    from rclpy.node import Node
    from rclpy.subscription import Subscription

Callback = Callable[[Future], Any]


class AsyncParameterClient:
    """Asks and sets the parameters of another node; every call gives the future of the service's response."""

    def __init__(
        self,
        node: Node,
        remote_node_name: str,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> None:
        self.node = node
        self.remote_node_name = remote_node_name

        def client(srv_type: Any, name: str) -> Client:
            path = f"{remote_node_name}/{name}"
            return node.create_client(srv_type, path, qos_profile=qos_profile, callback_group=callback_group)

        self._get_parameter_client = client(GetParameters, "get_parameters")
        self._list_parameter_client = client(ListParameters, "list_parameters")
        self._set_parameter_client = client(SetParameters, "set_parameters")
        self._get_parameter_types_client = client(GetParameterTypes, "get_parameter_types")
        self._describe_parameters_client = client(DescribeParameters, "describe_parameters")
        self._set_parameters_atomically_client = client(SetParametersAtomically, "set_parameters_atomically")

    def services_are_ready(self) -> bool:
        """Whether all six services are there."""
        return all(
            client.service_is_ready()
            for client in (
                self._list_parameter_client,
                self._set_parameter_client,
                self._get_parameter_client,
                self._get_parameter_types_client,
                self._describe_parameters_client,
                self._set_parameters_atomically_client,
            )
        )

    def wait_for_services(self, timeout_sec: float | None = None) -> bool:
        """Wait for all six services; False after `timeout_sec` (None: wait for ever)."""
        return wait_until(self.services_are_ready, timeout_sec, self.node.context)

    def list_parameters(
        self, prefixes: list[str] | None = None, depth: int | None = None, callback: Callback | None = None
    ) -> Future:
        """Names below some prefixes (all without), down to a depth."""
        request = ListParameters.Request(prefixes=prefixes or [], depth=depth or 0)
        return _call(self._list_parameter_client, request, callback)

    def get_parameters(self, names: list[str], callback: Callback | None = None) -> Future:
        """Values."""
        return _call(self._get_parameter_client, GetParameters.Request(names=names), callback)

    def set_parameters(self, parameters: Sequence[Any], callback: Callback | None = None) -> Future:
        """Set `Parameter` objects or messages, one by one."""
        return _call(self._set_parameter_client, SetParameters.Request(parameters=_messages(parameters)), callback)

    def set_parameters_atomically(self, parameters: Sequence[Any], callback: Callback | None = None) -> Future:
        """Set `Parameter` objects or messages, all or none."""
        request = SetParametersAtomically.Request(parameters=_messages(parameters))
        return _call(self._set_parameters_atomically_client, request, callback)

    def describe_parameters(self, names: list[str], callback: Callback | None = None) -> Future:
        """Descriptors."""
        return _call(self._describe_parameters_client, DescribeParameters.Request(names=names), callback)

    def get_parameter_types(self, names: list[str], callback: Callback | None = None) -> Future:
        """Types, as numbers of `Parameter.Type`."""
        return _call(self._get_parameter_types_client, GetParameterTypes.Request(names=names), callback)

    def delete_parameters(self, names: list[str], callback: Callback | None = None) -> Future:
        """Unset parameters, which must be dynamically typed."""
        return self.set_parameters([Parameter(name) for name in names], callback)

    def load_parameter_file(
        self, parameter_file: str, use_wildcard: bool = False, callback: Callback | None = None
    ) -> Future:
        """Set the parameters of a YAML file, one by one."""
        return self.set_parameters(list(parameter_dict_from_yaml_file(parameter_file, use_wildcard).values()), callback)

    def load_parameter_file_atomically(
        self, parameter_file: str, use_wildcard: bool = False, callback: Callback | None = None
    ) -> Future:
        """Set the parameters of a YAML file, all or none."""
        parameters = parameter_dict_from_yaml_file(parameter_file, use_wildcard)
        return self.set_parameters_atomically(list(parameters.values()), callback)

    def on_parameter_event(
        self,
        callback: Callable[[Any], Any],
        qos_profile: QoSProfile = qos_profile_parameter_events,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        """Hear of the parameter changes of all nodes."""
        return self.node.create_subscription(
            ParameterEvent,
            "/parameter_events",
            callback,
            qos_profile,
            callback_group=callback_group,
            event_callbacks=event_callbacks,
            qos_overriding_options=qos_overriding_options,
            raw=raw,
        )


def _messages(parameters: Sequence[Any]) -> list[Any]:
    return [item.to_parameter_msg() if isinstance(item, Parameter) else item for item in parameters]


def _call(client: Client, request: Any, callback: Callback | None) -> Future:
    future = client.call_async(request)
    if callback is not None:
        future.add_done_callback(callback)
    return future
