"""The service that tells others how the types of a node's topics look (REP-2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import ParameterDescriptor
from ros2_lite.messages import registry
from ros2_lite.messages.classes import message_class, service_class
from ros2_lite.messages.spec import InterfaceError
from ros2_lite.messages.typehash import description

if TYPE_CHECKING:
    from rclpy.node import Node

START_TYPE_DESCRIPTION_SERVICE_PARAM = "start_type_description_service"


class TypeDescriptionService:
    """Serves ``~/get_type_description``, unless the parameter ``start_type_description_service`` is false."""

    def __init__(self, node: Node) -> None:
        if not node.has_parameter(START_TYPE_DESCRIPTION_SERVICE_PARAM):
            about = "If enabled, start the ~/get_type_description service."
            descriptor = ParameterDescriptor(description=about, read_only=True)
            node.declare_parameter(START_TYPE_DESCRIPTION_SERVICE_PARAM, True, descriptor)
        wanted = node.get_parameter(START_TYPE_DESCRIPTION_SERVICE_PARAM)
        self.enabled = wanted.value is True
        if not isinstance(wanted.value, bool):
            node.get_logger().error(
                f"Invalid type for parameter '{START_TYPE_DESCRIPTION_SERVICE_PARAM}' {wanted.type_!r} should be bool"
            )
        if self.enabled:
            kind = service_class("type_description_interfaces", "GetTypeDescription")
            node.create_service(kind, "~/get_type_description", self._answer)

    def _answer(self, request: Any, response: Any) -> Any:
        try:
            if request.type_hash != registry.hash_of(request.type_name):
                raise InterfaceError("Type hash does not match any type in use by this node.")
        except (InterfaceError, ValueError) as error:
            response.failure_reason = str(error)
            return response
        document = description(registry.description_spec(request.type_name), registry.spec)
        target = response.type_description
        _fill(target.type_description, document["type_description"])
        whole = [document["type_description"], *document["referenced_type_descriptions"]]
        individual = message_class("type_description_interfaces/msg/IndividualTypeDescription")
        for item in whole[1:]:
            target.referenced_type_descriptions.append(_fill(individual(), item))
        if request.include_type_sources:
            source = message_class("type_description_interfaces/msg/TypeSource")
            for item in whole:
                encoding, text = registry.source_of(item["type_name"])
                response.type_sources.append(
                    source(type_name=item["type_name"], encoding=encoding, raw_file_contents=text)
                )
        response.successful = True
        return response


def _fill(message: Any, document: dict[str, Any]) -> Any:
    field_class = message_class("type_description_interfaces/msg/Field")
    message.type_name = document["type_name"]
    for entry in document["fields"]:
        field = field_class(name=entry["name"])
        for name, value in entry["type"].items():
            setattr(field.type, name, value)
        message.fields.append(field)
    return message
