"""Services, timers, callback groups, executors, coroutines."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger


@pytest.fixture
def node(ros: int) -> Iterator[Node]:
    node = Node("tested")
    yield node
    node.destroy_node()


@pytest.fixture
def spinning(node: Node) -> Iterator[MultiThreadedExecutor]:
    """A multi-threaded executor that spins the node in a thread of its own."""
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin)
    thread.start()
    yield executor
    executor.shutdown()
    thread.join(5)
    assert not thread.is_alive()


def answer(request: Any, response: Any) -> Any:
    response.success, response.message = True, "done"
    return response


def test_a_service_answers_another_process_and_the_first_request_is_not_lost(
    node: Node, program: Callable[..., Any]
) -> None:
    program(
        """
        import rclpy
        from std_srvs.srv import SetBool
        rclpy.init()
        node = rclpy.create_node("server")
        def answer(request, response):
            response.success = not request.data
            response.message = "réponse"
            return response
        node.create_service(SetBool, "flip", answer)
        rclpy.spin(node)
        """
    )
    for _ in range(5):  # a new client each time: discovery of the reply path must be waited for
        client = node.create_client(SetBool, "flip")
        assert client.wait_for_service(10.0)
        future = client.call_async(SetBool.Request(data=False))
        rclpy.spin_until_future_complete(node, future, timeout_sec=5.0)
        assert future.result() == SetBool.Response(success=True, message="réponse")
        node.destroy_client(client)


def test_two_clients_get_their_own_replies(node: Node) -> None:
    node.create_service(SetBool, "echo", lambda request, response: SetBool.Response(success=request.data))
    clients = [node.create_client(SetBool, "echo") for _ in range(2)]
    assert all(client.wait_for_service(2.0) for client in clients)
    futures = [
        client.call_async(SetBool.Request(data=bool(number % 2)))
        for number in range(6)
        for client in (clients[number % 2],)
    ]
    for number, future in enumerate(futures):
        rclpy.spin_until_future_complete(node, future, timeout_sec=2.0)
        assert future.result().success == bool(number % 2)


def test_call_blocks_until_the_answer_and_gives_up_after_its_timeout(
    node: Node, spinning: MultiThreadedExecutor
) -> None:
    node.create_service(Trigger, "go", answer)
    client = node.create_client(Trigger, "go")
    assert client.wait_for_service(2.0)
    assert client.call(Trigger.Request(), timeout_sec=2.0).message == "done"
    assert node.create_client(Trigger, "nobody").call(Trigger.Request(), timeout_sec=0.1) is None


def test_a_callback_may_call_a_service_of_the_same_node(node: Node, spinning: MultiThreadedExecutor) -> None:
    group = ReentrantCallbackGroup()
    node.create_service(Trigger, "inner", answer, callback_group=group)
    inner = node.create_client(Trigger, "inner", callback_group=group)

    def outer(request: Any, response: Any) -> Any:
        response.message = "outer " + inner.call(Trigger.Request(), timeout_sec=2.0).message
        return response

    node.create_service(Trigger, "outer", outer, callback_group=group)
    client = node.create_client(Trigger, "outer")
    assert client.wait_for_service(2.0)
    assert inner.wait_for_service(2.0)
    assert client.call(Trigger.Request(), timeout_sec=5.0).message == "outer done"


def test_coroutine_callbacks_await_services_in_a_single_thread(node: Node) -> None:
    group = MutuallyExclusiveCallbackGroup()
    node.create_service(Trigger, "inner", answer)
    inner = node.create_client(Trigger, "inner")
    assert inner.wait_for_service(2.0)

    async def outer(request: Any, response: Any) -> Any:
        response.message = "awaited " + (await inner.call_async(Trigger.Request())).message
        return response

    node.create_service(Trigger, "outer", outer, callback_group=group)
    client = node.create_client(Trigger, "outer")
    assert client.wait_for_service(2.0)
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(node, future, timeout_sec=5.0)
    assert future.result().message == "awaited done"


@pytest.mark.parametrize(("exclusive", "most"), [(True, 1), (False, 3)])
def test_callbacks_run_in_parallel_as_far_as_their_group_allows(
    node: Node, spinning: MultiThreadedExecutor, exclusive: bool, most: int
) -> None:
    group = MutuallyExclusiveCallbackGroup() if exclusive else ReentrantCallbackGroup()
    running, seen, calls, lock = 0, 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, seen, calls
        with lock:
            running += 1
            seen = max(seen, running)
        time.sleep(0.05)
        with lock:
            running -= 1
            calls += 1

    timers = [node.create_timer(0.02, work, callback_group=group) for _ in range(3)]
    time.sleep(0.7)
    for timer in timers:
        timer.cancel()
    assert calls >= 5
    assert seen >= most if most > 1 else seen == 1


def test_a_busy_group_does_not_make_the_executor_spin_in_place(node: Node, spinning: MultiThreadedExecutor) -> None:
    release, entered = threading.Event(), threading.Event()

    def block(message: Any) -> None:
        entered.set()
        release.wait(5)

    node.create_subscription(String, "busy", block, 10, callback_group=MutuallyExclusiveCallbackGroup())
    publisher = node.create_publisher(String, "busy", 10)
    publisher.publish(String())
    publisher.publish(String())  # stays unread: its condition remains true all the time
    assert entered.wait(2)
    before = time.process_time()
    time.sleep(0.5)
    used = time.process_time() - before
    release.set()
    assert used < 0.1


def test_an_idle_executor_uses_no_processor_time(node: Node) -> None:
    before = time.process_time()
    rclpy.spin_once(node, timeout_sec=0.5)
    assert time.process_time() - before < 0.05


def test_timers_keep_their_rate_and_can_be_cancelled_and_reset(node: Node) -> None:
    ticks: list[float] = []
    timer = node.create_timer(0.02, lambda: ticks.append(time.monotonic()))
    end = time.monotonic() + 0.41
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    assert 10 <= len(ticks) <= 21
    timer.cancel()
    count = len(ticks)
    rclpy.spin_once(node, timeout_sec=0.1)
    assert len(ticks) == count
    assert timer.is_canceled()
    timer.reset()
    rclpy.spin_once(node, timeout_sec=1.0)
    assert len(ticks) == count + 1
    idle = node.create_timer(0.01, lambda: ticks.clear(), autostart=False)
    rclpy.spin_once(node, timeout_sec=0.05)
    assert ticks
    assert idle.is_canceled()


def test_an_error_in_a_callback_ends_the_spin_that_ran_it(node: Node) -> None:
    def fail() -> None:
        raise LookupError("in the callback")

    node.create_timer(0.01, fail)
    with pytest.raises(LookupError, match="in the callback"):
        rclpy.spin(node)
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    with pytest.raises(LookupError, match="in the callback"):
        executor.spin()
    executor.shutdown()


def test_tasks_and_guard_conditions_run_in_the_executor(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    gate: Future = Future()

    async def wait_for_gate(factor: int) -> int:
        return factor * await gate

    task = executor.create_task(wait_for_gate, 3)
    executor.spin_once(timeout_sec=0.1)
    assert not task.done()
    guard = node.create_guard_condition(lambda: gate.set_result(14))
    threading.Timer(0.05, guard.trigger).start()
    executor.spin_until_future_complete(task, timeout_sec=2.0)
    assert task.result() == 42
    executor.shutdown()


def test_destroying_entities_while_spinning_is_harmless(node: Node, spinning: MultiThreadedExecutor) -> None:
    for _ in range(20):
        subscription = node.create_subscription(String, "short", lambda message: None, 10)
        publisher = node.create_publisher(String, "short", 10)
        for _ in range(3):
            publisher.publish(String(data="x"))
        node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)
    assert node.count_publishers("short") == 0


def test_a_rate_sleeps_its_period_and_is_interrupted_by_shutdown(node: Node, spinning: MultiThreadedExecutor) -> None:
    rate = node.create_rate(50)
    rate.sleep()
    start = time.monotonic()
    for _ in range(5):
        rate.sleep()
    assert 0.07 < time.monotonic() - start < 1.0
    threading.Timer(0.05, rclpy.try_shutdown).start()
    slow = node.create_rate(0.1)
    with pytest.raises(rclpy.exceptions.ROSInterruptException):
        slow.sleep()


@pytest.mark.parametrize("executor_name", ["SingleThreadedExecutor", "MultiThreadedExecutor"])
def test_a_group_with_too_much_to_do_serves_everybody_in_turn(ros: int, executor_name: str) -> None:
    node = rclpy.create_node("crowded")
    counts = dict.fromkeys(range(4), 0)

    def busy(index: int) -> None:
        counts[index] += 1
        time.sleep(0.002)  # longer than all others need to be ready again
        if index:
            guards[index - 1].trigger()

    node.create_timer(1e-6, lambda: busy(0))  # always due
    guards = [node.create_guard_condition(lambda index=index: busy(index)) for index in (1, 2, 3)]
    for guard in guards:
        guard.trigger()
    with getattr(rclpy.executors, executor_name)() as executor:
        executor.add_node(node)
        while sum(counts.values()) < 40:
            executor.spin_once(timeout_sec=5)
    node.destroy_node()
    assert min(counts.values()) >= 5, counts


@pytest.mark.parametrize("executor_name", ["SingleThreadedExecutor", "MultiThreadedExecutor"])
def test_a_callback_may_shut_its_executor_down(ros: int, executor_name: str) -> None:
    node = rclpy.create_node("enough")
    executor = getattr(rclpy.executors, executor_name)()
    guard = node.create_guard_condition(executor.shutdown)
    executor.add_node(node)
    guard.trigger()
    executor.spin()
    node.destroy_node()
    assert executor.get_nodes() == []


def test_a_task_that_never_ends_leaves_room_for_others(ros: int) -> None:
    node = rclpy.create_node("patient")
    called: list[str] = []

    class Turn:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def forever() -> None:
        while True:
            await Turn()

    guard = node.create_guard_condition(lambda: called.append("guard"))
    with rclpy.executors.SingleThreadedExecutor() as executor:
        executor.add_node(node)
        task = executor.create_task(forever)
        guard.trigger()
        for _ in range(10):
            executor.spin_once(timeout_sec=1)
        task.cancel()
    node.destroy_node()
    assert called == ["guard"]


def test_an_executor_of_ones_own_gets_its_work_from_wait_for_ready_callbacks(ros: int) -> None:
    node = rclpy.create_node("own_executor")
    called: list[str] = []

    class Own(rclpy.executors.Executor):
        def spin_once(self, timeout_sec: float | None = None) -> None:
            try:
                handler, entity, owner = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
            except rclpy.executors.TimeoutException:
                called.append("timeout")
            else:
                assert (entity, owner) == (guard, node)
                handler()
                handler.result()

    guard = node.create_guard_condition(lambda: called.append("guard"))
    with Own() as executor:
        executor.add_node(node)
        guard.trigger()
        executor.spin_once(timeout_sec=5)
        executor.spin_once(timeout_sec=0)
    node.destroy_node()
    assert called == ["guard", "timeout"]
