"""The state of one running launch: configurations, environment, event queue and handlers."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, MutableMapping
from types import SimpleNamespace
from typing import Any

from . import logging as launch_logging
from .event import Event
from .event_handler import BaseEventHandler
from .substitution import Substitution


class _Locals(SimpleNamespace):
    """Read access by attribute, with an error that lists what there is."""

    def __getattr__(self, key: str) -> Any:
        raise AttributeError(
            f"context.locals does not contain attribute '{key}', it contains: [{', '.join(vars(self))}]"
        )


class LaunchContext:
    """What launch entities see and change when they are visited."""

    def __init__(self, *, argv: Iterable[str] | None = None, noninteractive: bool = False) -> None:
        self.__argv = list(argv) if argv is not None else []
        self.__noninteractive = noninteractive
        self._event_queue: deque[Event] = deque()
        self._event_arrived: asyncio.Event | None = None
        self._event_handlers: deque[BaseEventHandler] = deque()
        self._completion_futures: list[asyncio.Future[Any]] = []
        self.__globals: dict[str, Any] = {}
        self.__locals: dict[str, Any] = {}
        self.__locals_stack: list[dict[str, Any]] = []
        self.__configurations: dict[str, Any] = {}
        self.__configurations_stack: list[dict[str, Any]] = []
        self.__environment_stack: list[dict[str, str]] = []
        self.__environment_at_start = dict(os.environ)
        self.__is_shutdown = False
        self.__loop: asyncio.AbstractEventLoop | None = None
        # Set when a process whose exit ends the launch had failed; `ros2 launch` exits with it.
        self._return_code = 0
        self.__logger = launch_logging.get_logger("launch")

    @property
    def argv(self) -> list[str]:
        """The arguments given to the launch service."""
        return self.__argv

    @property
    def noninteractive(self) -> bool:
        """Whether there is no terminal."""
        return self.__noninteractive

    @property
    def is_shutdown(self) -> bool:
        """Whether the launch is shutting down."""
        return self.__is_shutdown

    def _set_is_shutdown(self, state: bool) -> None:
        self.__is_shutdown = state

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the running launch service; None while it does not run."""
        return self.__loop

    def _set_asyncio_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.__loop = loop
        self._event_arrived = asyncio.Event() if loop is not None else None
        if self._event_arrived is not None and self._event_queue:
            self._event_arrived.set()

    def add_completion_future(self, completion_future: asyncio.Future[Any]) -> None:
        """Keep the launch service running until the future is done."""
        self._completion_futures.append(completion_future)

    # -- locals and globals -------------------------------------------------------------------

    def extend_globals(self, extensions: dict[str, Any]) -> None:
        """Add values to ``context.locals`` for good; locals of the same name hide them."""
        self.__globals.update(extensions)

    def extend_locals(self, extensions: dict[str, Any]) -> None:
        """Add values to ``context.locals`` until the current event has been handled."""
        self.__locals.update(extensions)

    def _remove_local(self, key: str) -> None:
        self.__locals.pop(key, None)

    def get_locals_as_dict(self) -> dict[str, Any]:
        """Return the locals and globals as one dictionary."""
        return {**self.__globals, **self.__locals}

    @property
    def locals(self) -> Any:
        """Locals and globals as attributes, for example ``context.locals.event``."""
        return _Locals(**self.get_locals_as_dict())

    def _push_locals(self) -> None:
        self.__locals_stack.append(dict(self.__locals))

    def _pop_locals(self) -> None:
        if not self.__locals_stack:
            raise RuntimeError("locals stack unexpectedly empty")
        self.__locals = self.__locals_stack.pop()

    # -- environment and configurations -------------------------------------------------------

    @property
    def environment(self) -> MutableMapping[str, str]:
        """The environment that processes started from here get."""
        return os.environ

    @staticmethod
    def _replace_environment(environment: dict[str, str]) -> None:
        # Item by item: `os.environ = ...` would not reach the C library's environment.
        for key in set(os.environ) - set(environment):
            del os.environ[key]
        os.environ.update(environment)

    def _push_environment(self) -> None:
        self.__environment_stack.append(dict(os.environ))

    def _pop_environment(self) -> None:
        if not self.__environment_stack:
            raise RuntimeError("environment stack unexpectedly empty")
        self._replace_environment(self.__environment_stack.pop())

    def _reset_environment(self) -> None:
        self._replace_environment(self.__environment_at_start)

    @property
    def launch_configurations(self) -> dict[str, Any]:
        """The launch configurations of the current scope."""
        return self.__configurations

    def _push_launch_configurations(self) -> None:
        self.__configurations_stack.append(dict(self.__configurations))

    def _pop_launch_configurations(self) -> None:
        if not self.__configurations_stack:
            raise RuntimeError("launch_configurations stack unexpectedly empty")
        self.__configurations = self.__configurations_stack.pop()

    # -- events -------------------------------------------------------------------------------

    def would_handle_event(self, event: Event) -> bool:
        """Return whether any handler answers ``event``."""
        return any(handler.matches(event) for handler in self._event_handlers)

    def register_event_handler(self, event_handler: BaseEventHandler, append: bool = False) -> None:
        """Add a handler before the others, or after them with ``append``."""
        if append:
            self._event_handlers.append(event_handler)
        else:
            self._event_handlers.appendleft(event_handler)

    def unregister_event_handler(self, event_handler: BaseEventHandler) -> None:
        """Remove a handler; ValueError where it is not registered."""
        self._event_handlers.remove(event_handler)

    def emit_event_sync(self, event: Event) -> None:
        """Queue an event; call it from the launch service's thread."""
        self.__note_failure(event)
        self.__logger.debug(f"emitting event: '{event.name}'")
        self._event_queue.append(event)
        if self._event_arrived is not None:
            self._event_arrived.set()

    async def emit_event(self, event: Event) -> None:
        """Queue an event from a coroutine."""
        self.emit_event_sync(event)

    def __note_failure(self, event: Event) -> None:
        """Remember that the launch failed, where a failed process is the cause of its shutdown."""
        from .events import Shutdown
        from .events.process import ProcessExited

        cause = self.__locals.get("event")
        if (
            isinstance(event, Shutdown)
            and isinstance(cause, ProcessExited)
            and cause.returncode != 0
            and not self.__is_shutdown
        ):
            self._return_code = 1

    def perform_substitution(self, substitution: Substitution) -> str:
        """Return the text of one substitution."""
        return substitution.perform(self)
