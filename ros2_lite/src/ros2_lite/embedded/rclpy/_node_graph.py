"""What a node can ask about the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ros2_lite.dds.qos import Qos, user_data_value
from ros2_lite.messages import registry
from ros2_lite.messages.spec import MessageSpec

from rclpy._graph import Endpoint, Graph, names_and_types, ros_type, service_of, topic_of
from rclpy._names import RemapRule, expand, remap
from rclpy._rclpy_pybind11 import NodeNameNonExistentError
from rclpy.exceptions import NameValidationException
from rclpy.qos import QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo, TopicEndpointTypeEnum
from rclpy.type_hash import TypeHash

if TYPE_CHECKING:
    from rclpy.context import Context

NamesAndTypes = list[tuple[str, list[str]]]


class NodeGraph:
    """The part of `Node` that asks about other nodes, topics and services."""

    _rclpy_graph: Graph
    _context: Context
    _rclpy_name: str
    _rclpy_namespace: str
    _rclpy_rules: list[RemapRule]

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """The fully qualified name of a topic, after remaps unless `only_expand`."""
        return self._rclpy_resolve(topic, only_expand, service=False)

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """The fully qualified name of a service, after remaps unless `only_expand`."""
        return self._rclpy_resolve(service, only_expand, service=True)

    def _rclpy_resolve(self, name: str, only_expand: bool, service: bool) -> str:
        if not isinstance(name, str):
            raise TypeError(f"a name must be a str, not {name!r}")
        full = expand(name, self._rclpy_name, self._rclpy_namespace, service)
        return full if only_expand else remap(full, self._rclpy_rules, self._rclpy_name, self._rclpy_namespace, service)

    # ---- topics and services --------------------------------------------------------------------------------------

    def get_topic_names_and_types(self, no_demangle: bool = False) -> NamesAndTypes:
        """All topics with their types; with `no_demangle` as DDS calls them."""
        endpoints = self._rclpy_graph.endpoints(True) + self._rclpy_graph.endpoints(False)
        if not no_demangle:
            return names_and_types(endpoints, services=False)
        found: dict[str, set[str]] = {}
        for endpoint in endpoints:
            found.setdefault(endpoint.topic, set()).add(endpoint.type)
        return [(name, sorted(types)) for name, types in sorted(found.items())]

    def get_service_names_and_types(self) -> NamesAndTypes:
        """All services with their types."""
        return names_and_types(self._rclpy_graph.endpoints(True) + self._rclpy_graph.endpoints(False), services=True)

    def count_publishers(self, topic_name: str) -> int:
        """How many publishers a topic has in the whole graph."""
        return len(self._rclpy_on_topic(topic_name, True))

    def count_subscribers(self, topic_name: str) -> int:
        """How many subscriptions a topic has in the whole graph."""
        return len(self._rclpy_on_topic(topic_name, False))

    def count_clients(self, service_name: str) -> int:
        """How many clients a service has in the whole graph."""
        return self._rclpy_count_service(service_name, "rr", "Reply")

    def count_services(self, service_name: str) -> int:
        """How many servers a service has in the whole graph."""
        return self._rclpy_count_service(service_name, "rq", "Request")

    def _rclpy_checked(self, name: str, service: bool) -> str:
        """A resolved name.  TypeError, ValueError when it is none."""
        try:
            return self.resolve_service_name(name) if service else self.resolve_topic_name(name)
        except NameValidationException as error:
            raise ValueError(f"the name '{name}' is invalid: {error}") from None

    def _rclpy_count_service(self, service_name: str, prefix: str, suffix: str) -> int:
        wanted = f"{prefix}{self._rclpy_checked(service_name, True)}{suffix}"
        return sum(endpoint.topic == wanted for endpoint in self._rclpy_graph.endpoints(False))

    def _rclpy_on_topic(self, topic_name: str, writers: bool, no_mangle: bool = False) -> list[Endpoint]:
        wanted = topic_name if no_mangle else f"rt{self._rclpy_checked(topic_name, False)}"
        return [endpoint for endpoint in self._rclpy_graph.endpoints(writers) if endpoint.topic == wanted]

    def _rclpy_settings(self, qos: QoSProfile, topic: str, spec: MessageSpec, writer: bool) -> Qos:
        """What DDS is told for an endpoint on a resolved topic."""
        if qos._asks_for_best():
            peers = [
                endpoint.qos for endpoint in self._rclpy_graph.endpoints(not writer) if endpoint.topic == f"rt{topic}"
            ]
            qos = qos._for_peers(peers, writer)
        return qos._to_dds(f"typehash={registry.hash_of(spec.name)};".encode())

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        """Who publishes on a topic, with which type and quality of service."""
        return self._rclpy_info(topic_name, True, no_mangle)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        """Who subscribes to a topic, with which type and quality of service."""
        return self._rclpy_info(topic_name, False, no_mangle)

    def _rclpy_info(self, topic_name: str, writers: bool, no_mangle: bool) -> list[TopicEndpointInfo]:
        owners = self._rclpy_graph.owners()
        kind = TopicEndpointTypeEnum.PUBLISHER if writers else TopicEndpointTypeEnum.SUBSCRIPTION
        found = []
        for endpoint in self._rclpy_on_topic(topic_name, writers, no_mangle):
            name, namespace = owners.get(endpoint.guid, ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_"))
            found.append(
                TopicEndpointInfo(
                    node_name=name,
                    node_namespace=namespace,
                    topic_type=endpoint.type if no_mangle else ros_type(endpoint.type),
                    topic_type_hash=TypeHash._from_text(user_data_value(endpoint.qos.user_data, "typehash") or ""),
                    endpoint_type=kind,
                    endpoint_gid=list(endpoint.guid),
                    qos_profile=QoSProfile._from_dds(endpoint.qos),
                )
            )
        return found

    # ---- nodes ----------------------------------------------------------------------------------------------------

    def get_node_names(self) -> list[str]:
        """The names of all nodes."""
        return [name for name, _ in self.get_node_names_and_namespaces()]

    def get_fully_qualified_node_names(self) -> list[str]:
        """The names of all nodes, with their namespaces."""
        return [namespace.rstrip("/") + "/" + name for name, namespace in self.get_node_names_and_namespaces()]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        """(name, namespace) of all nodes."""
        return [(name, namespace) for name, namespace, _, _ in self._rclpy_graph.nodes()]

    def get_node_names_and_namespaces_with_enclaves(self) -> list[tuple[str, str, str]]:
        """The same with their security enclave, which is always ``/``."""
        return [(name, namespace, "/") for name, namespace in self.get_node_names_and_namespaces()]

    def get_publisher_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> NamesAndTypes:
        """Topics that a node publishes."""
        return names_and_types(self._rclpy_of_node(node_name, node_namespace, True, topic_of), services=False)

    def get_subscriber_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> NamesAndTypes:
        """Topics that a node subscribes to."""
        return names_and_types(self._rclpy_of_node(node_name, node_namespace, False, topic_of), services=False)

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        """Services that a node offers."""
        readers = self._rclpy_of_node(node_name, node_namespace, False, service_of)
        return names_and_types([item for item in readers if item.topic.startswith("rq/")], services=True)

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> NamesAndTypes:
        """Services that a node calls."""
        readers = self._rclpy_of_node(node_name, node_namespace, False, service_of)
        return names_and_types([item for item in readers if item.topic.startswith("rr/")], services=True)

    def _rclpy_of_node(self, name: str, namespace: str, writers: bool, wanted: object) -> list[Endpoint]:
        namespace = namespace if namespace.startswith("/") else f"/{namespace}"
        guids: set[bytes] | None = None
        for node, its_namespace, readers, its_writers in self._rclpy_graph.nodes():
            if (node, its_namespace) == (name, namespace):
                guids = (guids or set()) | (its_writers if writers else readers)
        if guids is None:
            full = f"{namespace.rstrip('/')}/{name}"
            raise NodeNameNonExistentError(f"cannot get the endpoints of node '{full}': no such node")
        return [endpoint for endpoint in self._rclpy_graph.endpoints(writers) if endpoint.guid in guids]

    def wait_for_node(self, fully_qualified_node_name: str, timeout: float) -> bool:
        """Wait until a node is in the graph; False after `timeout` [s]."""
        from rclpy.publisher import wait_until

        name = fully_qualified_node_name
        name = name if name.startswith("/") else f"/{name}"
        return wait_until(lambda: name in self.get_fully_qualified_node_names(), timeout, self._context, step=0.02)
