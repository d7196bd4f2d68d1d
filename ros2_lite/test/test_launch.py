"""launch: arguments, scopes, substitutions, and real processes that start and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launch import Condition, LaunchContext, LaunchDescription, LaunchDescriptionEntity, LaunchService
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    SetLaunchConfiguration,
    Shutdown,
    TimerAction,
)
from launch.conditions import (
    IfCondition,
    LaunchConfigurationEquals,
    LaunchConfigurationNotEquals,
    UnlessCondition,
)
from launch.event_handlers import OnProcessExit, OnProcessIO, OnProcessStart, OnShutdown
from launch.events import Shutdown as ShutdownEvent
from launch.launch_description_sources import (
    InvalidLaunchFileError,
    PythonLaunchDescriptionSource,
)
from launch.substitutions import (
    AndSubstitution,
    Command,
    EnvironmentVariable,
    EqualsSubstitution,
    FindExecutable,
    IfElseSubstitution,
    LaunchConfiguration,
    NotEqualsSubstitution,
    NotSubstitution,
    OrSubstitution,
    PathJoinSubstitution,
    PythonExpression,
    SubstitutionFailure,
    TextSubstitution,
    ThisLaunchFileDir,
)

PYTHON = sys.executable
READY = "import signal, time, sys; print('ready')\n"


@pytest.fixture(autouse=True)
def log_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    import launch.logging

    launch.logging.reset()


def run(*entities: LaunchDescriptionEntity, service: LaunchService | None = None) -> int:
    """Run a description to its end; the exit code."""
    service = service or LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription(entities))
    return service.run()


def python(code: str, **kwargs: object) -> ExecuteProcess:
    """A process that runs Python code, its output on the screen."""
    options = {"output": "screen", "name": "child", **kwargs}
    return ExecuteProcess(cmd=[PYTHON, "-c", code], **options)  # type: ignore[arg-type]


def note(into: list[str], text: object) -> OpaqueFunction:
    """Append the text of a substitution to a list when it is visited."""

    def function(context: LaunchContext) -> None:
        into.append(text if isinstance(text, str) else context.perform_substitution(text))  # type: ignore[arg-type]

    return OpaqueFunction(function=function)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def when(condition: Callable[[], bool], action: Callable[[], None], timeout: float = 10.0) -> None:
    """Do something in the background as soon as a condition holds."""

    def wait() -> None:
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        action()

    threading.Thread(target=wait, daemon=True).start()


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# -- arguments, conditions, scopes -----------------------------------------------------------------------------------


def test_an_argument_takes_its_default_and_what_was_set_before_wins() -> None:
    seen: list[str] = []
    code = run(
        SetLaunchConfiguration("b", "given"),
        DeclareLaunchArgument("a", default_value=["de", TextSubstitution(text="fault")]),
        DeclareLaunchArgument("b", default_value="default"),
        note(seen, LaunchConfiguration("a")),
        note(seen, LaunchConfiguration("b")),
        note(seen, LaunchConfiguration("c", default="none")),
    )
    assert (code, seen) == (0, ["default", "given", "none"])


def test_an_argument_outside_its_choices_ends_the_launch_before_anything_starts(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = run(
        python("print('started')"),
        SetLaunchConfiguration("mode", "fast"),
        DeclareLaunchArgument("mode", choices=["slow", "still"]),
    )
    out = capfd.readouterr().out
    assert code == 1
    assert "\"fast\" is not valid. Valid options are: ['slow', 'still']" in out
    assert "started" not in out


def test_the_originals_modules_can_be_imported_from() -> None:
    program = (
        "from launch.event_handlers.on_process_exit import OnProcessExit\n"
        "from launch.launch_description_sources.python_launch_description_source import PythonLaunchDescriptionSource\n"
        "from launch_ros.actions.lifecycle_node import LifecycleNode\n"
        "from launch_ros.events import matches_node_name\n"
        "import launch.substitutions.launch_configuration, launch.event_handlers, sys\n"
        "assert launch.substitutions.launch_configuration.LaunchConfiguration('x')\n"
        "assert OnProcessExit is launch.event_handlers.OnProcessExit\n"
        "assert 'rclpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_required_argument_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(DeclareLaunchArgument("checkpoint", description="folder of the policy")) == 1
    assert 'Required launch argument "checkpoint" (description: "folder of the policy")' in capfd.readouterr().out
    with pytest.raises(RuntimeError, match="not in provided choices"):
        DeclareLaunchArgument("mode", default_value="x", choices=["a"])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (IfCondition("true"), True),
        (IfCondition(LaunchConfiguration("zero")), False),
        (UnlessCondition(["fal", "se"]), True),
        (LaunchConfigurationEquals("robot", "arm"), True),
        (LaunchConfigurationNotEquals("robot", "arm"), False),
        (LaunchConfigurationEquals("nothing", None), True),
        (IfCondition(PythonExpression(["'", LaunchConfiguration("robot"), "' in ('arm', 'leg')"])), True),
        (IfCondition(EqualsSubstitution(LaunchConfiguration("zero"), 0.0)), True),
        (IfCondition(NotEqualsSubstitution(LaunchConfiguration("robot"), "arm")), False),
        (IfCondition(EqualsSubstitution(True, 1)), True),
        (IfCondition(EqualsSubstitution("10", True)), False),
        (IfCondition(PythonExpression("os.path.isabs('/a')", ["os"])), True),
        (Condition(), False),
        (IfCondition(AndSubstitution("true", NotSubstitution("false"))), True),
        (UnlessCondition(OrSubstitution("false", LaunchConfiguration("zero"))), True),
    ],
)
def test_conditions_decide_whether_an_action_runs(condition: IfCondition, holds: bool) -> None:
    context = LaunchContext()
    context.launch_configurations.update(robot="arm", zero="0")
    assert condition.evaluate(context) is holds


def test_a_condition_that_is_neither_true_nor_false_says_what_is_valid(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(LogInfo(msg="x", condition=IfCondition("maybe"))) == 1
    assert "invalid condition expression 'maybe'" in capfd.readouterr().out


def test_a_group_keeps_its_changes_to_itself_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "red")
    seen: list[str] = []
    changes = [SetLaunchConfiguration("x", "inner"), SetEnvironmentVariable("COLOUR", "blue")]
    read = [note(seen, LaunchConfiguration("x", default="-")), note(seen, EnvironmentVariable("COLOUR"))]
    run(
        SetLaunchConfiguration("x", "outer"),
        GroupAction([*changes, *read]),
        *read,
        GroupAction([note(seen, LaunchConfiguration("x", default="-"))], forwarding=False),
        GroupAction([SetLaunchConfiguration("x", "kept")], scoped=False),
        note(seen, LaunchConfiguration("x")),
    )
    assert seen == ["inner", "blue", "outer", "red", "-", "kept"]
    assert os.environ["COLOUR"] == "red"


INNER = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo
from launch.substitutions import LaunchConfiguration, ThisLaunchFileDir

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument("speed"),
        LogInfo(msg=["speed ", LaunchConfiguration("speed"), " in ", ThisLaunchFileDir()]),
    ])
"""


