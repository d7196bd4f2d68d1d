"""Executors: they wait for what nodes have, and run the callbacks.

One DDS waitset and one guard condition per executor.  Everything with a DDS condition is attached to it, timers give
the wait its timeout, so nothing is polled; whatever changes the picture from another thread sets the guard.  Entities
whose callback group is busy are detached, since their condition would stay true and wake the wait again and again.
"""

# ruff: noqa: N818 (the names are ROS's)

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future as PoolFuture
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ros2_lite.dds.entities import GuardCondition, WaitSet
from ros2_lite.dds.lib import INFINITY, RETCODE_ALREADY_DELETED, RETCODE_BAD_PARAMETER, DDSError

from rclpy._entity import Entity, Work
from rclpy.context import Context
from rclpy.task import Future, Task
from rclpy.timer import Timer
from rclpy.utilities import get_default_context
from rclpy.waitable import WaitableEntity

if TYPE_CHECKING:
    from rclpy.node import Node

_GUARD = 0
"""The guard condition's key in the waitset; entities count from 1."""


class TimeoutException(Exception):
    """Nothing was ready in time."""


class ShutdownException(Exception):
    """The executor was shut down."""


class ExternalShutdownException(Exception):
    """The context was shut down, by a signal for example, while an executor was spinning."""


class ConditionReachedException(Exception):
    """What a spin waited for has happened."""


async def await_or_execute(callback: Callable[..., Any], *args: Any) -> Any:
    """Await a coroutine function, or call an ordinary one."""
    result = callback(*args)
    return await result if inspect.iscoroutinefunction(callback) else result


