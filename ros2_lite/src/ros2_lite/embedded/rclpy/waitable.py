"""Waitables of one's own: whatever waits for several things at once and handles them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ros2_lite.dds.entities import GuardCondition

from rclpy._entity import Entity, Work

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.task import Future

_KINDS = ("subscription", "guard_condition", "timer", "client", "service", "event")


class NumberOfEntities:
    """How many entities of each kind a waitable waits for; they add up."""

    __slots__ = ["num_clients", "num_events", "num_guard_conditions", "num_services", "num_subscriptions", "num_timers"]

    def __init__(
        self,
        num_subs: int = 0,
        num_gcs: int = 0,
        num_timers: int = 0,
        num_clients: int = 0,
        num_services: int = 0,
        num_events: int = 0,
    ) -> None:
        self.num_subscriptions = num_subs
        self.num_guard_conditions = num_gcs
        self.num_timers = num_timers
        self.num_clients = num_clients
        self.num_services = num_services
        self.num_events = num_events

    def _counts(self) -> tuple[int, ...]:
        return tuple(getattr(self, f"num_{kind}s") for kind in _KINDS)

    def __add__(self, other: NumberOfEntities) -> NumberOfEntities:
        return type(self)(*(mine + theirs for mine, theirs in zip(self._counts(), other._counts(), strict=True)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({', '.join(map(str, self._counts()))})>"


class Waitable:
    """Base class: override everything below but `add_future` and `remove_future`; then `Node.add_waitable`.

    Before each wait the executor calls `add_to_wait_set`; after it `is_ready`, with the same wait set; if that is true,
    `take_data`, in the thread that waits, and `execute` with what came of it.
    """

    def __init__(self, callback_group: CallbackGroup) -> None:
        self.callback_group = callback_group
        self.callback_group.add_entity(self)
        self._futures: list[Future] = []

    def __enter__(self) -> None:
        """Mark what it waits for as in use."""

    def __exit__(self, *exc: object) -> None:
        """Mark what it waits for as not in use."""

    def add_future(self, future: Future) -> None:
        """A future whose callbacks are to run in the executor that handles this waitable."""
        self._futures.append(future)

    def remove_future(self, future: Future) -> None:
        self._futures.remove(future)

    def is_ready(self, wait_set: WaitSet) -> bool:
        """Whether something that it added to the wait set is ready."""
        raise NotImplementedError("Must be implemented by subclass")

    def take_data(self) -> Any:
        """Take what is there, so that the next wait does not end at once."""
        raise NotImplementedError("Must be implemented by subclass")

    async def execute(self, taken_data: Any) -> None:
        """Handle what was taken."""
        raise NotImplementedError("Must be implemented by subclass")

    def get_num_entities(self) -> NumberOfEntities:
        """How much it adds to the wait set."""
        raise NotImplementedError("Must be implemented by subclass")

    def add_to_wait_set(self, wait_set: WaitSet) -> None:
        """Add handles, and keep the indices that the wait set returns."""
        raise NotImplementedError("Must be implemented by subclass")


class WaitSet:
    """What a waitable adds handles to: those of subscriptions, guard conditions, timers, clients and services."""

    def __init__(self) -> None:
        self._handles: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        self._ready: dict[str, list[bool]] = {}
        self.conditions: set[int] = set()
        """The DDS conditions to wait for."""

    def _add(self, kind: str, handle: Any, condition: int) -> int:
        if condition:
            self.conditions.add(condition)
        self._handles[kind].append(handle)
        return len(self._handles[kind]) - 1

    def add_subscription(self, subscription: Any) -> int:
        return self._add("subscription", subscription, subscription.condition)

    def add_guard_condition(self, guard: GuardCondition) -> int:
        return self._add("guard_condition", guard, guard.handle)

    def add_timer(self, timer: Any) -> int:
        return self._add("timer", timer, 0)

    def add_client(self, client: Any) -> int:
        return self._add("client", client, client.reader.condition)

    def add_service(self, service: Any) -> int:
        return self._add("service", service, service.reader.condition)

    def wall_until_due(self) -> int | None:
        """Wall nanoseconds until the first timer may be due; None without one."""
        left = [timer._wall_until_due() for timer in self._handles["timer"]]
        return min((nanoseconds for nanoseconds in left if nanoseconds is not None), default=None)

    def note(self, triggered: set[int]) -> None:
        """What is ready, given the conditions that were found true."""
        self._ready = {
            "subscription": [handle.condition in triggered for handle in self._handles["subscription"]],
            "guard_condition": [
                handle.handle in triggered and handle.take() for handle in self._handles["guard_condition"]
            ],
            "timer": [handle.is_timer_ready() for handle in self._handles["timer"]],
            "client": [handle.reader.condition in triggered for handle in self._handles["client"]],
            "service": [handle.reader.condition in triggered for handle in self._handles["service"]],
        }

    def is_ready(self, kind: str, index: int | None) -> bool:
        """Whether the handle of that kind and index is ready."""
        found = self._ready.get(kind, [])
        return index is not None and index < len(found) and found[index]


class WaitableEntity(Entity):
    """A waitable as the executor sees it."""

    def __init__(self, waitable: Waitable) -> None:
        super().__init__(waitable.callback_group)
        self.waitable = waitable
        self._wait_set = WaitSet()

    def prepare(self) -> WaitSet:
        """A new wait set with what the waitable waits for."""
        self._wait_set = WaitSet()
        self.waitable.add_to_wait_set(self._wait_set)
        return self._wait_set

    def is_ready(self, triggered: set[int]) -> bool:
        self._wait_set.note(triggered)
        return bool(self.waitable.is_ready(self._wait_set))

    def _take(self) -> Work | None:
        if not self._open:
            return None
        data = self.waitable.take_data()
        executor = self._executor()
        for future in self.waitable._futures:
            future._set_executor(executor)
        execute: Callable[[Any], Any] = self.waitable.execute
        return execute, (data,)
