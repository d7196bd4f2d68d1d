"""Futures, and tasks that run callbacks and coroutines in an executor."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.executors import Executor


class Future:
    """A result that is there later.  Waiting for it is the executor's work: ``await`` it, or spin until it is done."""

    def __init__(self, *, executor: Executor | None = None) -> None:
        self._done = False
        self._cancelled = False
        self._result: Any = None
        self._exception: BaseException | None = None
        self._exception_fetched = False
        self._callbacks: list[Callable[[Future], None]] = []
        self._immediate: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._executor: Callable[[], Executor | None] = lambda: None
        self._set_executor(executor)

    def __del__(self) -> None:
        if self._exception is not None and not self._exception_fetched:
            print(f"The following exception was never retrieved: {self._exception}", file=sys.stderr)

    def __await__(self) -> Generator[Future, None, Any]:
        while not self.done():
            yield self
        return self.result()

    def cancel(self) -> None:
        """Ask that nobody goes on with it, and call back; it is done only when a result or an exception is set.

        A task is not stopped by it.
        """
        with self._lock:
            if self._done:
                return
            self._cancelled = True
        self._notify()

    def cancelled(self) -> bool:
        """Whether it was cancelled, and nothing was set since."""
        return self._cancelled

    def done(self) -> bool:
        """Whether there is a result or an exception."""
        return self._done

    def result(self) -> Any:
        """The result; None while there is none.  Raises the exception if one was set."""
        exception = self.exception()
        if exception is not None:
            raise exception
        return self._result

    def exception(self) -> BaseException | None:
        """The exception if one was set."""
        with self._lock:
            self._exception_fetched = True
            return self._exception

    def set_result(self, result: Any) -> None:
        self._finish(result, None)

    def set_exception(self, exception: BaseException) -> None:
        self._exception_fetched = False
        self._finish(None, exception)

    def _finish(self, result: Any, exception: BaseException | None) -> None:
        with self._lock:
            self._result, self._exception, self._done, self._cancelled = result, exception, True, False
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            immediate, self._immediate = self._immediate, []
        for wake in immediate:
            wake()
        for callback in callbacks:
            self._schedule(callback)

    def _schedule(self, callback: Callable[[Future], None]) -> None:
        executor = self._executor()
        if executor is not None:
            executor.create_task(callback, self)
            return
        try:
            callback(self)
        except Exception as error:
            # There is nobody to raise to: the thread that finished the future has nothing to do with the callback.
            warnings.warn(f"Unhandled exception in done callback: {error!r}", RuntimeWarning, stacklevel=2)

    def _set_executor(self, executor: Executor | None) -> None:
        self._executor = (lambda: None) if executor is None else weakref.ref(executor)

    def add_done_callback(self, callback: Callable[[Future], None]) -> None:
        """Call ``callback(future)`` when it is done: as a task of the executor if there is one, else at once."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        self._schedule(callback)

    def remove_done_callback(self, callback: Callable[[Future], None]) -> bool:
        """Forget a callback; whether it was there."""
        with self._lock:
            try:
                self._callbacks.remove(callback)
            except ValueError:
                return False
            return True

    def _on_done(self, wake: Callable[[], None]) -> None:
        """Call `wake` in the thread that finishes or cancels it, without an executor; for waiters inside rclpy."""
        with self._lock:
            if not self.done():
                if wake not in self._immediate:
                    self._immediate.append(wake)
                return
        wake()


class Task(Future):
    """A callback or coroutine to be executed by an executor; the future of its result."""

    def __init__(
        self,
        handler: Callable[..., Any] | Coroutine[Any, Any, Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(executor=executor)
        self._args = args or ()
        self._kwargs = kwargs or {}
        self._handler: Any = handler
        self._is_coroutine = inspect.iscoroutine(handler)
        self._running = threading.Lock()

    def __call__(self) -> None:
        """Run it, up to the next ``await`` of something that is not done; then it resumes when that is."""
        if self.done() or not self._running.acquire(blocking=False):
            return
        pending: Any = None
        waiting = False
        try:
            if not self._is_coroutine:
                result = self._handler(*self._args, **self._kwargs)
                if inspect.iscoroutine(result):
                    self._handler, self._is_coroutine = result, True
                    self._args, self._kwargs = (), {}
                else:
                    self.set_result(result)
            if self._is_coroutine:
                try:
                    pending = self._handler.send(None)
                    waiting = True
                except StopIteration as stop:
                    self.set_result(stop.value)
        except Exception as error:  # whatever the user's code raises belongs to whoever reads the result
            self.set_exception(error)
        finally:
            self._running.release()
        if waiting:
            if isinstance(pending, Future):
                pending._on_done(self._resume)
            else:
                self._resume()

    def _resume(self) -> None:
        executor = self._executor()
        if executor is not None:
            executor._enqueue(self)

    def executing(self) -> bool:
        """Whether it is running right now."""
        return not self.done() and self._running.locked()
