"""Services and clients."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.qos import qos_profile_system_default
from rclpy.service_introspection import ServiceIntrospectionState
from service_msgs.msg import ServiceEventInfo
from std_srvs.srv import SetBool, Trigger


def answer(request: Any, response: Any) -> Any:
    response.success = request.data
    response.message = "yes" if request.data else "no"
    return response


def test_a_client_gets_the_answer_to_its_own_request(stage: Any, node: Any) -> None:
    node.create_service(SetBool, "ask", answer)
    clients = [node.create_client(SetBool, "ask") for _ in range(2)]
    for client in clients:
        assert client.wait_for_service(timeout_sec=10)
        assert client.service_is_ready()
    futures = [client.call_async(SetBool.Request(data=bool(index))) for index, client in enumerate(clients)]
    assert [stage.result(future).message for future in futures] == ["no", "yes"]


def test_a_blocking_call_works_while_another_thread_spins(stage: Any, node: Any) -> None:
    node.create_service(SetBool, "ask", answer)
    client = node.create_client(SetBool, "ask")
    stage.spin_in_thread(node)
    assert client.wait_for_service(timeout_sec=10)
    assert client.call(SetBool.Request(data=True)).success


def test_a_call_gives_up_after_its_time(stage: Any, node: Any) -> None:
    client = node.create_client(SetBool, "nobody")
    assert not client.wait_for_service(timeout_sec=0.1)
    assert not client.service_is_ready()
    assert client.call(SetBool.Request(), timeout_sec=0.1) is None


def test_a_request_of_another_type_is_refused(node: Any) -> None:
    client = node.create_client(SetBool, "ask")
    with pytest.raises(TypeError):
        client.call_async(Trigger.Request())
    with pytest.raises(TypeError):
        client.call(SetBool.Response())


def test_a_coroutine_may_serve_and_await_another_service(stage: Any, node: Any) -> None:
    group = ReentrantCallbackGroup()
    inner = node.create_client(SetBool, "inner", callback_group=group)

    async def outer(request: Any, response: Any) -> Any:
        result = await inner.call_async(SetBool.Request(data=True))
        response.success, response.message = True, f"inner said {result.message}"
        return response

    node.create_service(SetBool, "inner", answer, callback_group=group)
    node.create_service(Trigger, "outer", outer, callback_group=group)
    client = node.create_client(Trigger, "outer", callback_group=group)
    assert inner.wait_for_service(timeout_sec=10)
    assert client.wait_for_service(timeout_sec=10)
    assert stage.result(client.call_async(Trigger.Request())).message == "inner said yes"


def test_a_callback_may_call_a_service_if_the_groups_allow(stage: Any, node: Any) -> None:
    node.create_service(SetBool, "ask", answer, callback_group=MutuallyExclusiveCallbackGroup())
    client = node.create_client(SetBool, "ask", callback_group=MutuallyExclusiveCallbackGroup())
    assert client.wait_for_service(timeout_sec=10)
    got: list[str] = []
    done = threading.Event()

    def ask() -> None:
        got.append(client.call(SetBool.Request(data=True), timeout_sec=10).message)
        done.set()

    guard = node.create_guard_condition(ask)
    stage.spin_in_thread(node)
    guard.trigger()
    assert done.wait(15)
    assert got == ["yes"]


def test_done_callbacks_of_a_call_get_the_future(stage: Any, node: Any) -> None:
    node.create_service(SetBool, "ask", answer)
    client = node.create_client(SetBool, "ask")
    assert client.wait_for_service(timeout_sec=10)
    got: list[str] = []
    future = client.call_async(SetBool.Request(data=True))
    future.add_done_callback(lambda done: got.append(done.result().message))
    assert stage.until(lambda: got)
    assert got == ["yes"]


def test_services_and_clients_are_listed_and_destroyed(node: Any) -> None:
    service = node.create_service(SetBool, "ask", answer)
    client = node.create_client(SetBool, "ask")
    assert service in list(node.services)
    assert client in list(node.clients)
    assert service.service_name == client.service_name == node.resolve_service_name("ask")
    assert node.destroy_service(service)
    assert not node.destroy_service(service)
    assert node.destroy_client(client)
    assert not node.destroy_client(client)
    assert service not in list(node.services)


def test_a_service_type_cannot_be_instantiated() -> None:
    with pytest.raises(NotImplementedError):
        SetBool()


def test_both_sides_of_calls_can_be_watched(stage: Any, node: Any) -> None:
    seen: dict[int, Any] = {}
    service = node.create_service(SetBool, "ask", answer)
    client = node.create_client(SetBool, "ask")
    node.create_subscription(
        SetBool.Event, "ask/_service_event", lambda event: seen.update({event.info.event_type: event}), 10
    )
    kinds = {
        ServiceEventInfo.REQUEST_SENT,
        ServiceEventInfo.REQUEST_RECEIVED,
        ServiceEventInfo.RESPONSE_SENT,
        ServiceEventInfo.RESPONSE_RECEIVED,
    }
    for state in (ServiceIntrospectionState.METADATA, ServiceIntrospectionState.CONTENTS):
        for side in (client, service):
            side.configure_introspection(node.get_clock(), qos_profile_system_default, state)
        assert client.wait_for_service(timeout_sec=10)
        topic = f"{stage.namespace}/ask/_service_event"
        assert stage.until(lambda topic=topic: node.count_publishers(topic) == 2)
        seen.clear()
        # Discovery of the new publishers by the subscription is not to be seen from outside: call until all came.
        while len(seen) < 4:
            assert stage.result(client.call_async(SetBool.Request(data=True))).success
            stage.until(lambda: len(seen) == 4, timeout=1.0)
        assert set(seen) == kinds
        # How the server's side names the client is the middleware's affair (rmw_cyclonedds_cpp has two names for it).
        for side_kinds in (
            (ServiceEventInfo.REQUEST_SENT, ServiceEventInfo.RESPONSE_RECEIVED),
            (ServiceEventInfo.REQUEST_RECEIVED, ServiceEventInfo.RESPONSE_SENT),
        ):
            assert len({bytes(seen[kind].info.client_gid) for kind in side_kinds}) == 1
        requests = [len(seen[kind].request) for kind in sorted(kinds)]
        responses = [len(seen[kind].response) for kind in sorted(kinds)]
        with_contents = state == ServiceIntrospectionState.CONTENTS
        assert requests == ([1, 1, 0, 0] if with_contents else [0, 0, 0, 0])
        assert responses == ([0, 0, 1, 1] if with_contents else [0, 0, 0, 0])
    assert seen[ServiceEventInfo.RESPONSE_RECEIVED].response[0].message == "yes"
    for side in (client, service):
        side.configure_introspection(node.get_clock(), qos_profile_system_default, ServiceIntrospectionState.OFF)
    assert stage.until(lambda: node.count_publishers(topic) == 0)
