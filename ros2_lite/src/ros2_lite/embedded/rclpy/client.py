"""Clients of services."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy._entity import Entity, Work
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.publisher import wait_until
from rclpy.service import Pair, RequestHeader, take
from rclpy.service_introspection import (
    REQUEST_SENT,
    RESPONSE_RECEIVED,
    Introspection,
    MakePublisher,
    ServiceIntrospectionState,
)
from rclpy.task import Future

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.clock import Clock
    from rclpy.context import Context
    from rclpy.qos import QoSProfile

_READY_GRACE = 1.0
"""How long a request waits for the server's reply writer after its request reader was matched [s]."""


class Client(Entity):
    """Calls a service.  Made by `Node.create_client`."""

    def __init__(
        self,
        pair: Pair,
        context: Context,
        srv_type: Any,
        srv_name: str,
        qos_profile: QoSProfile,
        callback_group: CallbackGroup,
        *,
        logger: RcutilsLogger,
        make_publisher: MakePublisher,
        on_destroy: Callable[[Client], None],
    ) -> None:
        super().__init__(callback_group)
        self._pair = pair
        self.condition = pair.reader.condition
        self._context = context
        self.srv_type = srv_type
        self.srv_name = srv_name
        self.qos_profile = qos_profile
        self._logger = logger
        self._on_destroy = on_destroy
        self._identity = pair.writer.instance_handle
        self._numbers = itertools.count(1)
        self._pending: dict[int, Future] = {}
        self._lock = threading.Lock()
        self._introspection = Introspection(srv_type, srv_name, make_publisher)

    # Replies only finish futures, which is short: no need to wait for a free thread, or for the group.
    inline = True

    @property
    def service_name(self) -> str:
        """The resolved name."""
        return self.srv_name

    @property
    def handle(self) -> Pair:
        return self._pair

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """Call and wait; None after `timeout_sec`.  Something else must spin the node meanwhile.

        Raises TypeError when the request is of another type.
        """
        done = threading.Event()
        future = self.call_async(request)
        future._on_done(done.set)
        self._context.on_shutdown(done.set)
        if not done.wait(timeout_sec):
            self.remove_pending_request(future)
            return None
        if not future.done() and not future.cancelled():
            self.remove_pending_request(future)
            raise RCLError(f"rclpy was shut down during a call of '{self.srv_name}'")
        return future.result()

    def call_async(self, request: Any) -> Future:
        """Call; the future of the response."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"Expected {self.srv_type.Request}, got {type(request)}")
        if not self._open:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        number = next(self._numbers)
        future = Future()
        with self._lock:
            self._pending[number] = future
        future._on_done(lambda: self.remove_pending_request(future))  # when it is cancelled
        self._await_reply_path()
        try:
            self._pair.write(self.srv_type.Request._codec, RequestHeader(self._identity, number), request)
        except RCLError:
            self.remove_pending_request(future)
            raise
        self._introspection.tell(REQUEST_SENT, self._identity, number, request)
        return future

    def _await_reply_path(self) -> None:
        """Discovery matches the two directions one after the other: a request in between would lose its reply."""
        if self._pair.writer.matched() and not self._pair.has_whole_peer():
            wait_until(self._pair.has_whole_peer, _READY_GRACE, self._context, step=0.001)

    def service_is_ready(self) -> bool:
        """Whether a server is there that a call will reach and that can answer."""
        return self._open and self._pair.has_whole_peer()

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Wait for the service; False after `timeout_sec` or at shutdown."""
        return wait_until(self.service_is_ready, timeout_sec, self._context)

    def get_pending_request(self, sequence_number: int) -> Future:
        """The future of a request; KeyError when it is not pending."""
        return self._pending[sequence_number]

    def remove_pending_request(self, future: Future) -> None:
        """Forget a request: its response will be ignored."""
        with self._lock:
            for number, pending in list(self._pending.items()):
                if pending is future:
                    del self._pending[number]

    def _take(self) -> Work | None:
        if not self._open:
            return None
        taken = take(self._pair.reader, self.srv_type.Response._codec, self._logger, self.srv_name)
        if taken is None or taken[0].client != self._identity:
            return None  # a reply to another client of the same service
        with self._lock:
            future = self._pending.pop(taken[0].sequence_number, None)
        self._introspection.tell(RESPONSE_RECEIVED, self._identity, taken[0].sequence_number, taken[1])
        if future is None:
            return None
        future._set_executor(self._executor())
        return future.set_result, (taken[1],)

    def configure_introspection(
        self, clock: Clock, service_event_qos_profile: QoSProfile, introspection_state: ServiceIntrospectionState
    ) -> None:
        """Publish the client's side of each call on ``SERVICE/_service_event``, or stop to."""
        self._introspection.configure(clock, service_event_qos_profile, introspection_state)

    def destroy(self) -> None:
        if self._open:
            super().destroy()
            self._introspection.close()
            self._pair.close()
            self._on_destroy(self)
