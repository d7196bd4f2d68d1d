"""Contexts: what `rclpy.init` starts and `rclpy.shutdown` ends."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

from ros2_lite.dds.domain import (
    DomainError,
    Participant,
    check_domain_id,
    discovery_config,
    domain_id_from_environment,
)

from rclpy._arguments import Arguments
from rclpy._entity import Handle, leave_later
from rclpy._rclpy_pybind11 import RCLError
from rclpy.impl import rcutils_logger

if TYPE_CHECKING:
    from rclpy._graph import Graph

contexts: weakref.WeakSet[Context] = weakref.WeakSet()
"""The contexts that are alive, for the signal handlers."""


class Context:
    """A lifetime of communication in one domain; can be started once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], Callable[[], None] | None]] = []
        self._initialized = False
        self._ok = False
        self._arguments = Arguments([])
        self._domain_id = 0
        self._graph: Graph | None = None
        self._nodes = 0
        self._handle = Handle(lambda: None)
        self.installed_signal_handlers = False

    @property
    def handle(self) -> Handle | None:
        """What stands for it in a ``with`` block; None before `init`."""
        return self._handle if self._initialized else None

    def init(
        self, args: list[str] | None = None, *, initialize_logging: bool = True, domain_id: int | None = None
    ) -> None:
        """Read the arguments (the process's if None) and start.  RuntimeError when it was started before."""
        with self._lock:
            if self._initialized:
                raise RuntimeError("Context.init() must only be called once")
            if domain_id is not None and domain_id < 0:
                raise RuntimeError(f"Domain id ({domain_id}) should not be lower than zero.")
            self._arguments = Arguments(sys.argv if args is None else args)
            try:
                discovery_config()
                self._domain_id = domain_id_from_environment() if domain_id is None else check_domain_id(domain_id)
            except DomainError as error:
                raise RCLError(str(error)) from None
            for name, level in self._arguments.log_levels.items():
                rcutils_logger.set_level(name, level)
            self._initialized = self._ok = True
            contexts.add(self)

    def ok(self) -> bool:
        """Whether it was started and not shut down."""
        return self._ok

    def get_domain_id(self) -> int:
        """The domain; RuntimeError before `init`."""
        if not self._initialized:
            raise RuntimeError("Context must be initialized before it can have a domain id")
        return self._domain_id

    def shutdown(self) -> None:
        """End it, and call the shutdown callbacks.  RuntimeError when it is not running."""
        if not self._end():
            raise RuntimeError("Context must be initialized before it can be shutdown")

    def try_shutdown(self) -> None:
        """End it if it is running."""
        self._end()

    def _end(self) -> bool:
        with self._lock:
            if not self._ok:
                return False
            self._ok = False
            callbacks, self._callbacks = self._callbacks, []
            contexts.discard(self)
        for reference in callbacks:
            callback = reference()
            if callback is not None:
                callback()
        self._release(0)
        return True

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back at shutdown; methods are held weakly."""
        if not callable(callback):
            raise TypeError("callback should be a callable")
        reference: Any = weakref.WeakMethod(callback) if isinstance(callback, MethodType) else lambda: callback
        with self._lock:
            ended = self._initialized and not self._ok
            if not ended:
                self._callbacks = [known for known in self._callbacks if known() is not None and known != reference]
                self._callbacks.append(reference)
        if ended:
            callback()

    def _join(self) -> Graph:
        """Count a node in; returns the graph of the participant, which the first node makes."""
        from rclpy._graph import Graph

        with self._lock:
            if self._graph is None:
                try:
                    self._graph = Graph(Participant(self._domain_id, b"enclave=/;"))
                except DomainError as error:
                    raise RCLError(str(error)) from None
            self._nodes += 1
            return self._graph

    def _release(self, nodes: int = 1) -> None:
        """Count a node out; the participant leaves with the last node of a context that has ended."""
        with self._lock:
            self._nodes -= nodes
            if self._nodes <= 0 and not self._ok and self._graph is not None:
                graph, self._graph = self._graph, None
                graph.close()

    def __del__(self) -> None:
        graph = getattr(self, "_graph", None)
        if graph is not None:  # it was never shut down, and all its nodes are gone
            leave_later(graph.close)

    def track_node(self, node: Any) -> None:
        """There for programs that call it; nodes are counted anyway."""

    def destroy(self) -> None:
        """There for programs that call it; what a context holds goes with its last node."""

    def __enter__(self) -> Context:
        """Start it with the process's arguments."""
        self.init()
        return self

    def __exit__(self, *exc: object) -> None:
        self.try_shutdown()
