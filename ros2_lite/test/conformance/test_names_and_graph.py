"""Names, remaps, and what nodes know of each other."""

from __future__ import annotations

from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.exceptions import (
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidServiceNameException,
    InvalidTopicNameException,
    NotInitializedException,
)
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointTypeEnum
from rclpy.topic_or_service_is_hidden import topic_or_service_is_hidden
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_node_name import validate_node_name
from rclpy.validate_topic_name import validate_topic_name
from std_msgs.msg import Int32, String
from std_srvs.srv import SetBool


def test_names_are_relative_private_or_absolute(stage: Any, node: Any) -> None:
    space = stage.namespace
    assert (node.get_name(), node.get_namespace()) == ("tested", space)
    assert node.get_fully_qualified_name() == f"{space}/tested"
    assert node.resolve_topic_name("a") == f"{space}/a"
    assert node.resolve_topic_name("~/a") == f"{space}/tested/a"
    assert node.resolve_topic_name("/a") == "/a"
    assert node.resolve_topic_name("{node}/a") == f"{space}/tested/a"
    assert node.resolve_service_name("~/a") == f"{space}/tested/a"
    assert expand_topic_name("~/x", "n", "/ns") == "/ns/n/x"
    assert expand_topic_name("x", "n", "/") == "/x"


def test_remaps_change_names(stage: Any) -> None:
    node = stage.node(
        "before",
        cli_args=[
            "--ros-args", "-r", "__node:=after", "-r", "chatter:=/news", "-r", "~/own:=shared", "-r", "other:a:=/b",
            "--remap", "ask:=/tell",
        ],
    )  # fmt: skip
    assert node.get_name() == "after"
    publisher = node.create_publisher(String, "chatter", 10)
    assert publisher.topic_name == "/news"
    assert node.resolve_topic_name("chatter", only_expand=True) == f"{stage.namespace}/chatter"
    assert node.resolve_topic_name("~/own") == f"{stage.namespace}/shared"
    assert node.resolve_topic_name("a") == f"{stage.namespace}/a"
    assert node.create_client(SetBool, "ask").service_name == "/tell"
    assert node.create_subscription(String, "chatter", lambda message: None, 10).topic_name == "/news"


def test_a_namespace_can_be_remapped(stage: Any) -> None:
    node = stage.node("moved", cli_args=["--ros-args", "-r", f"__ns:={stage.namespace}/deep"])
    assert node.get_fully_qualified_name() == f"{stage.namespace}/deep/moved"


def test_global_arguments_count_unless_a_node_ignores_them() -> None:
    context = Context()
    rclpy.init(args=["program", "--ros-args", "-r", "__node:=renamed", "-p", "x:=1"], context=context)
    try:
        node = Node("given", context=context, automatically_declare_parameters_from_overrides=True)
        assert (node.get_name(), node.get_parameter("x").value) == ("renamed", 1)
        other = Node("given", context=context, use_global_arguments=False)
        assert other.get_name() == "given"
        other.destroy_node()
        node.destroy_node()
    finally:
        context.shutdown()


@pytest.mark.parametrize("name", ["", "2fast", "a b", "a/"])
def test_bad_topic_names_are_refused(node: Any, name: str) -> None:
    with pytest.raises(InvalidTopicNameException):
        node.create_publisher(String, name, 10)
    with pytest.raises(InvalidTopicNameException):
        node.create_subscription(String, name, lambda message: None, 10)
    with pytest.raises(InvalidTopicNameException):
        validate_topic_name(name)


def test_bad_names_are_refused_for_what_they_are(stage: Any, node: Any) -> None:
    with pytest.raises(InvalidServiceNameException):
        node.create_client(SetBool, "42ask")
    with pytest.raises(InvalidServiceNameException):
        node.create_service(SetBool, "as k", lambda request, response: response)
    with pytest.raises(InvalidNodeNameException):
        stage.node("a/b")
    with pytest.raises(InvalidNodeNameException):
        validate_node_name("a?")
    with pytest.raises(InvalidNamespaceException):
        stage.node("fine", namespace="/not valid")
    with pytest.raises(InvalidNamespaceException):
        validate_namespace("relative")
    with pytest.raises(InvalidTopicNameException):
        validate_full_topic_name("relative")
    with pytest.raises(InvalidServiceNameException):
        validate_full_topic_name("/as k", is_service=True)
    with pytest.raises(ValueError, match="unknown substitution"):
        node.create_publisher(String, "{nothing}/a", 10)
    with pytest.raises(ValueError, match="node name"):
        expand_topic_name("topic", "not valid", "/ns")
    assert validate_full_topic_name("/a/b")
    assert validate_node_name("fine_2")
    assert topic_or_service_is_hidden("/a/_hidden/b")
    assert not topic_or_service_is_hidden("/a/b_")


