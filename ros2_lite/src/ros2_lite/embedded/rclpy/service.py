"""Services, and what they share with clients on the wire.

Requests and replies carry a 16-byte header in front of their body: the client's 64-bit id and a sequence number, which
the server copies from the request into the reply (rmw_cyclonedds).  Both endpoints of a client or server name their
pair in USER_DATA, so that either side can see when a whole pair is matched.
"""

from __future__ import annotations

import inspect
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ros2_lite.dds.entities import Reader, Sample, Writer
from ros2_lite.dds.lib import DDSError
from ros2_lite.dds.qos import user_data_value
from ros2_lite.messages import registry
from ros2_lite.messages.codec import CodecError

from rclpy._entity import Entity, Work
from rclpy._rclpy_pybind11 import RCLError
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.publisher import wait_until
from rclpy.service_introspection import (
    REQUEST_RECEIVED,
    RESPONSE_SENT,
    Introspection,
    MakePublisher,
    ServiceIntrospectionState,
)

if TYPE_CHECKING:
    from rclpy._graph import Graph
    from rclpy.callback_groups import CallbackGroup
    from rclpy.clock import Clock
    from rclpy.context import Context
    from rclpy.qos import QoSProfile

HEADER = struct.Struct("<Qq")
_REPLY_GRACE = 1.0
"""How long a reply waits for the discovery of its client's reader [s]."""
_REMEMBERED = 1024
"""How many clients are remembered as reachable."""


class RequestHeader(NamedTuple):
    """Whose request it is."""

    client: int
    sequence_number: int
    publication: int = 0
    """The library's handle of the writer that it came from; not on the wire."""


def take(reader: Reader, codec: Any, logger: RcutilsLogger, name: str) -> tuple[RequestHeader, Any] | None:
    """The next request or reply with its header; None if there is none (left)."""
    sample: Sample | None = reader.take()
    if sample is None:
        return None
    try:
        if len(sample.data) < 4 + HEADER.size:
            raise CodecError("too short for a header")
        client, number = HEADER.unpack_from(sample.data, 4)
        header = RequestHeader(client, number, sample.info.publication_handle)
        return header, codec.decode(sample.data, HEADER.size)
    except CodecError as error:
        logger.error(f"dropped a message of service '{name}': {error}", throttle_duration_sec=1.0)
        return None
    finally:
        sample.release()


class Pair:
    """The reader and writer of a client or a server, and the id that they announce."""

    def __init__(self, graph: Graph, srv_type: Any, name: str, qos: QoSProfile, server: bool) -> None:
        self._reachable: set[int] = set()
        identity = os.urandom(16)
        role, self._peer_role = ("serviceid", "clientid") if server else ("clientid", "serviceid")
        tag = f"{role}={'.'.join(f'{byte:x}' for byte in identity)};"
        request, response = srv_type.Request._spec, srv_type.Response._spec
        participant = graph.participant

        def settings(spec: Any) -> Any:
            return qos._to_dds(f"{tag}typehash={registry.hash_of(spec.name)};".encode())

        request_topic, reply_topic = f"rq{name}Request", f"rr{name}Reply"
        if server:
            self.reader = participant.reader(request_topic, request, settings(request), service=True)
            self.writer: Writer = participant.writer(reply_topic, response, settings(response), service=True)
        else:
            self.writer = participant.writer(request_topic, request, settings(request), service=True)
            self.reader = participant.reader(reply_topic, response, settings(response), service=True)

    def has_whole_peer(self) -> bool:
        """Whether both endpoints of some peer are matched: only then no reply can get lost."""
        return bool(self._ids(self.writer.matched_user_data()) & self._ids(self.reader.matched_user_data()))

    def await_reply_path(self, header: RequestHeader, context: Context) -> None:
        """Wait, shortly, until the reader of a request's client is matched: else it would never see the reply."""
        if header.client in self._reachable:
            return
        data = self.reader.publisher_user_data(header.publication)
        identity = None if data is None else user_data_value(data, self._peer_role)
        if identity is None:
            return  # the client is gone, or names no pair
        wanted = {identity.strip()}
        if wait_until(lambda: wanted <= self._ids(self.writer.matched_user_data()), _REPLY_GRACE, context, step=0.001):
            if len(self._reachable) >= _REMEMBERED:
                self._reachable.clear()
            self._reachable.add(header.client)

    def _ids(self, data: list[bytes]) -> set[str]:
        return {value.strip() for value in (user_data_value(item, self._peer_role) for item in data) if value}

    def write(self, codec: Any, header: RequestHeader, message: Any) -> None:
        try:
            self.writer.write(codec.encode(message, HEADER.pack(header.client, header.sequence_number)))
        except (DDSError, ValueError) as error:
            raise RCLError(f"failed to send: {error}") from None

    def close(self) -> None:
        self.reader.close()
        self.writer.close()

    def __enter__(self) -> Pair:
        """Keep both from being deleted.  InvalidHandle when that is done."""
        with self.reader:
            self.writer.__enter__()
            self.reader.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.__exit__()
        self.writer.__exit__()


