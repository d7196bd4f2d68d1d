"""Runs launch descriptions: the event loop, the signals, the end."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from . import logging as launch_logging
from .event import Event
from .event_handlers import OnIncludeLaunchDescription, OnShutdown
from .events import IncludeLaunchDescription, Shutdown
from .launch_context import LaunchContext
from .launch_description import LaunchDescription
from .launch_description_entity import LaunchDescriptionEntity
from .utilities import normalize_to_list_of_entities, visit_all_entities_and_collect_futures


class LaunchService:
    """Runs what is included into it, until all is done or a shutdown is asked for.

    Ctrl-C (SIGINT), SIGTERM and the loss of the terminal (SIGHUP) shut down in good order: processes get
    SIGINT and time to end. Nothing of the launch stays behind.
    """

    def __init__(self, *, argv: Iterable[str] | None = None, noninteractive: bool = False, debug: bool = False) -> None:
        launch_logging.launch_config.level = logging.DEBUG if debug else logging.INFO
        self.__debug = debug
        self.__logger = launch_logging.get_logger("launch")
        self.__context = LaunchContext(argv=argv, noninteractive=noninteractive)
        self.__context.register_event_handler(OnIncludeLaunchDescription())
        self.__context.register_event_handler(OnShutdown(on_shutdown=self.__on_shutdown))
        self.__lock = threading.RLock()
        self.__loop: asyncio.AbstractEventLoop | None = None
        self.__pairs: list[tuple[LaunchDescriptionEntity, asyncio.Future[Any]]] = []
        self.__shutting_down = False

    @property
    def context(self) -> LaunchContext:
        """The context of this launch."""
        return self.__context

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop while the service runs, else None."""
        return self.__loop

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task in which the service runs, else None."""
        return self.__task

    __task: asyncio.Task[Any] | None = None

    def emit_event(self, event: Event) -> None:
        """Emit an event from any thread; before the service runs it is kept."""
        with self.__lock:
            if self.__loop is None:
                self.__context.emit_event_sync(event)
            else:
                self.__loop.call_soon_threadsafe(self.__context.emit_event_sync, event)

    def include_launch_description(self, launch_description: LaunchDescription) -> None:
        """Have a description visited; from any thread."""
        self.emit_event(IncludeLaunchDescription(launch_description))

    def shutdown(self, force_sync: bool = False) -> None:
        """Ask for the shutdown; from any thread."""
        with self.__lock:
            if self.__loop is not None:
                self.__loop.call_soon_threadsafe(self.__shut_down, "LaunchService.shutdown() called", False)

    def run(self, *, shutdown_when_idle: bool = True) -> int:
        """Run until the end and return the exit code: 0, or 1 where something went wrong.

        :raises RuntimeError: called from another thread than the main one, or while already running.
        """
        return asyncio.run(self.run_async(shutdown_when_idle=shutdown_when_idle))

    async def run_async(self, *, shutdown_when_idle: bool = True) -> int:
        """Run until the end, inside a running event loop."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("LaunchService can only be run in the main thread.")
        with self.__running():
            launch_logging.log_launch_config(logger=self.__logger)
            failed = False
            while True:
                try:
                    if not await self.__step(shutdown_when_idle):
                        break
                except asyncio.CancelledError:
                    self.__logger.error("run task was canceled")
                    failed = True
                    self.__shut_down("the launch was canceled", False)
                    task = asyncio.current_task()
                    if task is not None and hasattr(task, "uncancel"):
                        task.uncancel()
                except Exception as error:
                    failed = True
                    self.__logger.debug(traceback.format_exc())
                    message = f"Caught exception in launch (see debug for traceback): {error}"
                    self.__logger.error(message)
                    self.__shut_down(message, False)
            return 1 if failed else self.__context._return_code

    # -- one step of the loop -----------------------------------------------------------------

    async def __step(self, shutdown_when_idle: bool) -> bool:
        """Handle what is there, or wait for something; return False when all is over."""
        context = self.__context
        if context._event_queue:
            self.__handle_event(context._event_queue.popleft())
            await asyncio.sleep(0)
            return True
        self.__collect_finished()
        pending = [future for _, future in self.__pairs] + context._completion_futures
        if not pending:
            if self.__shutting_down:
                return False
            if shutdown_when_idle:
                self.__shut_down("idle", False)
                return True
        arrived = context._event_arrived
        assert arrived is not None
        arrived.clear()
        waiter = asyncio.ensure_future(arrived.wait())
        try:
            await asyncio.wait([waiter, *pending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        return True

    def __collect_finished(self) -> None:
        """Forget the entities that are done; raise the error of one that failed."""
        finished = [future for _, future in self.__pairs if future.done()]
        finished += [future for future in self.__context._completion_futures if future.done()]
        self.__pairs = [pair for pair in self.__pairs if pair[1] not in finished]
        self.__context._completion_futures = [
            future for future in self.__context._completion_futures if future not in finished
        ]
        errors = [f.exception() for f in finished if not f.cancelled() and f.exception() is not None]
        for error in errors[1:]:
            self.__logger.error(str(error))
        if errors and errors[0] is not None:
            raise errors[0]

    def __handle_event(self, event: Event) -> None:
        context = self.__context
        for handler in tuple(context._event_handlers):
            if not handler.matches(event):
                continue
            context._push_locals()
            try:
                for entity in normalize_to_list_of_entities(handler.handle(event, context)):
                    self.__pairs.extend(visit_all_entities_and_collect_futures(entity, context))
            finally:
                context._pop_locals()

    # -- shutdown -----------------------------------------------------------------------------

    def __shut_down(self, reason: str, due_to_sigint: bool) -> None:
        if not self.__shutting_down:
            self.__shutting_down = True
            self.__context._set_is_shutdown(True)
            self.__context.emit_event_sync(Shutdown(reason=reason, due_to_sigint=due_to_sigint))

    def __on_shutdown(self, event: Shutdown, context: LaunchContext) -> None:
        if not self.__shutting_down and event.reason != "idle":
            self.__logger.info(f"shutting down: {event.reason}")
        self.__shutting_down = True
        context._set_is_shutdown(True)

    def __on_signal(self, number: signal.Signals) -> None:
        said = "user interrupted with ctrl-c (SIGINT)"
        if number is not signal.SIGINT:
            said = f"interrupted by {number.name}, shutting down"
        if self.__interrupted:
            said += " again, ignoring..."
        self.__logger.warning(said)
        self.__interrupted = True
        self.__shut_down(f"ctrl-c ({number.name})", number is signal.SIGINT)

    __interrupted = False

    @contextmanager
    def __running(self) -> Iterator[None]:
        """Own the event loop and the signals for the time of the run."""
        loop = asyncio.get_running_loop()
        with self.__lock:
            if self.__loop is not None:
                raise RuntimeError("LaunchService cannot be run multiple times concurrently.")
            self.__loop = loop
            self.__task = asyncio.current_task()
            self.__context._set_asyncio_loop(loop)
        loop.set_debug(self.__debug)
        handled = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        before = {number: signal.getsignal(number) for number in handled}
        if before[signal.SIGHUP] is signal.SIG_IGN:
            handled.remove(signal.SIGHUP)  # `nohup ros2 launch ... &` survives the terminal
        for number in handled:
            loop.add_signal_handler(number, self.__on_signal, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])
            with self.__lock:
                self.__loop = None
                self.__task = None
                self.__context._set_asyncio_loop(None)
                self.__shutting_down = False
                self.__interrupted = False
