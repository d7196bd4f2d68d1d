"""Signals and the end of a program."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

SPINNER = """
import sys, threading
import rclpy
from rclpy.executors import ExternalShutdownException, {executor}
rclpy.init()
node = rclpy.create_node("spinner")
node.create_timer(0.05, lambda: print("tick") if not hasattr(node, "seen") else None)
executor = {executor}()
executor.add_node(node)
try:
    executor.spin()
    print("returned", rclpy.ok())
except KeyboardInterrupt:
    print("KeyboardInterrupt", rclpy.ok())
except ExternalShutdownException:
    print("ExternalShutdownException", rclpy.ok())
finally:
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
print("threads", [t.name for t in threading.enumerate() if not t.name.startswith("rclpy-executor")])
"""


@pytest.mark.parametrize("executor", ["SingleThreadedExecutor", "MultiThreadedExecutor"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGINT, ["KeyboardInterrupt False"]),
        # As in ROS 2, a spin that is between two callbacks at that moment returns instead of raising.
        (signal.SIGTERM, ["ExternalShutdownException False", "returned False"]),
    ],
)
def test_a_signal_ends_spinning_at_once_and_leaves_no_thread(
    domain_id: int, program: Callable[..., Any], executor: str, number: int, expected: list[str]
) -> None:
    process = program(SPINNER.format(executor=executor))
    assert process.stdout.readline() == "tick\n"
    start = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=5)
    assert time.monotonic() - start < 2
    assert process.returncode == 0, errors
    assert any(line in output for line in expected)
    assert "threads ['MainThread']" in output


def test_a_signal_wakes_an_executor_that_has_nothing_to_do(domain_id: int, program: Callable[..., Any]) -> None:
    process = program(
        """
        import rclpy
        rclpy.init()
        node = rclpy.create_node("idle")
        print("ready")
        rclpy.spin(node)
        """
    )
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=3)
    assert process.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_peers_see_at_once_that_a_program_ended(ros: int, program: Callable[..., Any]) -> None:
    import rclpy

    node = rclpy.create_node("watcher")
    process = program(
        """
        import rclpy
        from std_msgs.msg import String
        rclpy.init()
        node = rclpy.create_node("short_lived")
        publisher = node.create_publisher(String, "news", 10)
        input()
        """
    )
    assert node.wait_for_node("short_lived", 10.0)
    deadline = time.monotonic() + 2
    while node.count_publishers("news") != 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.communicate("\n", timeout=5)
    deadline = time.monotonic() + 1
    while node.count_publishers("news") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.count_publishers("news") == 0
    assert node.get_node_names() == ["watcher"]
    node.destroy_node()


def test_a_node_is_there_within_half_a_second_and_imports_no_torch(
    domain_id: int, program: Callable[..., Any], record_property: Callable[[str, object], None]
) -> None:
    process = program(
        """
        import time
        start = time.perf_counter()
        import sys, rclpy
        from rclpy.node import Node
        from sensor_msgs.msg import Image, JointState
        rclpy.init()
        node = Node("started")
        node.create_subscription(Image, "image", print, 10)
        print(time.perf_counter() - start)
        assert "torch" not in sys.modules
        """
    )
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    record_property("start_seconds", float(output))
    print(f"import of rclpy to a node with a subscription: {float(output):.2f} s")


def test_rclpy_can_be_started_again_after_a_shutdown(domain_id: int) -> None:
    import rclpy

    for _ in range(3):
        rclpy.init(args=[])
        assert rclpy.ok()
        node = rclpy.create_node("again")
        rclpy.spin_once(node, timeout_sec=0)
        node.destroy_node()
        rclpy.shutdown()
        assert not rclpy.ok()
    with pytest.raises(RuntimeError):
        rclpy.shutdown()


def test_a_port_in_use_gets_one_clear_line(
    domain_id: int, program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rclpy
    from rclpy.context import Context

    first = "<CycloneDDS><Domain><Discovery><ParticipantIndex>0</ParticipantIndex></Discovery></Domain></CycloneDDS>"
    monkeypatch.setenv("CYCLONEDDS_URI", first)
    holder = program("import rclpy; rclpy.init(); rclpy.create_node('holder'); print('up'); input()")
    assert holder.stdout.readline() == "up\n"
    context = Context()
    rclpy.init(args=[], context=context)
    with pytest.raises(RuntimeError, match=f"cannot join domain {domain_id}.*ports in use") as caught:
        rclpy.create_node("second", context=context)
    assert "\n" not in str(caught.value)
    context.try_shutdown()


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("ROS_DOMAIN_ID", "many", "from 0 to 232"),
        ("ROS_DOMAIN_ID", "233", "from 0 to 232"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "GALAXY", "SUBNET, LOCALHOST"),
    ],
)
def test_settings_that_make_no_sense_get_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str
) -> None:
    import rclpy
    from rclpy.context import Context

    monkeypatch.setenv("ROS_DOMAIN_ID", "99")
    monkeypatch.setenv(variable, value)
    context = Context()
    with pytest.raises(RuntimeError, match=part) as caught:
        rclpy.init(args=[], context=context)
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)
    context.try_shutdown()