def test_an_include_gets_its_arguments_and_knows_its_own_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.launch.py").write_text(INNER)
    (tmp_path / "outer.launch.py").write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import IncludeLaunchDescription, LogInfo\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "from launch.substitutions import PathJoinSubstitution, ThisLaunchFileDir\n"
        "def generate_launch_description():\n"
        "    path = PathJoinSubstitution([ThisLaunchFileDir(), 'sub', 'inner.launch.py'])\n"
        "    include = IncludeLaunchDescription(PythonLaunchDescriptionSource([path]),\n"
        "                                       launch_arguments={'speed': '3'}.items())\n"
        "    return LaunchDescription([include, LogInfo(msg=['after in ', ThisLaunchFileDir()])])\n"
    )
    assert run(IncludeLaunchDescription(PythonLaunchDescriptionSource(str(tmp_path / "outer.launch.py")))) == 0
    out = capfd.readouterr().out
    assert f"speed 3 in {tmp_path / 'sub'}\n" in out
    assert f"after in {tmp_path}\n" in out
    assert run(IncludeLaunchDescription(str(tmp_path / "sub" / "inner.launch.py"))) == 1
    assert "missing required argument 'speed'" in capfd.readouterr().out


def test_a_launch_file_without_a_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.launch.py"
    path.write_text("x = 1\n")
    with pytest.raises(InvalidLaunchFileError, match="generate_launch_description"):
        PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())


