"""Parameters of other nodes, through their services."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import yaml

from ros2_lite.cli import graph
from ros2_lite.cli.errors import positive_float

if TYPE_CHECKING:
    from rclpy.node import Node

# By rcl_interfaces/msg/ParameterType: the field of ParameterValue, and what `ros2 param get` calls it.
_TYPES = {
    1: ("bool_value", "Boolean value is:", "boolean"),
    2: ("integer_value", "Integer value is:", "integer"),
    3: ("double_value", "Double value is:", "double"),
    4: ("string_value", "String value is:", "string"),
    5: ("byte_array_value", "Byte values are:", "byte array"),
    6: ("bool_array_value", "Boolean values are:", "boolean array"),
    7: ("integer_array_value", "Integer values are:", "integer array"),
    8: ("double_array_value", "Double values are:", "double array"),
    9: ("string_array_value", "String values are:", "string array"),
}
_TYPE_OF = {bool: 1, int: 2, float: 3, str: 4}


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verbs about one node's parameters."""
    graph.add_graph_arguments(parser)
    parser.add_argument("node_name", help="Name of the ROS node")
    parser.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    parser.add_argument(
        "--timeout",
        metavar="N",
        type=positive_float,
        default=graph.KNOWN_WITHIN,
        help="Wait for N seconds until node becomes available (default: %(default)s)",
    )


def find_node(node: Node, args: argparse.Namespace) -> str:
    """The full name of the node that the options of :func:`add_node_arguments` name; CliError where it is not there."""
    return graph.find_node(node, args.node_name, args.timeout, args.include_hidden_nodes).full


def to_python(value: Any) -> Any:
    """The Python value of a rcl_interfaces/msg/ParameterValue; None where it is not set."""
    if value.type not in _TYPES:
        return None
    result = getattr(value, _TYPES[value.type][0])
    return list(result) if value.type >= 5 else result


def label(value: Any) -> str:
    """The words before the value."""
    return _TYPES[value.type][1] if value.type in _TYPES else "Parameter not set."


def type_name(number: int) -> str:
    """The name of a parameter type."""
    return _TYPES[number][2] if number in _TYPES else "not set"


def from_text(text: str) -> Any:
    """What was typed as a rcl_interfaces/msg/ParameterValue: by YAML's rules, otherwise text."""
    from rcl_interfaces.msg import ParameterValue

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    if kinds == {int, float}:
        kinds, value = {float}, [float(item) for item in value]
    if len(kinds) != 1 or not kinds <= _TYPE_OF.keys():
        kinds, value = {str}, text
    number = _TYPE_OF[kinds.pop()] + (0 if not isinstance(value, list) else 5)
    # Lists are numbered like single values, after the byte array, which cannot be typed.
    result = ParameterValue(type=number)
    setattr(result, _TYPES[number][0], value)
    return result


def list_names(node: Node, of: str, prefixes: list[str] | None = None) -> list[str]:
    """The names of a node's parameters, sorted."""
    from rcl_interfaces.srv import ListParameters

    request = ListParameters.Request(prefixes=prefixes or [])
    return sorted(graph.call(node, ListParameters, f"{of}/list_parameters", request).result.names)


def get(node: Node, of: str, names: list[str]) -> list[Any]:
    """The values of a node's parameters."""
    from rcl_interfaces.srv import GetParameters

    response = graph.call(node, GetParameters, f"{of}/get_parameters", GetParameters.Request(names=names))
    return list(response.values)


def describe(node: Node, of: str, names: list[str]) -> list[Any]:
    """The descriptors of a node's parameters."""
    from rcl_interfaces.srv import DescribeParameters

    request = DescribeParameters.Request(names=names)
    return list(graph.call(node, DescribeParameters, f"{of}/describe_parameters", request).descriptors)


def set_one(node: Node, of: str, name: str, value: Any) -> Any:
    """Set a parameter; return the rcl_interfaces/msg/SetParametersResult."""
    from rcl_interfaces.msg import Parameter
    from rcl_interfaces.srv import SetParameters

    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    return graph.call(node, SetParameters, f"{of}/set_parameters", request).results[0]
