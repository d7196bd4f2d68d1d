"""Fixtures of the conformance suite: rclpy, message packages and pytest only, so that it runs on a real ROS 2."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

PATIENCE = 15.0
"""How long anything may take that discovery and delivery decide [s]."""
_numbers = itertools.count()


class Stage:
    """A context of one test, its nodes in a namespace of their own, and an executor to spin them."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context)
        self.namespace = f"/conformance_{os.getpid()}_{next(_numbers)}"
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes: list[Node] = []
        self._threads: list[threading.Thread] = []

    def node(self, name: str = "tested", **options: Any) -> Node:
        """A node that `until` spins."""
        node = Node(name, namespace=options.pop("namespace", self.namespace), context=self.context, **options)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> bool:
        """Spin the nodes until the condition is true; whether it is."""
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return bool(condition())

    def result(self, future: Any) -> Any:
        """Spin until a future is done; its result."""
        self.executor.spin_until_future_complete(future, PATIENCE)
        assert future.done()
        return future.result()

    def spin_in_thread(self, *nodes: Node, threads: int = 4) -> MultiThreadedExecutor:
        """Spin some nodes by a multi-threaded executor in a thread of its own, until the end of the test."""
        executor = MultiThreadedExecutor(threads, context=self.context)
        for node in nodes:
            self.executor.remove_node(node)
            executor.add_node(node)

        def spin() -> None:
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        thread = threading.Thread(target=spin, daemon=True)
        thread.start()
        self._threads.append(thread)
        return executor

    def close(self) -> None:
        self.context.try_shutdown()
        for thread in self._threads:
            thread.join(PATIENCE)
        for node in self.nodes:
            node.destroy_node()
        self.executor.shutdown()


def own_domain(request: pytest.FixtureRequest) -> None:
    """Beside ros2_lite's own tests, a domain for this test alone; elsewhere that of the shell."""
    with contextlib.suppress(pytest.FixtureLookupError):
        request.getfixturevalue("domain_id")


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> None:
    """For programs in processes of their own."""
    own_domain(request)


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    own_domain(request)
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def node(stage: Stage) -> Node:
    return stage.node()
