"""Runs a process: starts it, shows its output, respawns it, and ends it with its whole process group."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from .. import logging as launch_logging
from ..action import Action
from ..conditions import evaluate_condition_expression
from ..descriptions import Executable
from ..event_handler import EventHandler
from ..event_handlers import OnProcessExit, OnShutdown
from ..events import ExecutionComplete
from ..events.process import (
    ProcessExited,
    ProcessStarted,
    ProcessStderr,
    ProcessStdout,
    ShutdownProcess,
    SignalProcess,
)
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..process_group import ProcessGroup
from ..some_entities_type import SomeEntitiesType
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitutions import LaunchConfiguration
from ..utilities import (
    normalize_to_list_of_entities,
    normalize_to_list_of_substitutions,
    perform_substitutions,
)
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution

OnExit = SomeEntitiesType | Callable[[ProcessExited, LaunchContext], SomeEntitiesType | None]


class ExecuteLocal(Action):
    """Runs what an :class:`Executable` describes.

    Every process leads a process group of its own, and signals go to the group: what a shell, a prefix or
    the program itself has started ends with it. On shutdown the group gets SIGINT; SIGTERM after
    ``sigterm_timeout`` seconds (default 5); SIGKILL after ``sigkill_timeout`` more (default 5).

    :param output: 'screen', 'log', 'both', 'own_log', 'full' or a dictionary; see
        :func:`launch.logging.get_output_loggers`.
    :param output_format: ``str.format`` text with ``line`` and ``this`` (this action).
    :param emulate_tty: give the process a terminal, for colours and line buffering.
    :param on_exit: what follows its end; ``Shutdown()`` makes the process a required one.
    :param respawn: start it again whenever it ends, after ``respawn_delay`` seconds, at most
        ``respawn_max_retries`` times (negative: for ever).
    """

    def __init__(
        self,
        *,
        process_description: Executable,
        shell: bool = False,
        sigterm_timeout: float | SomeSubstitutionsType | None = None,
        sigkill_timeout: float | SomeSubstitutionsType | None = None,
        emulate_tty: bool | SomeSubstitutionsType = False,
        output: Any = "log",
        output_format: str = "[{this.process_description.final_name}] {line}",
        cached_output: bool = False,
        log_cmd: bool = False,
        on_exit: OnExit | None = None,
        respawn: bool | SomeSubstitutionsType = False,
        respawn_delay: float | None = None,
        respawn_max_retries: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.process_description = process_description
        self.shell = shell
        self.__sigterm_timeout = self.__timeout("sigterm_timeout", sigterm_timeout)
        self.__sigkill_timeout = self.__timeout("sigkill_timeout", sigkill_timeout)
        self.__emulate_tty = normalize_typed_substitution(emulate_tty, bool)
        output = os.environ.get("OVERRIDE_LAUNCH_PROCESS_OUTPUT", output)
        self.output = output if isinstance(output, dict) else normalize_to_list_of_substitutions(output)
        self.__output_format = output_format
        self.__cached: dict[str, list[str]] | None = {"stdout": [], "stderr": []} if cached_output else None
        self.__log_cmd = log_cmd
        self.__on_exit = (
            on_exit
            if callable(on_exit) and not isinstance(on_exit, LaunchDescriptionEntity)
            else normalize_to_list_of_entities(on_exit)  # type: ignore[arg-type]
        )
        self.__respawn = normalize_typed_substitution(respawn, bool)
        self.__respawn_delay = respawn_delay or 0.0
        self.__retries_left = respawn_max_retries if respawn_max_retries >= 0 else None
        self.__details: dict[str, Any] | None = None
        self.__group: ProcessGroup | None = None
        self.__stopping: asyncio.Event | None = None
        self.__completed: asyncio.Future[None] | None = None
        self.return_code: int | None = None

    @staticmethod
    def __timeout(name: str, value: float | SomeSubstitutionsType | None) -> Any:
        return normalize_typed_substitution(LaunchConfiguration(name, default=5) if value is None else value, float)

    @property
    def process_details(self) -> dict[str, Any] | None:
        """Name, pid, cmd, cwd and env of the process; None before it is prepared."""
        return self.__details

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        return self.__on_exit if isinstance(self.__on_exit, list) else []

    def get_stdout(self) -> str:
        """Return all of stdout so far; needs ``cached_output=True``."""
        return self.__get_cached("stdout")

    def get_stderr(self) -> str:
        """Return all of stderr so far; needs ``cached_output=True``."""
        return self.__get_cached("stderr")

    def __get_cached(self, stream: str) -> str:
        if self.__cached is None:
            raise RuntimeError("the output is not kept; construct the action with cached_output=True")
        return "".join(line + "\n" for line in self.__cached[stream])

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        return self.__completed

    # -- execution ----------------------------------------------------------------------------

    def prepare(self, context: LaunchContext) -> None:
        """Evaluate all that depends on the context, while its scope is the action's own."""
        self.process_description.prepare(context, self)
        description = self.process_description
        self.__details = {
            "action": self,
            "name": description.final_name,
            "cmd": description.final_cmd,
            "cwd": description.final_cwd,
            "env": description.final_env,
        }

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        if self.__completed is not None:
            raise RuntimeError(f"the action {self.describe()} was executed more than once")
        self.prepare(context)
        if context.is_shutdown:
            return None
        loop = context.asyncio_loop
        assert loop is not None
        assert self.process_description.final_name is not None
        name = self.process_description.final_name
        output = self.output if isinstance(self.output, dict) else perform_substitutions(context, self.output)
        loggers = dict(zip(("stdout", "stderr"), launch_logging.get_output_loggers(name, output), strict=False))
        emulate_tty = perform_typed_substitution(context, self.__emulate_tty, bool)
        if "emulate_tty" in context.launch_configurations:
            emulate_tty = evaluate_condition_expression(
                context, normalize_to_list_of_substitutions(context.launch_configurations["emulate_tty"])
            )
        respawn = perform_typed_substitution(context, self.__respawn, bool)
        sigterm = perform_typed_substitution(context, self.__sigterm_timeout, float)
        sigkill = perform_typed_substitution(context, self.__sigkill_timeout, float)

        def on_started(pid: int) -> None:
            assert self.__details is not None
            self.__details["pid"] = pid
            launch_logging.get_logger(name).info(f"process started with pid [{pid}]")
            context.emit_event_sync(ProcessStarted(**self.__details))

        def on_line(stream: str, line: str) -> None:
            if self.__cached is not None:
                self.__cached[stream].append(line)
            text = self.__output_format.format(line=line, this=self)
            loggers[stream].info(text, extra={"process_output": True})

        def on_data(stream: str, data: bytes) -> None:
            assert self.__details is not None
            event_class = ProcessStdout if stream == "stdout" else ProcessStderr
            event = event_class(text=data, **self.__details)
            if context.would_handle_event(event):  # output is frequent, and rarely listened to
                context.emit_event_sync(event)

        self.__stopping = asyncio.Event()
        self.__completed = loop.create_future()
        self.__group = ProcessGroup(
            name=name,
            emulate_tty=emulate_tty,
            shell=self.shell,
            on_started=on_started,
            on_line=on_line,
            on_data=on_data,
            sigterm_timeout=sigterm,
            sigkill_timeout=sigkill,
        )
        self.__register_handlers(context)
        task = loop.create_task(self.__run(context, respawn))
        task.add_done_callback(self.__finish)
        return None

    def __finish(self, task: asyncio.Task[None]) -> None:
        assert self.__completed is not None
        error = None if task.cancelled() else task.exception()
        if not self.__completed.done():
            if error is None:
                self.__completed.set_result(None)
            else:
                self.__completed.set_exception(error)

    def __register_handlers(self, context: LaunchContext) -> None:
        def shutdown(event: Any, context: LaunchContext) -> None:
            if isinstance(event, ShutdownProcess) and not event.process_matcher(self):
                return
            self.__begin_shutdown(context)

        def send_signal(event: SignalProcess, context: LaunchContext) -> None:
            if event.process_matcher(self) and self.__group is not None:
                self.__group.send_signal(event.signal)

        class _Call(EventHandler):
            def __init__(self, event_class: type, function: Callable[[Any, LaunchContext], None]) -> None:
                super().__init__(matcher=lambda event: isinstance(event, event_class))
                self.function = function

            def handle(self, event: Any, context: LaunchContext) -> None:
                super().handle(event, context)
                self.function(event, context)

        context.register_event_handler(_Call(ShutdownProcess, shutdown))
        context.register_event_handler(_Call(SignalProcess, send_signal))
        context.register_event_handler(OnShutdown(on_shutdown=shutdown))
        if self.__on_exit:
            context.register_event_handler(OnProcessExit(target_action=self, on_exit=self.__on_exit))

    def __begin_shutdown(self, context: LaunchContext) -> None:
        assert self.__stopping is not None
        assert context.asyncio_loop is not None
        if self.__stopping.is_set() or self.__group is None or self.__group.pid is None:
            self.__stopping.set()
            return
        self.__stopping.set()
        if self.__completed is not None and self.__completed.done():
            # It has ended, but a program that it put into the background may run on: until now.
            task = context.asyncio_loop.create_task(self.__group.end_leftovers())
            context.add_completion_future(task)
        else:
            # __run waits for this task, so that the loop never closes on it.
            self.__shutdown_task = context.asyncio_loop.create_task(self.__group.shut_down())

    async def __run(self, context: LaunchContext, respawn: bool) -> None:
        """Run the process until it ends for good."""
        assert self.__details is not None
        assert self.__stopping is not None
        assert self.__group is not None
        details, group = self.__details, self.__group
        logger = launch_logging.get_logger(details["name"])
        cmd = " ".join(part for part in details["cmd"] if part.strip())
        while not self.__stopping.is_set():
            if self.__log_cmd:
                logger.info(f"process details: cmd='{cmd}', cwd='{details['cwd']}', custom_env?=True")
            try:
                await group.start(details["cmd"], details["cwd"], details["env"])
            except (OSError, ValueError) as error:
                # The launch cannot be what was described: it ends, and says why.
                raise RuntimeError(f"process [{details['name']}] cannot be started: {error}") from error
            if self.__stopping.is_set():  # the shutdown came while the process was being started
                self.__shutdown_task = asyncio.ensure_future(group.shut_down())
            returncode = await group.wait(self.__stopping)
            self.return_code = returncode
            if returncode == 0:
                logger.info(f"process has finished cleanly [pid {group.pid}]")
            else:
                logger.error(f"process has died [pid {group.pid}, exit code {returncode}, cmd '{cmd}'].")
            context.emit_event_sync(ProcessExited(returncode=returncode, **details))
            if context.is_shutdown or not respawn or self.__retries_left == 0:
                break
            if self.__retries_left is not None:
                self.__retries_left -= 1
            try:
                await asyncio.wait_for(self.__stopping.wait(), self.__respawn_delay or 0.001)
            except asyncio.TimeoutError:
                continue
        if self.__shutdown_task is not None:
            await self.__shutdown_task
        context.emit_event_sync(ExecutionComplete(action=self))

    __shutdown_task: asyncio.Task[None] | asyncio.Future[None] | None = None

    def send_signal(self, signal_number: signal.Signals) -> None:
        """Send a signal to the process group, where it runs."""
        if self.__group is not None:
            self.__group.send_signal(signal_number)