# -- substitutions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("substitution", "text"),
    [
        (PathJoinSubstitution(["a", ["b", TextSubstitution(text="c")], "d.yaml"]), "a/bc/d.yaml"),
        (PythonExpression("2 * (3 + 4) if not False else 0"), "14"),
        (PythonExpression("round(math.sqrt(2), 3)"), "1.414"),
        (PythonExpression("'a,b'.split(',')[1].upper() + str(len([1, 2]))"), "B2"),
        (PythonExpression("1 < 2 <= 2 and 'x' != 'y'"), "True"),
        (Command(f"{PYTHON} -c \"print('out')\""), "out\n"),
        (IfElseSubstitution("1", if_value="yes", else_value="no"), "yes"),
        (FindExecutable(name="sh"), None),
    ],
)
def test_substitutions_give_their_text(substitution: PythonExpression, text: str | None) -> None:
    found = substitution.perform(LaunchContext())
    assert os.access(found, os.X_OK) if text is None else found == text


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "'{0.__class__}'.format(1)",
        "math.__dict__",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "9 ** 99999",
        "open('x')",
        "unquoted == 'text'",
        "1 +",
    ],
)
def test_an_expression_can_neither_reach_python_itself_nor_fail_without_a_reason(expression: str) -> None:
    with pytest.raises(SubstitutionFailure, match="the expression"):
        PythonExpression(expression).perform(LaunchContext())


@pytest.mark.parametrize(
    ("substitution", "reason"),
    [
        (LaunchConfiguration("absent"), "launch configuration 'absent' does not exist"),
        (EnvironmentVariable("ABSENT_VARIABLE"), "environment variable 'ABSENT_VARIABLE' does not exist"),
        (FindExecutable(name="no-such-program"), "'no-such-program' not found on the PATH"),
        (Command(f"{PYTHON} -c 'import sys; sys.exit(3)'"), "exited with 3"),
        (ThisLaunchFileDir(), "outside of a launch file"),
    ],
)
def test_a_substitution_without_a_text_says_why(substitution: LaunchConfiguration, reason: str) -> None:
    with pytest.raises(SubstitutionFailure, match=reason):
        substitution.perform(LaunchContext())


# -- processes -------------------------------------------------------------------------------------------------------


def test_output_is_shown_line_by_line_behind_the_name_of_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    code = run(
        python(
            "import sys; print('first 100% {x}'); print('on stderr', file=sys.stderr); sys.stdout.write('no end ä')",
            name="talker",
        )
    )
    out = capfd.readouterr().out
    name = next(line for line in out.splitlines() if "process started with pid" in line).split("]: ")[0].split(" [")[1]
    assert code == 0
    assert name.startswith("talker-")
    for text in ("first 100% {x}", "on stderr", "no end ä"):
        assert f"[{name}] {text}\n" in out
    assert f"[INFO] [{name}]: process has finished cleanly" in out


def test_what_is_not_for_the_screen_is_in_the_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    from launch.logging import launch_config

    run(python("print('for the file')", output="log"))
    assert "for the file" not in capfd.readouterr().out
    assert "for the file" in Path(launch_config.get_log_file_path()).read_text()


