"""Launching lifecycle nodes: leading them through their states, and hearing of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from launch import LaunchDescription, LaunchDescriptionEntity, LaunchService
from launch.actions import EmitEvent, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch_ros.actions import LifecycleNode, LifecycleTransition, ROSTimer
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState

# A lifecycle node as seen from outside: its service, and the two events of each transition.
NODE = """#!{python}
import sys
import rclpy
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException

STEPS = {{
    1: ("configure", "unconfigured", "configuring", "inactive"),
    3: ("activate", "inactive", "activating", "active"),
    4: ("deactivate", "active", "deactivating", "inactive"),
}}
rclpy.init()
node = rclpy.create_node("unnamed")
publisher = node.create_publisher(TransitionEvent, "~/transition_event", 10)

def change(request, response):
    label, *states = STEPS[request.transition.id]
    fails = label in sys.argv
    if fails:
        states[2] = states[0]
    for start, goal in zip(states, states[1:]):
        publisher.publish(TransitionEvent(
            transition=Transition(label=label), start_state=State(label=start), goal_state=State(label=goal)))
    response.success = not fails
    with open({out!r}, "a") as out:
        out.write(label + "\\n")
    return response

node.create_service(ChangeState, "~/change_state", change)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""


@pytest.fixture
def executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain_id: int) -> str:
    """The path of a lifecycle node's program."""
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    path = tmp_path / "lifecycle_demo"
    path.write_text(NODE.format(python=sys.executable, out=str(tmp_path / "steps")))
    path.chmod(0o755)
    return str(path)


def run(*entities: LaunchDescriptionEntity) -> None:
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription(entities))
    assert service.run() == 0


def at_state(node: LifecycleNode, state: str, *entities: LaunchDescriptionEntity) -> RegisterEventHandler:
    return RegisterEventHandler(
        OnStateTransition(target_lifecycle_node=node, goal_state=state, entities=list(entities))
    )


def test_a_lifecycle_node_is_led_through_a_sequence_of_transitions(executable: str, tmp_path: Path) -> None:
    node = LifecycleNode(executable=executable, name="demo", namespace="lab")
    run(
        node,
        LifecycleTransition(lifecycle_node_names=["/lab/demo"], transition_ids=[1, 3, 4]),
        RegisterEventHandler(
            OnStateTransition(transition="deactivate", start_state="deactivating", entities=[Shutdown()])
        ),
    )
    assert (tmp_path / "steps").read_text().split() == ["configure", "activate", "deactivate"]


def test_it_starts_itself_and_answers_requests_for_a_change(executable: str, tmp_path: Path) -> None:
    node = LifecycleNode(executable=executable, name="demo", namespace="", autostart=True)
    request = EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=4))
    run(at_state(node, "active", request), at_state(node, "deactivating", Shutdown()), node)
    assert (tmp_path / "steps").read_text().split() == ["configure", "activate", "deactivate"]


def test_no_transition_follows_one_that_failed(
    executable: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = LifecycleNode(executable=executable, name="demo", namespace="", arguments=["configure"])
    transition = LifecycleTransition(lifecycle_node_names=["demo"], transition_ids=["1", "3"])
    run(node, transition, at_state(node, "unconfigured", ROSTimer(period=0.3, actions=[Shutdown()])))
    assert (tmp_path / "steps").read_text().split() == ["configure"]
    assert "Failed to make transition 'TRANSITION_CONFIGURE' for LifecycleNode '/demo'" in capfd.readouterr().out


def test_a_shutdown_does_not_wait_for_a_node_that_never_answers(executable: str) -> None:
    node = LifecycleNode(executable="/bin/sleep", name="demo", namespace="", arguments=["60"])
    begin = time.monotonic()
    run(
        node,
        RegisterEventHandler(OnProcessStart(target_action=node, on_start=[ROSTimer(period=0.2, actions=[Shutdown()])])),
        LifecycleTransition(lifecycle_node_names=["demo"], transition_ids=[1]),
    )
    assert time.monotonic() - begin < 20


def test_what_is_no_transition_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        ChangeState(lifecycle_node_matcher=lambda node: True, transition_id=77)
    with pytest.raises(ValueError, match="No transition_ids"):
        LifecycleTransition(lifecycle_node_names=["demo"], transition_ids=[])
    with pytest.raises(RuntimeError, match="requires a 'LifecycleNode'"):
        OnStateTransition(target_lifecycle_node=OpaqueFunction(function=print), entities=[])  # type: ignore[arg-type]
