"""Event handlers for processes, included descriptions and the shutdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .event import Event
from .event_handler import BaseEventHandler, EventHandler
from .events import ExecutionComplete, IncludeLaunchDescription, Shutdown
from .events.process import ProcessExited, ProcessIO, ProcessStarted
from .launch_description_entity import LaunchDescriptionEntity
from .some_entities_type import SomeEntitiesType
from .utilities import normalize_to_list_of_entities

if TYPE_CHECKING:
    from .launch_context import LaunchContext

__all__ = [
    "OnActionEventBase",
    "OnExecutionComplete",
    "OnIncludeLaunchDescription",
    "OnProcessExit",
    "OnProcessIO",
    "OnProcessStart",
    "OnShutdown",
]

Answer = SomeEntitiesType | Callable[[Any, Any], SomeEntitiesType | None]


def _checked(answer: Answer | None, argument: str) -> Answer:
    """Return the answer, entities as a list; TypeError for what is neither entities nor a function."""
    if answer is None:
        return []
    if callable(answer) and not isinstance(answer, LaunchDescriptionEntity):
        return answer
    entities = normalize_to_list_of_entities(answer)  # type: ignore[arg-type]
    if not all(isinstance(entity, LaunchDescriptionEntity) for entity in entities):
        raise TypeError(f"'{argument}' must be a function or launch entities, got {answer!r}")
    return entities


class _Answering(BaseEventHandler):
    """A handler whose answer is a list of entities or a function of (event, context)."""

    def __init__(self, *, answer: Answer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._answer = answer

    @property
    def handler_description(self) -> str:
        return str(self._answer) if callable(self._answer) else "<actions>"

    def describe(self) -> tuple[str, list[LaunchDescriptionEntity]]:
        text, entities = super().describe()
        if not callable(self._answer):
            entities.extend(normalize_to_list_of_entities(self._answer))
        return text, entities

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        super().handle(event, context)
        if callable(self._answer):
            return self._answer(event, context)
        return self._answer


class OnActionEventBase(_Answering):
    """Answers events of one class about one action, about those that a function picks, or about all."""

    def __init__(
        self,
        *,
        action_matcher: Any,
        on_event: Answer | None,
        target_event_cls: type[Event],
        target_action_cls: type | None = None,
        **kwargs: Any,
    ) -> None:
        is_action = isinstance(action_matcher, LaunchDescriptionEntity) and not callable(action_matcher)
        if action_matcher is not None and not is_action and not callable(action_matcher):
            raise TypeError("action_matcher must be an action, a function of an action, or None")
        if is_action and target_action_cls is not None and not isinstance(action_matcher, target_action_cls):
            raise TypeError(
                f"{type(self).__name__}: the target action must be a {target_action_cls.__name__}, "
                f"got a {type(action_matcher).__name__}"
            )
        self._event_class = target_event_cls

        def matches(event: Any) -> bool:
            if not isinstance(event, target_event_cls):
                return False
            action = event.action  # type: ignore[attr-defined]
            if action_matcher is None:
                return True
            return action is action_matcher if is_action else bool(action_matcher(action))

        super().__init__(matcher=matches, answer=_checked(on_event, "on_event"), **kwargs)

    @property
    def matcher_description(self) -> str:
        return f"event == {self._event_class.__name__}"


def _process_action_class() -> type:
    from .actions import ExecuteLocal

    return ExecuteLocal


class OnProcessExit(OnActionEventBase):
    """Answers the end of a process."""

    def __init__(self, *, target_action: Any = None, on_exit: Answer | None, **kwargs: Any) -> None:
        super().__init__(
            action_matcher=target_action,
            on_event=on_exit,
            target_event_cls=ProcessExited,
            target_action_cls=_process_action_class(),
            **kwargs,
        )


class OnProcessStart(OnActionEventBase):
    """Answers the start of a process."""

    def __init__(self, *, target_action: Any = None, on_start: Answer | None, **kwargs: Any) -> None:
        super().__init__(
            action_matcher=target_action,
            on_event=on_start,
            target_event_cls=ProcessStarted,
            target_action_cls=_process_action_class(),
            **kwargs,
        )


class OnProcessIO(OnActionEventBase):
    """Answers the output of a process."""

    def __init__(
        self,
        *,
        target_action: Any = None,
        on_stdin: Callable[[ProcessIO], SomeEntitiesType | None] | None = None,
        on_stdout: Callable[[ProcessIO], SomeEntitiesType | None] | None = None,
        on_stderr: Callable[[ProcessIO], SomeEntitiesType | None] | None = None,
        **kwargs: Any,
    ) -> None:
        def answer(event: ProcessIO, context: LaunchContext) -> SomeEntitiesType | None:
            chosen = on_stdout if event.from_stdout else on_stderr if event.from_stderr else on_stdin
            return None if chosen is None else chosen(event)

        super().__init__(
            action_matcher=target_action,
            on_event=answer,
            target_event_cls=ProcessIO,
            target_action_cls=_process_action_class(),
            **kwargs,
        )


class OnExecutionComplete(OnActionEventBase):
    """Answers the end of an action that takes time."""

    def __init__(self, *, target_action: Any = None, on_completion: Answer | None, **kwargs: Any) -> None:
        super().__init__(
            action_matcher=target_action,
            on_event=on_completion,
            target_event_cls=ExecutionComplete,
            **kwargs,
        )


class OnShutdown(_Answering):
    """Answers the shutdown of the launch."""

    def __init__(self, *, on_shutdown: Answer, **kwargs: Any) -> None:
        super().__init__(
            matcher=lambda event: isinstance(event, Shutdown),
            answer=_checked(on_shutdown, "on_shutdown"),
            **kwargs,
        )

    @property
    def matcher_description(self) -> str:
        return "event is a Shutdown"


class OnIncludeLaunchDescription(EventHandler):
    """Visits the description that an IncludeLaunchDescription event carries."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(matcher=lambda event: isinstance(event, IncludeLaunchDescription), **kwargs)

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        super().handle(event, context)
        assert isinstance(event, IncludeLaunchDescription)
        return event.launch_description
