"""Starting and ending: contexts, and what signals do to programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context

PROGRAM = """
    import sys
    import rclpy
    from rclpy.executors import ExternalShutdownException

    rclpy.init()
    node = rclpy.create_node("lonely")
    node.create_timer(0.05, lambda: print("spinning", flush=True))
    try:
        rclpy.spin(node)
        print("returned", flush=True)
    except (KeyboardInterrupt, ExternalShutdownException) as error:
        print("ended by", type(error).__name__, flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    print("clean", flush=True)
"""


def test_a_context_is_started_once() -> None:
    context = Context()
    assert not context.ok()
    rclpy.init(args=[], context=context)
    assert context.ok()
    assert rclpy.ok(context=context)
    with context.handle:  # what keeps it, and does not start it again
        assert context.ok()
    with pytest.raises(RuntimeError, match="once"):
        rclpy.init(args=[], context=context)
    rclpy.shutdown(context=context)
    assert not context.ok()
    with pytest.raises(RuntimeError):
        rclpy.shutdown(context=context)
    rclpy.try_shutdown(context=context)


def test_a_context_that_was_not_started_cannot_end() -> None:
    with pytest.raises(RuntimeError):
        rclpy.shutdown(context=Context())


def test_callbacks_hear_of_the_end() -> None:
    class Listener:
        heard = 0

        def hear(self) -> None:
            self.heard += 1

    context, listener = Context(), Listener()
    rclpy.init(args=[], context=context)
    context.on_shutdown(listener.hear)
    with pytest.raises(TypeError):
        context.on_shutdown("no function")  # type: ignore[arg-type]
    context.shutdown()
    assert listener.heard == 1


def test_a_context_has_its_domain() -> None:
    context = Context()
    with pytest.raises(RuntimeError, match="before it can have a domain id"):
        context.get_domain_id()
    rclpy.init(args=[], context=context, domain_id=23)
    assert context.get_domain_id() == 23
    context.shutdown()
    with pytest.raises(RuntimeError, match=r"Domain id \(-1\)"):
        rclpy.init(args=[], context=Context(), domain_id=-1)


def test_the_default_context_starts_anew() -> None:
    for _ in range(2):
        rclpy.init(args=[])
        assert rclpy.ok()
        rclpy.create_node("default").destroy_node()
        rclpy.shutdown()
        assert not rclpy.ok()


def test_a_context_is_a_context_manager() -> None:
    with Context() as own:
        assert own.ok()
    assert not own.ok()


@pytest.mark.parametrize(
    "arguments", [["--ros-args", "-r", "not-a-remap"], ["--ros-args", "--not-a-flag"], ["--ros-args", "-p"]]
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(RuntimeError):
        rclpy.init(args=arguments, context=Context())


def test_arguments_of_the_program_are_told_apart() -> None:
    from rclpy.utilities import remove_ros_args

    arguments = ["program", "--mine", "--ros-args", "-r", "a:=b", "--", "more"]
    assert remove_ros_args(args=arguments) == ["program", "--mine", "more"]


@pytest.fixture
def program(alone: None, tmp_path: Path) -> Any:
    """The program above, spinning."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    process = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "spinning\n"
    yield process
    process.kill()
    process.communicate()


def rest_of(process: Any) -> list[str]:
    output, _ = process.communicate(timeout=30)
    return [line for line in output.splitlines() if line != "spinning"]


def test_an_interrupt_ends_a_spin(program: Any) -> None:
    program.send_signal(signal.SIGINT)
    assert rest_of(program)[0] in ("ended by KeyboardInterrupt", "ended by ExternalShutdownException")


def test_being_asked_to_terminate_ends_a_program_cleanly(program: Any) -> None:
    program.send_signal(signal.SIGTERM)
    lines = rest_of(program)
    assert lines[0] in ("ended by ExternalShutdownException", "returned")  # the latter: between two callbacks
    assert lines[1:] == ["clean"]
    assert program.returncode == 0