def test_a_required_process_that_fails_ends_all_and_the_launch_fails(capfd: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    code = run(
        python(READY + "time.sleep(60)"),
        python("import sys, time; time.sleep(0.3); sys.exit(3)", name="vital", on_exit=Shutdown()),
    )
    out = capfd.readouterr().out
    assert code == 1
    assert time.monotonic() - begin < 5
    assert "process has died" in out
    assert "exit code 3" in out
    assert "sending signal 'SIGINT' to process[child-" in out


def test_a_required_process_that_ends_well_ends_all_without_an_error() -> None:
    assert run(python("import time; time.sleep(60)"), python("pass", on_exit=[EmitEvent(event=ShutdownEvent())])) == 0


def test_ctrl_c_once_ends_every_process_with_all_that_it_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pids = tmp_path / "pids"
    child = (
        "import os, subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)'])\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} {{inner.pid}}\\n')\n"
        "time.sleep(60)\n"
    )
    when(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2, press_ctrl_c)
    assert run(python(child, sigterm_timeout="0.5"), python(child, sigterm_timeout="0.5")) == 0
    assert "user interrupted with ctrl-c (SIGINT)" in capfd.readouterr().out
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_a_process_that_ignores_signals_is_terminated_and_then_killed(capfd: pytest.CaptureFixture[str]) -> None:
    started: list[str] = []
    stubborn = python(
        "import signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n"
        "print('ready', flush=True)\nwhile True: time.sleep(1)\n",
        sigterm_timeout="0.3",
        sigkill_timeout="0.3",
    )
    heard = OnProcessIO(
        target_action=stubborn, on_stdout=lambda event: [note(started, "x"), Shutdown()], handle_once=True
    )
    assert run(RegisterEventHandler(heard), stubborn) == 0
    out = capfd.readouterr().out
    assert started == ["x"]
    assert "failed to terminate '0.3' seconds after receiving 'SIGINT', escalating to 'SIGTERM'" in out
    assert "escalating to 'SIGKILL'" in out
    assert "exit code -9" in out


def test_a_process_is_respawned_as_often_as_allowed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(python("print('once more')", respawn=True, respawn_delay=0.05, respawn_max_retries=2)) == 0
    assert capfd.readouterr().out.count("once more\n") == 3


def test_ctrl_c_ends_a_process_that_would_be_respawned(capfd: pytest.CaptureFixture[str]) -> None:
    process = python(READY + "time.sleep(60)", respawn=True)
    when(lambda: process.process_details is not None and "pid" in process.process_details, press_ctrl_c)
    assert run(process) == 0
    assert capfd.readouterr().out.count("process started") == 1


def test_a_program_that_does_not_exist_ends_the_launch_with_its_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(python("import time; time.sleep(60)"), ExecuteProcess(cmd=["/no/such/program"])) == 1
    assert "cannot be started: [Errno 2] No such file or directory: '/no/such/program'" in capfd.readouterr().out


def test_event_handlers_and_timers_chain_actions_in_order() -> None:
    seen: list[str] = []
    first = python("print('hello')")
    second = python("pass")
    code = run(
        RegisterEventHandler(OnProcessStart(target_action=first, on_start=[note(seen, "started")])),
        RegisterEventHandler(OnProcessExit(target_action=first, on_exit=[note(seen, "ended"), second])),
        RegisterEventHandler(
            OnProcessExit(
                target_action=second,
                on_exit=lambda event, context: TimerAction(
                    period=0.1, actions=[note(seen, f"timer after {event.returncode}")]
                ),
            )
        ),
        RegisterEventHandler(OnShutdown(on_shutdown=[note(seen, "shutdown")])),
        TimerAction(period=0.0, actions=[first]),
    )
    assert (code, seen) == (0, ["started", "ended", "timer after 0", "shutdown"])


def test_a_shutdown_cancels_timers_that_have_not_fired() -> None:
    seen: list[str] = []
    begin = time.monotonic()
    run(TimerAction(period=30.0, actions=[note(seen, "late")]), TimerAction(period=0.1, actions=[Shutdown()]))
    assert seen == []
    assert time.monotonic() - begin < 5


def test_processes_get_environment_folder_prefix_and_terminal_as_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(
        SetEnvironmentVariable("FROM_LAUNCH", "1"),
        python(
            "import os, sys; print(os.environ['FROM_LAUNCH'], os.environ['MORE'], os.environ['PRE'], os.getcwd(), "
            "sys.stdout.isatty(), os.environ['PYTHONUNBUFFERED'])",
            cwd=str(tmp_path),
            additional_env={"MORE": "2"},
            prefix="env PRE=3",
            emulate_tty=True,
        ),
        ExecuteProcess(cmd=["echo $((1 + 1)) | cat"], shell=True, output="screen", name="sh"),
    )
    os.environ.pop("FROM_LAUNCH", None)
    out = capfd.readouterr().out
    assert f"] 1 2 3 {tmp_path} True 1\n" in out
    assert any(line.startswith("[sh-") and line.endswith("] 2") for line in out.splitlines())
