"""Lifecycle nodes: transitions, callbacks, services, events, and publishers that are silent while inactive."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.lifecycle import LifecycleNode, LifecycleState, SimpleManagedEntity, TransitionCallbackReturn
from std_msgs.msg import String


class Robot(LifecycleNode):
    """Notes its callbacks and answers with what the test puts into `answers`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}
        super().__init__(*args, **options)

    def _note(self, name: str, state: LifecycleState) -> Any:
        self.calls.append((name, state.label))
        answer = self.answers.get(name, TransitionCallbackReturn.SUCCESS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_configure(self, state: LifecycleState) -> Any:
        return self._note("configure", state)

    def on_cleanup(self, state: LifecycleState) -> Any:
        return self._note("cleanup", state)

    def on_error(self, state: LifecycleState) -> Any:
        return self._note("error", state)


@pytest.fixture
def robot(stage: Any) -> Any:
    robot = Robot("robot", namespace=stage.namespace, context=stage.context)
    stage.nodes.append(robot)
    stage.executor.add_node(robot)
    return robot


def test_callbacks_hear_of_transitions_with_the_state_before(robot: Any) -> None:
    assert robot.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert robot.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert robot.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert robot.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert robot.calls == [("configure", "unconfigured"), ("cleanup", "inactive")]
    assert robot.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    with pytest.raises(RuntimeError):
        robot.trigger_shutdown()


def test_transitions_that_the_state_does_not_have_are_errors(robot: Any) -> None:
    for trigger in (robot.trigger_activate, robot.trigger_deactivate, robot.trigger_cleanup):
        with pytest.raises(RuntimeError):
            trigger()
    assert robot.calls == []


@pytest.mark.parametrize(
    ("answer", "error_answer", "result", "end"),
    [
        (TransitionCallbackReturn.FAILURE, None, TransitionCallbackReturn.FAILURE, "unconfigured"),
        (
            TransitionCallbackReturn.ERROR,
            TransitionCallbackReturn.SUCCESS,
            TransitionCallbackReturn.ERROR,
            "unconfigured",
        ),
        (TransitionCallbackReturn.ERROR, TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.ERROR, "finalized"),
        (ValueError("as meant"), TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.ERROR, "unconfigured"),
    ],
)
def test_failures_and_errors_lead_to_their_states(
    stage: Any, robot: Any, answer: Any, error_answer: Any, result: Any, end: str
) -> None:
    robot.answers = {"configure": answer, "error": error_answer or TransitionCallbackReturn.SUCCESS}
    assert robot.trigger_configure() == result
    client = stage.node("asker").create_client(GetState, "robot/get_state")
    assert client.wait_for_service(timeout_sec=10)
    assert stage.result(client.call_async(GetState.Request())).current_state.label == end


def test_managed_publishers_speak_only_while_the_node_is_active(stage: Any, robot: Any) -> None:
    publisher = robot.create_lifecycle_publisher(String, "words", 10)
    got: list[str] = []
    stage.node("listener").create_subscription(String, "words", lambda message: got.append(message.data), 10)
    assert stage.until(lambda: publisher.get_subscription_count() == 1)
    assert not publisher.is_activated
    publisher.publish(String(data="too early"))
    robot.trigger_configure()
    robot.trigger_activate()
    assert publisher.is_activated
    publisher.publish(String(data="now"))
    assert stage.until(lambda: got)
    robot.trigger_deactivate()
    publisher.publish(String(data="too late"))
    assert not stage.until(lambda: len(got) > 1, timeout=0.5)
    assert got == ["now"]
    assert robot.destroy_lifecycle_publisher(publisher)


def test_managed_entities_follow_the_node(robot: Any) -> None:
    entity = SimpleManagedEntity()
    robot.add_managed_entity(entity)
    robot.trigger_configure()
    assert not entity.is_activated
    robot.trigger_activate()
    assert entity.is_activated
    robot.trigger_deactivate()
    assert not entity.is_activated
    with pytest.raises(TypeError):
        robot.add_managed_entity("no entity")


def test_others_lead_the_node_through_its_states(stage: Any, robot: Any) -> None:
    asker = stage.node("asker")
    events: list[tuple[str, str]] = []
    asker.create_subscription(
        TransitionEvent,
        "robot/transition_event",
        lambda event: events.append((event.start_state.label, event.goal_state.label)),
        10,
    )
    clients = {
        name: asker.create_client(kind, f"robot/{name}")
        for name, kind in (
            ("get_state", GetState),
            ("change_state", ChangeState),
            ("get_available_states", GetAvailableStates),
            ("get_available_transitions", GetAvailableTransitions),
            ("get_transition_graph", GetAvailableTransitions),
        )
    }
    for client in clients.values():
        assert client.wait_for_service(timeout_sec=10)
    topic = f"{stage.namespace}/robot/transition_event"
    assert stage.until(lambda: asker.count_publishers(topic) == 1 and robot.count_subscribers(topic) == 1)

    def ask(name: str, request: Any) -> Any:
        return stage.result(clients[name].call_async(request))

    assert ask("get_state", GetState.Request()).current_state == State(
        id=State.PRIMARY_STATE_UNCONFIGURED, label="unconfigured"
    )
    states = {
        state.label: state.id for state in ask("get_available_states", GetAvailableStates.Request()).available_states
    }
    assert {"unconfigured": 1, "inactive": 2, "active": 3, "finalized": 4, "configuring": 10}.items() <= states.items()
    assert len(states) == 11
    by_id = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert ask("change_state", by_id).success
    available = ask("get_available_transitions", GetAvailableTransitions.Request()).available_transitions
    assert [item.transition.label for item in available] == ["cleanup", "activate", "shutdown"]
    assert {item.start_state.label for item in available} == {"inactive"}
    assert ask("change_state", ChangeState.Request(transition=Transition(label="activate"))).success
    assert not ask("change_state", ChangeState.Request(transition=Transition(label="dance"))).success
    assert ask("get_state", GetState.Request()).current_state.id == State.PRIMARY_STATE_ACTIVE
    graph = ask("get_transition_graph", GetAvailableTransitions.Request()).available_transitions
    assert len(graph) == 25
    assert stage.until(lambda: len(events) >= 2)
    assert events[-2:] == [("inactive", "activating"), ("activating", "active")]


def test_a_node_without_communication_has_no_services(stage: Any) -> None:
    robot = Robot("quiet", namespace=stage.namespace, context=stage.context, enable_communication_interface=False)
    stage.nodes.append(robot)
    names = [service.service_name for service in robot.services]
    assert not any(name.endswith("/change_state") for name in names)
    assert robot.trigger_configure() == TransitionCallbackReturn.SUCCESS
