"""How long nodes and what they own are there: until they are destroyed, or until nobody has them any more."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger


def names(node: Any) -> set[str]:
    return {name for name, namespace in node.get_node_names_and_namespaces() if namespace == node.get_namespace()}


def test_a_node_that_nobody_has_any_more_leaves_the_graph(stage: Any, node: Any) -> None:
    other = Node("forgotten", namespace=stage.namespace, context=stage.context)
    other.create_subscription(String, "forgotten", lambda message: None, 10)
    other.create_timer(1.0, lambda: None)
    other.get_logger().info("so long")
    stage.executor.add_node(other)
    assert stage.until(lambda: names(node) == {"tested", "forgotten"})
    stage.executor.remove_node(other)
    stage.executor.spin_once(timeout_sec=0.0)
    del other
    gc.collect()
    assert stage.until(lambda: names(node) == {"tested"} and not node.count_subscribers("forgotten"))


def test_a_node_whose_construction_failed_leaves_the_graph(stage: Any, node: Any) -> None:
    class Unfinished(Node):
        def __init__(self) -> None:
            super().__init__("unfinished", namespace=stage.namespace, context=stage.context)
            self.create_publisher(String, "unfinished", 10)
            raise LookupError("no camera")

    with pytest.raises(LookupError):
        Unfinished()
    gc.collect()
    assert stage.until(lambda: names(node) == {"tested"} and not node.count_publishers("unfinished"))


def test_a_publisher_keeps_its_node_in_the_graph(stage: Any, node: Any) -> None:
    publisher = Node("kept", namespace=stage.namespace, context=stage.context).create_publisher(String, "kept", 10)
    gc.collect()
    assert stage.until(lambda: names(node) == {"tested", "kept"})
    publisher.publish(String())
    assert node.count_publishers("kept") == 1


def test_a_handle_keeps_what_it_stands_for_until_it_is_let_go(stage: Any, node: Any) -> None:
    other = stage.node("other")
    entities = [
        other.create_publisher(String, "topic", 10),
        other.create_subscription(String, "topic", lambda message: None, 10),
        other.create_client(Trigger, "service"),
        other.create_service(Trigger, "service", lambda request, response: response),
        other.create_timer(1.0, lambda: None),
        other.create_guard_condition(lambda: None),
    ]
    handles = [entity.handle for entity in entities]
    for handle in handles:
        with handle:
            pass
    with other.handle:
        other.destroy_node()
        assert "other" in names(node)
        with pytest.raises(InvalidHandle), other.handle:
            pass
    assert stage.until(lambda: names(node) == {"tested"})
    for handle in handles:
        with pytest.raises(InvalidHandle), handle:
            pass
    with pytest.raises(InvalidHandle):
        entities[4].is_canceled()