def test_nodes_see_each_other(stage: Any, node: Any) -> None:
    space = stage.namespace
    other = stage.node("other", namespace=f"{space}/deep")
    assert node.wait_for_node(f"{space}/deep/other", timeout=10)
    assert not node.wait_for_node(f"{space}/nobody", timeout=0.2)
    assert {"tested", "other"} <= set(node.get_node_names())
    assert ("other", f"{space}/deep") in node.get_node_names_and_namespaces()
    assert {f"{space}/tested", f"{space}/deep/other"} <= set(node.get_fully_qualified_node_names())
    stage.executor.remove_node(other)
    other.destroy_node()
    assert stage.until(
        lambda: "other" not in [name for name, at in node.get_node_names_and_namespaces() if space in at]
    )


def test_topics_and_services_are_found_with_their_types_and_owners(stage: Any, node: Any) -> None:
    other = stage.node("other")
    space = stage.namespace
    other.create_publisher(String, "words", QoSProfile(depth=3, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    other.create_subscription(
        Int32, "numbers", lambda message: None, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    other.create_service(SetBool, "ask", lambda request, response: response)
    other.create_client(SetBool, "ask")
    assert stage.until(
        lambda: (
            node.count_publishers("words") == 1
            and node.count_subscribers("numbers") == 1
            and node.count_services("ask") == 1
            and node.count_clients("ask") == 1
        )
    )
    topics = dict(node.get_topic_names_and_types())
    assert (topics[f"{space}/words"], topics[f"{space}/numbers"]) == (["std_msgs/msg/String"], ["std_msgs/msg/Int32"])
    assert dict(node.get_service_names_and_types())[f"{space}/ask"] == ["std_srvs/srv/SetBool"]

    words, numbers, ask = (f"{space}/{name}" for name in ("words", "numbers", "ask"))

    def of_other(found: list[Any]) -> dict[str, list[str]]:
        return {name: types for name, types in found if name in (words, numbers, ask)}

    assert stage.until(lambda: of_other(node.get_publisher_names_and_types_by_node("other", space)))
    assert of_other(node.get_publisher_names_and_types_by_node("other", space)) == {words: ["std_msgs/msg/String"]}
    assert of_other(node.get_subscriber_names_and_types_by_node("other", space)) == {numbers: ["std_msgs/msg/Int32"]}
    assert of_other(node.get_service_names_and_types_by_node("other", space)) == {
        f"{space}/ask": ["std_srvs/srv/SetBool"]
    }
    assert of_other(node.get_client_names_and_types_by_node("other", space)) == {
        f"{space}/ask": ["std_srvs/srv/SetBool"]
    }
    info = node.get_publishers_info_by_topic("words")[0]
    assert (info.node_name, info.node_namespace, info.topic_type) == ("other", space, "std_msgs/msg/String")
    assert info.endpoint_type == TopicEndpointTypeEnum.PUBLISHER
    assert str(info.topic_type_hash).startswith("RIHS01_")
    assert info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    info = node.get_subscriptions_info_by_topic(f"{space}/numbers")[0]
    assert info.endpoint_type == TopicEndpointTypeEnum.SUBSCRIPTION
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert node.get_publishers_info_by_topic("silence") == []


def test_questions_about_nothing_are_errors(node: Any) -> None:
    with pytest.raises(TypeError):
        node.count_publishers(1)
    with pytest.raises(ValueError, match="invalid"):
        node.count_subscribers("42")
    with pytest.raises(RuntimeError):
        node.get_publisher_names_and_types_by_node("nobody", "/nowhere")


def test_a_node_needs_a_context_that_runs() -> None:
    context = Context()
    with pytest.raises(NotInitializedException):
        Node("early", context=context)
    rclpy.init(args=[], context=context)
    context.shutdown()
    with pytest.raises(NotInitializedException):
        Node("late", context=context)


def test_a_node_class_may_use_names_of_its_own(stage: Any) -> None:
    class Own(Node):
        def __init__(self) -> None:
            super().__init__("own", namespace=stage.namespace, context=stage.context)
            self._name = self._namespace = self._graph = self._events = self._rules = self._rates = "mine"
            self._settings = self._info = self._entry = self._destroyed = self._gone = "mine"

        def _changed(self) -> None:
            raise AssertionError

        _announce = _listen = _resolve = _destroy = _entities = _checked = _changed

    node = Own()
    subscription = node.create_subscription(String, "words", lambda message: None, 10)
    node.create_timer(1.0, lambda: None)
    assert node.get_fully_qualified_name() == f"{stage.namespace}/own"
    assert stage.until(lambda: node.count_subscribers("words") == 1)
    assert node.destroy_subscription(subscription)
    node.destroy_node()
