"""Actions: goals, their feedback, results and cancellation."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from example_interfaces.action import Fibonacci
from example_interfaces.srv import Trigger
from rclpy.action import (
    ActionClient,
    ActionServer,
    CancelResponse,
    GoalResponse,
    get_action_client_names_and_types_by_node,
    get_action_names_and_types,
    get_action_server_names_and_types_by_node,
)
from rclpy.callback_groups import ReentrantCallbackGroup
from unique_identifier_msgs.msg import UUID


def count_up(goal_handle: Any) -> Any:
    """Feedback with each number below the goal's order, and all as the result."""
    numbers: list[int] = []
    for number in range(goal_handle.request.order):
        numbers.append(number)
        goal_handle.publish_feedback(Fibonacci.Feedback(sequence=numbers))
    goal_handle.succeed()
    return Fibonacci.Result(sequence=numbers)


class Pair:
    """A server on one node and a client on another, that have found each other."""

    def __init__(self, stage: Any, execute: Any = count_up, **options: Any) -> None:
        self.stage = stage
        self.server_node, self.client_node = stage.node("server"), stage.node("client")
        self.server = ActionServer(self.server_node, Fibonacci, "count", execute, **options)
        self.client = ActionClient(self.client_node, Fibonacci, "count")
        assert stage.until(self.client.server_is_ready)

    def send(self, order: int = 3, **options: Any) -> Any:
        return self.stage.result(self.client.send_goal_async(Fibonacci.Goal(order=order), **options))

    def close(self) -> None:
        self.client.destroy()
        self.server.destroy()


def test_a_goal_is_accepted_tells_how_it_goes_and_ends_with_a_result(stage: Any) -> None:
    pair = Pair(stage)
    told: list[list[int]] = []
    wanted = UUID(uuid=list(uuid.uuid4().bytes))
    handle = pair.send(feedback_callback=lambda message: told.append(list(message.feedback.sequence)), goal_uuid=wanted)
    assert handle.accepted
    assert handle.goal_id == wanted
    assert handle.stamp.sec > 0
    answer = stage.result(handle.get_result_async())
    assert (answer.status, list(answer.result.sequence)) == (GoalStatus.STATUS_SUCCEEDED, [0, 1, 2])
    assert stage.until(lambda: handle.status == GoalStatus.STATUS_SUCCEEDED)
    assert told[-1] == [0, 1, 2][: len(told[-1])]
    later = stage.result(handle.get_result_async())  # the server keeps it
    assert list(later.result.sequence) == [0, 1, 2]
    pair.close()


def test_a_server_may_refuse_a_goal_and_takes_none_twice(stage: Any) -> None:
    pair = Pair(stage, goal_callback=lambda goal: GoalResponse.ACCEPT if goal.order < 5 else GoalResponse.REJECT)
    assert not pair.send(order=5).accepted
    wanted = UUID(uuid=list(uuid.uuid4().bytes))
    assert pair.send(goal_uuid=wanted).accepted
    assert not pair.send(goal_uuid=wanted).accepted
    pair.server.register_goal_callback(lambda goal: "yes")  # what is no GoalResponse is a refusal
    assert not pair.send().accepted
    pair.close()


def test_goals_that_end_without_a_word_or_in_an_error_are_aborted(stage: Any) -> None:
    pair = Pair(stage, execute=lambda goal_handle: Fibonacci.Result(sequence=[7]))
    answer = stage.result(pair.send().get_result_async())
    assert (answer.status, list(answer.result.sequence)) == (GoalStatus.STATUS_ABORTED, [7])

    async def fail(goal_handle: Any) -> Any:
        raise ValueError("out of numbers")

    pair.server.register_execute_callback(fail)
    answer = stage.result(pair.send().get_result_async())
    assert (answer.status, list(answer.result.sequence)) == (GoalStatus.STATUS_ABORTED, [])
    with pytest.raises(TypeError):
        pair.server.register_execute_callback(None)
    pair.close()


