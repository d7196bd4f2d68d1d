"""Actions that run Python functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from ..action import Action
from ..event_handlers import OnShutdown
from ..launch_context import LaunchContext
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_entities_type import SomeEntitiesType
from ..utilities import normalize_to_list_of_entities


class OpaqueFunction(Action):
    """Calls ``function(context, *args, **kwargs)`` and visits the entities that it returns."""

    def __init__(
        self,
        *,
        function: Callable[..., SomeEntitiesType | None],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **left_over_kwargs: Any,
    ) -> None:
        super().__init__(**left_over_kwargs)
        if not callable(function):
            raise TypeError(f"OpaqueFunction expected a function, got '{function!r}'")
        self.__function = function
        self.__args = tuple(args or ())
        self.__kwargs = dict(kwargs or {})

    def describe(self) -> str:
        return f"OpaqueFunction(function={getattr(self.__function, '__qualname__', self.__function)})"

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        return normalize_to_list_of_entities(self.__function(context, *self.__args, **self.__kwargs))


class OpaqueCoroutine(Action):
    """Runs a coroutine function on the launch's event loop; it is cancelled when the launch shuts down."""

    def __init__(
        self,
        *,
        coroutine: Callable[..., Coroutine[Any, Any, None]],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        ignore_context: bool = False,
        **left_over_kwargs: Any,
    ) -> None:
        super().__init__(**left_over_kwargs)
        if not asyncio.iscoroutinefunction(coroutine):
            raise TypeError(f"OpaqueCoroutine expected a coroutine function, got '{coroutine!r}'")
        self.__coroutine = coroutine
        self.__args = tuple(args or ())
        self.__kwargs = dict(kwargs or {})
        self.__ignore_context = ignore_context
        self.__done: asyncio.Future[None] | None = None

    def execute(self, context: LaunchContext) -> None:
        loop = context.asyncio_loop
        assert loop is not None
        args = self.__args if self.__ignore_context else (context, *self.__args)
        task = loop.create_task(self.__coroutine(*args, **self.__kwargs))
        done: asyncio.Future[None] = loop.create_future()
        self.__done = done

        def finish(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def cancel(event: Any, context: LaunchContext) -> None:
            task.cancel()

        task.add_done_callback(finish)
        context.register_event_handler(OnShutdown(on_shutdown=cancel))

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        return self.__done
