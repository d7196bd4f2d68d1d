"""Actions on events: emit them, register handlers, wait for a time, shut down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from .. import events
from ..action import Action
from ..event import Event
from ..event_handler import BaseEventHandler, EventHandler
from ..event_handlers import OnShutdown
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution


class EmitEvent(Action):
    """Emits an event."""

    def __init__(self, *, event: Event, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(event, Event):
            raise RuntimeError(f"EmitEvent expected an Event, got '{event!r}'")
        self.__event = event

    @property
    def event(self) -> Event:
        """The event."""
        return self.__event

    def describe(self) -> str:
        return f"EmitEvent(event='{self.__event.name}')"

    def execute(self, context: LaunchContext) -> None:
        context.emit_event_sync(self.__event)


class RegisterEventHandler(Action):
    """Registers an event handler."""

    def __init__(self, event_handler: BaseEventHandler, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(event_handler, BaseEventHandler):
            raise RuntimeError(f"RegisterEventHandler expected an event handler, got '{event_handler!r}'")
        self.__event_handler = event_handler

    @property
    def event_handler(self) -> BaseEventHandler:
        """The handler."""
        return self.__event_handler

    def describe_conditional_sub_entities(self) -> list[tuple[str, list[LaunchDescriptionEntity]]]:  # type: ignore[override]
        description, entities = self.__event_handler.describe()
        return [(description, entities)] if entities else []

    def execute(self, context: LaunchContext) -> None:
        context.register_event_handler(self.__event_handler)


class UnregisterEventHandler(RegisterEventHandler):
    """Removes an event handler that was registered before."""

    def execute(self, context: LaunchContext) -> None:
        context.unregister_event_handler(self.event_handler)


class Shutdown(Action):
    """Shuts the launch down.

    As ``on_exit`` of a process it makes that process a required one: when it ends, all end, and where it
    ended with an error `ros2 launch` exits non-zero.
    """

    def __init__(self, *, reason: SomeSubstitutionsType = "reason not given", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__reason = normalize_to_list_of_substitutions(reason)

    def execute(self, context: LaunchContext) -> None:
        reason = perform_substitutions(context, self.__reason)
        cause = context.get_locals_as_dict().get("event")
        if isinstance(cause, events.process.ProcessExited) and reason == "reason not given":
            reason = f"required process [{cause.process_name}] exited with code {cause.returncode}"
        context.emit_event_sync(events.Shutdown(reason=reason))


class TimerAction(Action):
    """Visits its actions once, after ``period`` seconds; a shutdown cancels it, unless told otherwise."""

    def __init__(
        self,
        *,
        period: float | SomeSubstitutionsType,
        actions: Iterable[LaunchDescriptionEntity],
        cancel_on_shutdown: bool | SomeSubstitutionsType = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.__period = normalize_typed_substitution(period, float)
        self.__actions = list(actions)
        self.__cancel_on_shutdown = normalize_typed_substitution(cancel_on_shutdown, bool)
        self.__locals: dict[str, Any] = {}
        self.__cancelled = False
        self.__disarm: Callable[[], None] | None = None
        self.__done: asyncio.Future[None] | None = None

    @property
    def period(self) -> Any:
        """The time to wait, in seconds."""
        return self.__period

    @property
    def actions(self) -> list[LaunchDescriptionEntity]:
        """What follows."""
        return self.__actions

    def describe(self) -> str:
        return f"TimerAction(period={self.__period}, actions=<actions>)"

    def describe_conditional_sub_entities(self) -> list[tuple[str, list[LaunchDescriptionEntity]]]:  # type: ignore[override]
        return [(f"{self.__period} seconds pass without being canceled", self.__actions)]

    def cancel(self) -> None:
        """Do not fire; harmless after it has fired, or before it was started."""
        self.__cancelled = True
        if self.__disarm is not None:
            self.__disarm()
        self.__finish()

    def __finish(self) -> None:
        if self.__done is not None and not self.__done.done():
            self.__done.set_result(None)

    def execute(self, context: LaunchContext) -> None:
        loop = context.asyncio_loop
        assert loop is not None
        self.__done = loop.create_future()
        if self.__cancelled:
            self.__finish()
            return
        self.__locals = context.get_locals_as_dict()

        def answer(event: Any, context: LaunchContext) -> list[LaunchDescriptionEntity]:
            context.extend_locals({**self.__locals, "event": event})
            return self.__actions

        class _Fired(EventHandler):
            def handle(self, event: Event, context: LaunchContext) -> list[LaunchDescriptionEntity]:
                super().handle(event, context)
                return answer(event, context)

        context.register_event_handler(
            _Fired(
                matcher=lambda event: isinstance(event, events.TimerEvent) and event.timer_action is self,
                handle_once=True,
            )
        )

        def fire() -> None:
            context.emit_event_sync(events.TimerEvent(timer_action=self))
            self.__finish()

        if perform_typed_substitution(context, self.__cancel_on_shutdown, bool):

            def on_shutdown(event: Any, context: LaunchContext) -> None:
                self.cancel()

            context.register_event_handler(OnShutdown(on_shutdown=on_shutdown))
        self.__disarm = self._arm(context, perform_typed_substitution(context, self.__period, float), fire)

    def _arm(self, context: LaunchContext, seconds: float, fire: Callable[[], None]) -> Callable[[], None]:
        """Have `fire` called in the loop's thread after `seconds`; return what prevents it."""
        assert context.asyncio_loop is not None
        return context.asyncio_loop.call_later(seconds, fire).cancel

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        return self.__done