def test_goals_are_cancelled_when_the_server_agrees(stage: Any) -> None:
    held: list[Any] = []

    def finish(goal_handle: Any) -> Any:
        assert goal_handle.is_cancel_requested
        goal_handle.canceled()
        return Fibonacci.Result()

    pair = Pair(
        stage,
        execute=finish,
        handle_accepted_callback=held.append,
        cancel_callback=lambda goal: CancelResponse.ACCEPT if goal.request.order == 1 else CancelResponse.REJECT,
    )
    refused, wanted = pair.send(order=2), pair.send(order=1)
    codes = CancelGoal.Response
    answer = stage.result(refused.cancel_goal_async())
    assert (answer.return_code, list(answer.goals_canceling)) == (codes.ERROR_NONE, [])
    answer = stage.result(wanted.cancel_goal_async())
    assert [info.goal_id for info in answer.goals_canceling] == [wanted.goal_id]
    assert [goal.status for goal in held] == [GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_CANCELING]
    held[1].execute()
    assert stage.result(wanted.get_result_async()).status == GoalStatus.STATUS_CANCELED
    answer = stage.result(wanted.cancel_goal_async())
    assert answer.return_code == codes.ERROR_GOAL_TERMINATED
    with pytest.raises(RuntimeError):
        held[1].succeed()  # it has ended
    ask = pair.client_node.create_client(CancelGoal, "count/_action/cancel_goal")
    assert stage.until(ask.service_is_ready)
    request = CancelGoal.Request()
    request.goal_info.goal_id.uuid[0] = 1
    assert stage.result(ask.call_async(request)).return_code == codes.ERROR_UNKNOWN_GOAL_ID
    third = pair.send(order=1)
    everything = stage.result(ask.call_async(CancelGoal.Request()))
    assert third.goal_id in [info.goal_id for info in everything.goals_canceling]
    pair.close()


def test_results_are_forgotten_after_their_time(stage: Any) -> None:
    pair = Pair(stage, result_timeout=0.3)
    handle = pair.send()
    assert stage.result(handle.get_result_async()).status == GoalStatus.STATUS_SUCCEEDED

    def gone() -> bool:
        return bool(stage.result(handle.get_result_async()).status == GoalStatus.STATUS_UNKNOWN)

    assert stage.until(gone)
    pair.close()


def test_a_blocking_call_waits_for_the_result_while_others_are_served(stage: Any) -> None:
    pair = Pair(stage)
    stage.spin_in_thread(pair.server_node, pair.client_node)
    entered, go_on = threading.Event(), threading.Event()

    def wait(goal_handle: Any) -> Any:
        entered.set()
        go_on.wait(10)
        return count_up(goal_handle)

    pair.server.register_execute_callback(wait)
    # A group of its own: the goal runs in none, so the server's group is free too.
    pair.server_node.create_service(
        Trigger, "other", lambda request, response: response, callback_group=ReentrantCallbackGroup()
    )
    other = pair.client_node.create_client(Trigger, "other")
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(pair.client.send_goal(Fibonacci.Goal(order=2))))
    caller.start()
    assert entered.wait(10)
    assert other.wait_for_service(10)
    assert other.call(Trigger.Request()) is not None
    assert not answers
    go_on.set()
    caller.join(10)
    assert list(answers[0].result.sequence) == [0, 1]
    pair.close()


def test_waiting_for_a_server_ends_with_the_server_or_in_time(stage: Any, node: Any) -> None:
    client = ActionClient(node, Fibonacci, "nobody")
    start = time.monotonic()
    assert not client.wait_for_server(timeout_sec=0.2)
    assert time.monotonic() - start < 5
    server = ActionServer(stage.node("server"), Fibonacci, "nobody", count_up)
    assert client.wait_for_server(timeout_sec=10)
    server.destroy()
    assert stage.until(lambda: not client.server_is_ready())
    for send in (client.send_goal_async, client.send_goal):
        with pytest.raises(TypeError):
            send("three")
    client.destroy()
    with pytest.raises(AttributeError):
        ActionClient(node, object, "nothing")


def test_the_graph_knows_who_serves_and_who_calls_an_action(stage: Any) -> None:
    pair = Pair(stage)
    space, kind = stage.namespace, "example_interfaces/action/Fibonacci"
    expected = [(f"{space}/count", [kind])]

    def seen() -> bool:
        return expected == [item for item in get_action_names_and_types(pair.client_node) if item[0].startswith(space)]

    assert stage.until(seen)
    ask, asked = pair.client_node, pair.server_node
    assert stage.until(lambda: get_action_server_names_and_types_by_node(ask, "server", space) == expected)
    assert stage.until(lambda: get_action_client_names_and_types_by_node(asked, "client", space) == expected)
    assert get_action_client_names_and_types_by_node(ask, "server", space) == []
    services = dict(asked.get_service_names_and_types_by_node("server", space))
    assert services[f"{space}/count/_action/send_goal"] == [f"{kind}_SendGoal"]
    assert not any("_action" in service.srv_name for service in asked.services)  # they are the action's
    assert pair.server in list(asked.waitables)
    assert pair.server.get_num_entities().num_services == pair.client.get_num_entities().num_clients == 3
    pair.close()
    assert pair.server not in list(asked.waitables)