class Service(Entity):
    """Answers requests: ``callback(request, response)`` returns the response.  Made by `Node.create_service`."""

    def __init__(
        self,
        pair: Pair,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        callback_group: CallbackGroup,
        qos_profile: QoSProfile,
        *,
        context: Context,
        logger: RcutilsLogger,
        make_publisher: MakePublisher,
        on_destroy: Callable[[Service], None],
    ) -> None:
        super().__init__(callback_group)
        self._pair = pair
        self.condition = pair.reader.condition
        self.srv_type = srv_type
        self.srv_name = srv_name
        self.callback = callback
        self.qos_profile = qos_profile
        self._context = context
        self._logger = logger
        self._on_destroy = on_destroy
        self._introspection = Introspection(srv_type, srv_name, make_publisher)
        self._on_request: Callable[[RequestHeader, Any], Any] | None = None
        """Instead of the callback, for those who call `send_response` themselves."""

    @property
    def service_name(self) -> str:
        """The resolved name."""
        return self.srv_name

    @property
    def handle(self) -> Pair:
        return self._pair

    def _take(self) -> Work | None:
        taken = None
        if self._open:
            taken = take(self._pair.reader, self.srv_type.Request._codec, self._logger, self.srv_name)
        if taken is None:
            return None
        header, request = taken
        self._introspection.tell(REQUEST_RECEIVED, header.client, header.sequence_number, request)
        if self._on_request is not None:
            return self._on_request, (header, request)
        if inspect.iscoroutinefunction(self.callback):
            return self._answer_later, (header, request)
        return self._answer, (header, request)

    def _answer(self, header: RequestHeader, request: Any) -> None:
        self.send_response(self.callback(request, self.srv_type.Response()), header)

    async def _answer_later(self, header: RequestHeader, request: Any) -> None:
        self.send_response(await self.callback(request, self.srv_type.Response()), header)

    def send_response(self, response: Any, header: RequestHeader) -> None:
        """Answer a request.  TypeError when it is no response of this service."""
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(
                f"the callback of service '{self.srv_name}' must return a {self.srv_type.Response.__name__},"
                f" not {type(response).__name__}"
            )
        if self._open:
            self._pair.await_reply_path(header, self._context)
            self._pair.write(self.srv_type.Response._codec, header, response)
            self._introspection.tell(RESPONSE_SENT, header.client, header.sequence_number, response)

    def configure_introspection(
        self, clock: Clock, service_event_qos_profile: QoSProfile, introspection_state: ServiceIntrospectionState
    ) -> None:
        """Publish the service's side of each call on ``SERVICE/_service_event``, or stop to."""
        self._introspection.configure(clock, service_event_qos_profile, introspection_state)

    def destroy(self) -> None:
        if self._open:
            super().destroy()
            self._introspection.close()
            self._pair.close()
            self._on_destroy(self)