class Executor:
    """Base of the executors."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = get_default_context() if context is None else context
        self._nodes: list[Node] = []
        self._lock = threading.RLock()
        self._waitset = WaitSet()
        self._guard = GuardCondition()
        self._waitset.attach(self._guard.handle, _GUARD)
        self._attached: dict[int, int] = {}
        # Weakly: an executor that is not spinning must not keep alive what nobody else has any more.
        self._by_key: dict[int, list[weakref.ref[Entity]]] = {}
        self._next_key = 1
        self._rank: dict[int, int] = {}
        """By key: the order in which a node's things are handled when they are ready at the same time."""
        self._timers: list[weakref.ref[Timer]] = []
        self._waitables: list[WaitableEntity] = []
        self._stale = True
        self._only: list[Node] | None = None
        self._ready: deque[weakref.ref[Entity]] = deque()
        self._returned = False
        self._skips = 0
        self._tasks: deque[Task] = deque()
        self._batch: list[Task] = []
        self._tasks_turn = True
        self._is_shutdown = False
        self._working: list[int] = []
        self._idle = threading.Condition()
        self._context.on_shutdown(self.wake)

    # ---- nodes and tasks ------------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        return self._context

    def add_node(self, node: Node) -> bool:
        """Run a node's callbacks from now on; False when it was there already."""
        with self._lock:
            if node in self._nodes:
                return False
            self._nodes.append(node)
        node.executor = self
        self._returned = True
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        """Leave a node's callbacks alone from now on."""
        with self._lock:
            if node not in self._nodes:
                return
            self._nodes.remove(node)
        for entity in node._rclpy_entities():
            if entity._executor() is self:
                entity._set_executor(None)
        self.wake()  # the node still names this executor as its own, as in ROS 2: its tasks go here

    def get_nodes(self) -> list[Node]:
        with self._lock:
            return list(self._nodes)

    def wake(self) -> None:
        """Make a waiting spin look again at what there is."""
        self._stale = True
        self._guard.set()

    def _nudge(self) -> None:
        """Make a waiting spin look again at the time."""
        self._guard.set()

    def create_task(self, callback: Callable[..., Any] | Coroutine[Any, Any, Any], *args: Any, **kwargs: Any) -> Task:
        """Run a callback or coroutine in the executor; the future of its result."""
        task = Task(callback, args, kwargs, executor=self)
        self._enqueue(task)
        return task

    def _enqueue(self, task: Task) -> None:
        self._tasks.append(task)
        self._guard.set()

    # ---- spinning -------------------------------------------------------------------------------------------------

    def spin(self) -> None:
        """Run callbacks until the executor (returns) or the context (ExternalShutdownException) is shut down."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once()

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Run callbacks until the future is done, the time is over, or a shutdown."""
        future._on_done(self.wake)
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self._context.ok() and not self._is_shutdown and not future.done():
            left = None if deadline is None else deadline - time.monotonic()
            self.spin_once_until_future_complete(future, None if left is None else max(0.0, left))
            if left is not None and left <= 0:
                return

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run the next callback; waits for it at most `timeout_sec` (None or negative: for ever)."""
        self._spin_once(timeout_sec, None)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Run the next callback, unless the future is done first."""
        future._on_done(self.wake)
        self._spin_once(timeout_sec, future.done)

    def _spin_once(self, timeout_sec: float | None, condition: Callable[[], bool] | None) -> None:
        try:
            entity, work = self._next(timeout_sec, condition)
        except (TimeoutException, ConditionReachedException, ShutdownException):
            return
        self._execute(entity, work)

    def _execute(self, entity: Entity | None, work: Work) -> None:
        """Run the work, here and now; errors are the caller's."""
        raise NotImplementedError

    def can_execute(self, entity: Entity) -> bool:
        """Whether an entity's callback may start now."""
        return entity.callback_group is None or entity.callback_group.can_execute(entity)

    def wait_for_ready_callbacks(
        self,
        timeout_sec: float | None = None,
        nodes: list[Node] | None = None,
        condition: Callable[[], bool] | None = None,
    ) -> tuple[Task, Entity | None, Node | None]:
        """For executors of one's own: the next work as a task to be called (here or in a thread), and whose it is.

        Waits for all nodes unless some are named.  Raises TimeoutException, ShutdownException,
        ExternalShutdownException, ConditionReachedException.
        """
        if nodes != self._only:
            self._only = nodes
            self._stale = True
        entity, work = self._next(timeout_sec, condition)
        if entity is None:
            return work[0], None, None  # type: ignore[return-value]
        owner = next((node for node in self.get_nodes() if entity in node._rclpy_entities()), None)
        return Task(self._run, (entity, work), executor=self), entity, owner

    def _wait_for_ready_callbacks(
        self,
        timeout_sec: float | None = None,
        nodes: list[Node] | None = None,
        condition: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[Task, Entity | None, Node | None]]:
        """The same as a generator, for executors that were written so."""
        while True:
            yield self.wait_for_ready_callbacks(timeout_sec, nodes, condition)

    # ---- waiting --------------------------------------------------------------------------------------------------

    def _next(self, timeout_sec: float | None, condition: Callable[[], bool] | None) -> tuple[Entity | None, Work]:
        """The next work, with its group reserved."""
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic_ns() + int(timeout_sec * 1e9)
        waited = False
        while True:
            if self._is_shutdown:
                raise ShutdownException
            if not self._context.ok():
                raise ExternalShutdownException
            if condition is not None and condition():
                raise ConditionReachedException
            while self._batch:
                task = self._batch.pop()  # the newest first, as in Jazzy
                if not task.done():
                    return None, (task, ())
            if self._ready and self._returned:
                self._rebuild()  # `rclpy.spin_once` takes its node away and brings it back: who was ready still is
            while self._ready:
                entity = self._ready.popleft()()
                work = None if entity is None else self._reserve(entity)
                if work is not None:
                    return entity, work
            if waited and deadline is not None and time.monotonic_ns() >= deadline:
                raise TimeoutException
            # Tasks take turns with everything else: one that never ends must not shut out timers and topics.
            if self._tasks and self._tasks_turn:
                self._tasks_turn = False
                while self._tasks:
                    self._batch.insert(0, self._tasks.pop())
                continue
            self._tasks_turn = True
            self._wait(0 if self._tasks else deadline)
            waited = True

    def _reserve(self, entity: Entity) -> Work | None:
        """Take what a ready entity has, when its group allows."""
        executor = entity._executor()
        if executor is not self:
            return None
        if entity.inline:
            work = entity._take()
            if work is not None:
                work[0](*work[1])
            return None
        group = entity.callback_group
        if group is not None and not group.beginning_execution(entity):
            if entity._skipped is None:
                self._skips += 1
                entity._skipped = self._skips
            return None
        entity._skipped = None
        work = entity._take()
        if work is None and group is not None:
            group.ending_execution(entity)
        return work

    def _release(self, entity: Entity | None) -> None:
        if entity is not None and entity.callback_group is not None:
            entity.callback_group.ending_execution(entity)

    def _wait(self, deadline: int | None) -> None:
        """Wait until something is ready, and note what."""
        if self._stale:
            self._rebuild()
        timeout = INFINITY if deadline is None else max(0, deadline - time.monotonic_ns())
        timers = [timer for timer in (reference() for reference in self._timers) if timer is not None]
        for timer in timers:
            left = timer._wall_until_due()
            if left is not None and left < timeout:
                timeout = left
        extra, timeout = self._attach_waitables(timeout)
        keys = self._waitset.wait(timeout)
        if _GUARD in keys:
            self._guard.take()
        waitables = self._ready_waitables(extra, set(keys)) if self._waitables else []
        ready: list[Entity] = [timer for timer in timers if timer.is_ready()]
        keys.sort(key=lambda key: self._rank.get(key, key))
        found = [reference() for key in keys for reference in self._by_key.get(key, ())]
        ready += [entity for entity in found if entity is not None]
        ready += waitables
        # Who found its group busy comes first, the longest waiting ahead: where a group has more to do than it can,
        # a timer that is always due would otherwise keep every topic out.
        ready.sort(key=lambda entity: (entity._skipped is None, entity._skipped or 0))
        self._ready.extend(weakref.ref(entity) for entity in ready)

    def _attach_waitables(self, timeout: int) -> tuple[dict[int, int], int]:
        """Attach what waitables wait for, for one wait: keys by condition; and the timeout that their timers leave."""
        extra: dict[int, int] = {}
        for entity in self._waitables:
            wait_set = entity.prepare()
            left = wait_set.wall_until_due()
            timeout = timeout if left is None else min(timeout, left)
            for condition in wait_set.conditions - self._attached.keys() - extra.keys():
                extra[condition], self._next_key = self._next_key, self._next_key + 1
                self._waitset.attach(condition, extra[condition])
        return extra, timeout

    def _ready_waitables(self, extra: dict[int, int], keys: set[int]) -> list[WaitableEntity]:
        for condition in extra:
            self._waitset.detach(condition)
        triggered = {condition for condition, key in (*extra.items(), *self._attached.items()) if key in keys}
        return [entity for entity in self._waitables if entity.is_ready(triggered)]

    def _rebuild(self) -> None:
        """Attach what may run now, detach the rest."""
        self._stale = self._returned = False
        with self._lock:
            nodes = [node for node in self._nodes if self._only is None or node in self._only]
        wanted: dict[int, list[Entity]] = {}  # by condition: an endpoint's event handlers share one
        timers, waitables = [], []
        for node in nodes:
            for entity in node._rclpy_entities():
                entity._set_executor(self)
                group = entity.callback_group
                if group is not None and not group.can_execute(entity):
                    continue
                if isinstance(entity, Timer):
                    timers.append(entity)
                elif isinstance(entity, WaitableEntity):
                    waitables.append(entity)
                elif entity._open:
                    wanted.setdefault(entity.condition, []).append(entity)
        self._timers = [weakref.ref(timer) for timer in timers]
        self._waitables = waitables
        for condition, key in list(self._attached.items()):
            if condition not in wanted or self._by_key[key][0]() is not wanted[condition][0]:
                self._waitset.detach(condition)
                del self._attached[condition], self._by_key[key]
        for condition, entities in wanted.items():
            if condition not in self._attached:
                key, self._next_key = self._next_key, self._next_key + 1
                try:
                    self._waitset.attach(condition, key)
                except DDSError as error:
                    if error.code not in (RETCODE_BAD_PARAMETER, RETCODE_ALREADY_DELETED):
                        raise
                    continue  # destroyed by another thread meanwhile
                self._attached[condition] = key
            self._by_key[self._attached[condition]] = [weakref.ref(entity) for entity in entities]
        keys = [self._attached.get(condition) for condition in wanted]
        self._rank = {key: rank for rank, key in enumerate(keys) if key is not None}

    # ---- running --------------------------------------------------------------------------------------------------

    def _run(self, entity: Entity | None, work: Work) -> None:
        """Run one piece of work to its end, or to where a coroutine has to wait."""
        me = threading.get_ident()
        with self._idle:
            started = not self._is_shutdown
            if started:
                self._working.append(me)
        if not started:
            self._release(entity)
            return
        try:
            self._call(entity, work)
        finally:
            with self._idle:
                self._working.remove(me)
                self._idle.notify_all()

    def _call(self, entity: Entity | None, work: Work) -> None:
        callback, arguments = work
        if isinstance(callback, Task) and entity is None:
            callback()
            if callback.done():
                callback.result()  # a task's error ends the spin, as a callback's does
            return
        try:
            result = callback(*arguments)
        except BaseException:
            self._release(entity)
            raise
        if not inspect.iscoroutine(result):
            self._release(entity)
            return
        task = Task(result, executor=self)

        def over() -> None:
            self._release(entity)
            self.wake()

        task._on_done(over)
        task()
        if task.done():
            task.result()
        else:
            self._stale = True

    # ---- the end --------------------------------------------------------------------------------------------------

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop, and wait for running callbacks; False when they take longer than `timeout_sec`.

        A callback may call it: it does not wait for itself.
        """
        with self._idle:
            self._is_shutdown = True
        self.wake()
        limit = None if timeout_sec is None or timeout_sec < 0 else timeout_sec
        me = threading.get_ident()
        with self._idle:
            if not self._idle.wait_for(lambda: all(thread == me for thread in self._working), limit):
                return False
        for node in self.get_nodes():
            self.remove_node(node)
        self._waitset.close()
        self._guard.close()
        return True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def __del__(self) -> None:
        if hasattr(self, "_guard"):
            self._waitset.close()
            self._guard.close()


class SingleThreadedExecutor(Executor):
    """Runs callbacks one after the other in the thread that spins."""

    def _execute(self, entity: Entity | None, work: Work) -> None:
        self._run(entity, work)


class MultiThreadedExecutor(Executor):
    """Runs callbacks in a pool of threads (as many as there are CPUs), as far as their callback groups allow."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        if num_threads is None:
            try:
                num_threads = len(os.sched_getaffinity(0))
            except AttributeError:  # not on every system
                num_threads = os.cpu_count() or 2
        if num_threads == 1:
            warnings.warn(
                "MultiThreadedExecutor is used with a single thread.\nUse the SingleThreadedExecutor instead.",
                stacklevel=2,
            )
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="rclpy-executor")
        self._errors: deque[BaseException] = deque()

    def _spin_once(self, timeout_sec: float | None, condition: Callable[[], bool] | None) -> None:
        with contextlib.suppress(ExternalShutdownException):  # in Jazzy, only a single-threaded spin ends with it
            super()._spin_once(timeout_sec, condition)
        if self._errors:
            raise self._errors.popleft()

    def _execute(self, entity: Entity | None, work: Work) -> None:
        # Until it is over the group may be busy: look again at what can be waited for, now and then.
        self._stale = True
        try:
            future = self._executor.submit(self._run, entity, work)
        except RuntimeError:  # the pool was shut down
            self._release(entity)
            return
        future.add_done_callback(self._finished)

    def _finished(self, future: PoolFuture[None]) -> None:
        error = future.exception()
        if error is not None:
            self._errors.append(error)
        self.wake()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        done = super().shutdown(timeout_sec)
        self._executor.shutdown(wait=False)
        return done
