"""Executors, callback groups, timers, guard conditions, rates, futures and coroutines."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.task import Future
from rclpy.waitable import NumberOfEntities, Waitable
from std_msgs.msg import String

BOTH = pytest.mark.parametrize("kind", [SingleThreadedExecutor, MultiThreadedExecutor])


def spin_while(executor: Executor, condition: Any, timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    assert not condition()


@BOTH
def test_timers_call_back_until_they_are_cancelled(stage: Any, kind: type[Executor]) -> None:
    node = stage.node()
    executor = kind(context=stage.context)
    executor.add_node(node)
    calls: list[int] = []

    def call() -> None:
        # Cancelled by itself: rclpy loses a timer that is cancelled while another thread is about to call it.
        calls.append(1)
        if len(calls) == 3:
            timer.cancel()

    timer = node.create_timer(0.02, call)
    assert timer.timer_period_ns == 20_000_000
    spin_while(executor, lambda: not timer.is_canceled())
    before = len(calls)
    executor.spin_once(timeout_sec=0.1)
    assert len(calls) == before == 3
    timer.reset()
    assert not timer.is_canceled()
    spin_while(executor, lambda: len(calls) == before)
    assert node.destroy_timer(timer)
    assert not node.destroy_timer(timer)
    executor.shutdown()


def test_a_timer_that_does_not_start_by_itself_waits_for_reset(stage: Any, node: Any) -> None:
    calls: list[int] = []
    timer = node.create_timer(0.02, lambda: calls.append(1), autostart=False)
    assert not stage.until(lambda: calls, timeout=0.2)
    timer.reset()
    assert stage.until(lambda: calls)


@BOTH
def test_guard_conditions_call_back_when_they_are_triggered(stage: Any, kind: type[Executor]) -> None:
    node = stage.node()
    executor = kind(context=stage.context)
    executor.add_node(node)
    calls: list[int] = []
    guard = node.create_guard_condition(lambda: calls.append(1))
    executor.spin_once(timeout_sec=0.05)
    assert calls == []
    threading.Timer(0.05, guard.trigger).start()
    spin_while(executor, lambda: not calls)
    assert calls == [1]
    assert node.destroy_guard_condition(guard)
    executor.shutdown()


def test_an_executor_knows_its_nodes(stage: Any, node: Any) -> None:
    executor = SingleThreadedExecutor(context=stage.context)
    assert executor.add_node(node)
    assert not executor.add_node(node)
    assert executor.get_nodes() == [node]
    assert node.executor is executor
    executor.remove_node(node)
    assert executor.get_nodes() == []
    assert executor.shutdown()


@BOTH
def test_spinning_gives_up_after_its_time(stage: Any, kind: type[Executor]) -> None:
    with kind(context=stage.context) as executor:
        executor.add_node(stage.node())
        future = Future()
        begin = time.monotonic()
        executor.spin_until_future_complete(future, timeout_sec=0.2)
        assert time.monotonic() - begin >= 0.19
        assert not future.done()


@BOTH
def test_spinning_ends_when_a_future_is_done_by_another_thread(stage: Any, kind: type[Executor]) -> None:
    with kind(context=stage.context) as executor:
        executor.add_node(stage.node())
        future = Future()
        threading.Timer(0.1, lambda: future.set_result("done")).start()
        executor.spin_until_future_complete(future, timeout_sec=15)
        assert future.result() == "done"


@BOTH
def test_an_error_in_a_callback_ends_the_spin(stage: Any, kind: type[Executor]) -> None:
    node = stage.node()

    def fail() -> None:
        raise ZeroDivisionError("as meant")

    guard = node.create_guard_condition(fail)
    with kind(context=stage.context) as executor:
        executor.add_node(node)
        other = node.create_timer(0.02, lambda: None)
        guard.trigger()
        with pytest.raises(ZeroDivisionError, match="as meant"):
            spin_while(executor, lambda: True)
        node.destroy_timer(other)


def test_exclusive_groups_run_one_callback_at_a_time_and_reentrant_ones_several(stage: Any) -> None:
    running: dict[str, int] = {"exclusive": 0, "reentrant": 0}
    most: dict[str, int] = {"exclusive": 0, "reentrant": 0}
    calls: dict[str, int] = {"exclusive": 0, "reentrant": 0}
    lock = threading.Lock()
    node = stage.node()

    def work(name: str) -> None:
        with lock:
            running[name] += 1
            most[name] = max(most[name], running[name])
        time.sleep(0.05)
        with lock:
            running[name] -= 1
            calls[name] += 1

    for name, group in (("exclusive", MutuallyExclusiveCallbackGroup()), ("reentrant", ReentrantCallbackGroup())):
        for _ in range(2):
            node.create_timer(0.02, lambda name=name: work(name), callback_group=group)
    stage.spin_in_thread(node, threads=6)
    end = time.monotonic() + 15
    while (min(calls.values()) < 5 or most["reentrant"] < 2) and time.monotonic() < end:
        time.sleep(0.02)
    assert most["exclusive"] == 1
    assert most["reentrant"] >= 2


def test_tasks_run_in_the_executor_and_return_their_result(stage: Any) -> None:
    executor = stage.executor

    async def later(value: int) -> int:
        return value + 1

    plain = executor.create_task(lambda value: value * 2, 21)
    coroutine = executor.create_task(later, 1)
    assert not plain.done()
    assert stage.until(lambda: plain.done() and coroutine.done())
    assert (plain.result(), coroutine.result()) == (42, 2)


def test_coroutines_wait_for_futures_and_tasks(stage: Any, node: Any) -> None:
    future: Future = Future(executor=stage.executor)
    order: list[str] = []

    async def inner() -> str:
        order.append("inner waits")
        value = await future
        order.append("inner goes on")
        return value

    async def outer() -> str:
        return "outer got " + await stage.executor.create_task(inner)

    task = stage.executor.create_task(outer)
    assert stage.until(lambda: order)
    assert not task.done()
    future.set_result("it")
    assert stage.until(task.done)
    assert task.result() == "outer got it"
    assert order == ["inner waits", "inner goes on"]


def test_callbacks_of_timers_may_be_coroutines(stage: Any, node: Any) -> None:
    future: Future = Future(executor=stage.executor)
    got: list[Any] = []

    async def callback() -> None:
        timer.cancel()
        got.append("begin")
        got.append(await future)

    timer = node.create_timer(0.02, callback, callback_group=ReentrantCallbackGroup())
    assert stage.until(lambda: got == ["begin"])
    future.set_result("end")
    assert stage.until(lambda: got == ["begin", "end"])


def test_the_error_of_a_task_is_kept_for_its_result_and_ends_the_spin(stage: Any, node: Any) -> None:
    async def fail() -> None:
        raise KeyError("as meant")

    task = stage.executor.create_task(fail)
    with pytest.raises(KeyError):
        stage.until(task.done, timeout=5)
    assert isinstance(task.exception(), KeyError)
    with pytest.raises(KeyError):
        task.result()


def test_futures_call_back_and_can_be_cancelled() -> None:
    future: Future = Future()
    got: list[Any] = []
    future.add_done_callback(lambda done: got.append(done.result()))
    assert future.result() is None
    assert not future.done()
    future.set_result(5)
    assert future.done()
    assert got == [5]
    future.add_done_callback(lambda done: got.append("late"))
    assert got == [5, "late"]
    failed: Future = Future()
    failed.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        failed.result()
    cancelled: Future = Future()
    cancelled.add_done_callback(lambda done: got.append(done.cancelled()))
    cancelled.cancel()
    assert (cancelled.cancelled(), cancelled.done(), got[-1]) == (True, False, True)
    cancelled.set_result("after all")
    assert (cancelled.cancelled(), cancelled.done()) == (False, True)
    cancelled.cancel()
    assert not cancelled.cancelled()


def test_cancelling_a_task_does_not_stop_it(stage: Any) -> None:
    async def work() -> str:
        return "done"

    task = stage.executor.create_task(work)
    task.cancel()
    assert task.cancelled()
    assert stage.until(task.done)
    assert task.result() == "done"


def test_a_coroutine_can_be_awaited_directly_when_a_future_is_done_already(stage: Any) -> None:
    future: Future = Future()
    future.set_result("there")

    async def read() -> Any:
        return await future

    task = stage.executor.create_task(read)
    assert stage.until(task.done)
    assert task.result() == "there"


def test_an_executor_of_ones_own_gets_its_work_from_wait_for_ready_callbacks(stage: Any) -> None:
    class Own(Executor):
        def spin_once(self, timeout_sec: float | None = None) -> None:
            try:
                handler, entity, owner = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
            except TimeoutException:
                seen.append("nothing")
            else:
                seen.append((entity, owner))
                handler()
                if handler.exception() is not None:
                    raise handler.exception()

    seen: list[Any] = []
    calls: list[int] = []
    node = stage.node()
    guard = node.create_guard_condition(lambda: calls.append(1))
    executor = Own(context=stage.context)
    executor.add_node(node)
    guard.trigger()
    spin_while(executor, lambda: not calls)
    assert (guard, node) in seen
    executor.shutdown()


def test_a_shutdown_from_outside_ends_a_spin(stage: Any, node: Any) -> None:
    threading.Timer(0.2, stage.context.try_shutdown).start()
    with pytest.raises(ExternalShutdownException):
        rclpy.spin(node, executor=stage.executor)


def test_an_executor_that_is_shut_down_stops_spinning(stage: Any, node: Any) -> None:
    executor = SingleThreadedExecutor(context=stage.context)
    executor.add_node(node)
    threading.Timer(0.2, executor.shutdown).start()
    executor.spin()
    assert stage.context.ok()


def test_a_rate_sleeps_and_is_woken_by_shutdown(stage: Any, node: Any) -> None:
    rate = node.create_rate(20.0)
    stage.spin_in_thread(node)
    begin = time.monotonic()
    for _ in range(4):
        rate.sleep()
    assert time.monotonic() - begin >= 0.1
    slow = node.create_rate(0.001)
    threading.Timer(0.2, stage.context.try_shutdown).start()
    with pytest.raises(ROSInterruptException):
        slow.sleep()


def test_a_rate_that_is_destroyed_wakes_its_sleeper_and_sleeps_no_more(stage: Any, node: Any) -> None:
    rate = node.create_rate(0.001)
    threading.Timer(0.2, rate.destroy).start()
    rate.sleep()
    with pytest.raises(RuntimeError, match="destroyed"):
        rate.sleep()


def test_a_rate_needs_a_frequency_above_zero(node: Any) -> None:
    for frequency in (0.0, -1.0):
        with pytest.raises(ValueError, match="must be > 0"):
            node.create_rate(frequency)


def test_entities_made_and_destroyed_while_spinning_are_no_trouble(stage: Any, node: Any) -> None:
    stage.spin_in_thread(node)
    for _ in range(10):
        done = threading.Event()
        timer = node.create_timer(0.01, done.set)
        assert done.wait(15)
        node.destroy_timer(timer)


class Several(Waitable):
    """Waits for a subscription, a guard condition and a timer, and counts what came of each."""

    def __init__(self, subscription: Any, guard: Any, timer: Any) -> None:
        super().__init__(ReentrantCallbackGroup())
        self.handles = subscription.handle, guard.handle, timer.handle
        self.indices: list[int] = []
        self.ready: list[str] = []
        self.done: dict[str, Any] = {}

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(num_subs=1, num_gcs=1, num_timers=1)

    def add_to_wait_set(self, wait_set: Any) -> None:
        subscription, guard, timer = self.handles
        self.indices = [
            wait_set.add_subscription(subscription),
            wait_set.add_guard_condition(guard),
            wait_set.add_timer(timer),
        ]

    def is_ready(self, wait_set: Any) -> bool:
        kinds = ("subscription", "guard_condition", "timer")
        self.ready = [kind for kind, i in zip(kinds, self.indices, strict=True) if wait_set.is_ready(kind, i)]
        return bool(self.ready)

    def take_data(self) -> dict[str, Any]:
        taken: dict[str, Any] = dict.fromkeys(self.ready, True)
        if "subscription" in taken:
            taken["subscription"] = self.handles[0].take_message(String, False)[0].data
        if "timer" in taken:
            self.handles[2].call_timer()
        return taken

    async def execute(self, taken_data: dict[str, Any]) -> None:
        self.done.update(taken_data)


def test_a_waitable_of_ones_own_waits_for_several_things(stage: Any, node: Any) -> None:
    owner = stage.node("owner")
    stage.executor.remove_node(owner)  # the waitable handles what it has
    subscription = owner.create_subscription(String, "words", lambda message: None, 10)
    guard = owner.create_guard_condition(lambda: None)
    timer = owner.create_timer(0.01, lambda: None)
    waitable = Several(subscription, guard, timer)
    node.add_waitable(waitable)
    assert waitable in list(node.waitables)
    assert stage.until(lambda: waitable.done == {"timer": True})
    guard.trigger()
    assert stage.until(lambda: "guard_condition" in waitable.done)
    publisher = node.create_publisher(String, "words", 10)
    assert stage.until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(String(data="hello"))
    assert stage.until(lambda: waitable.done.get("subscription") == "hello")
    node.remove_waitable(waitable)
    waitable.done.clear()
    for _ in range(3):
        stage.executor.spin_once(timeout_sec=0.02)
    assert not waitable.done


def test_numbers_of_entities_add_up() -> None:
    total = NumberOfEntities(1, 2, 3, 4, 5, 6) + NumberOfEntities(10, 20, 30, 40, 50, 60)
    assert (total.num_subscriptions, total.num_guard_conditions, total.num_timers) == (11, 22, 33)
    assert (total.num_clients, total.num_services, total.num_events) == (44, 55, 66)
