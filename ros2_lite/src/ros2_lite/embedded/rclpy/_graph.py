"""The ROS graph: which nodes have which endpoints; ours told to others, theirs read from discovery.

DDS knows participants and endpoints, ROS adds nodes: every participant publishes on ``ros_discovery_info`` which of its
endpoints belong to which of its nodes.  What others have is read when it is asked for, so no thread is needed.
"""

from __future__ import annotations

import ctypes as ct
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ros2_lite.dds import qos as dds_qos
from ros2_lite.dds.domain import Participant
from ros2_lite.dds.lib import (
    ALIVE,
    BUILTIN_PARTICIPANT,
    BUILTIN_PUBLICATION,
    BUILTIN_SUBSCRIPTION,
    BuiltinEndpoint,
    BuiltinParticipant,
    SampleInfo,
    check,
    dds,
)
from ros2_lite.messages import registry
from ros2_lite.messages.classes import message_class
from ros2_lite.messages.codec import CodecError

_INFO = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_BATCH = 64


@dataclass(frozen=True)
class Endpoint:
    """A discovered writer or reader."""

    guid: bytes
    participant: bytes
    topic: str
    type: str
    qos: dds_qos.Qos


@dataclass
class NodeEntry:
    """A node of this participant, with the GUIDs of its endpoints."""

    name: str
    namespace: str
    readers: list[bytes] = field(default_factory=list)
    writers: list[bytes] = field(default_factory=list)


class Graph:
    """The graph as one participant sees it."""

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self._lock = threading.RLock()
        self._nodes: list[NodeEntry] = []
        self._others: dict[bytes, Any] = {}
        spec = registry.spec(_INFO)
        hash_data = f"typehash={registry.hash_of(_INFO)};".encode()
        settings = dds_qos.Qos(transient_local=True, depth=1, user_data=hash_data)
        self._writer = participant.writer("ros_discovery_info", spec, settings)
        listening = dds_qos.Qos(transient_local=True, keep_all=True, user_data=hash_data, ignore_local=True)
        self._reader = participant.reader("ros_discovery_info", spec, listening)
        self._class = message_class(_INFO)
        self._gid = message_class("rmw_dds_common/msg/Gid")
        self._node = message_class("rmw_dds_common/msg/NodeEntitiesInfo")

    def close(self) -> None:
        with self._lock:
            self.participant.close()

    # ---- what is ours ---------------------------------------------------------------------------------------------

    def add_node(self, name: str, namespace: str) -> NodeEntry:
        """Announce a node; its endpoints are added to the returned entry by `change`."""
        entry = NodeEntry(name, namespace)
        with self._lock:
            self._nodes.append(entry)
        self.announce()
        return entry

    def remove_node(self, entry: NodeEntry) -> None:
        with self._lock:
            if entry in self._nodes:
                self._nodes.remove(entry)
        self.announce()

    def announce(self) -> None:
        """Tell everybody what our nodes have."""
        with self._lock:
            if not self._writer.is_open or not self.participant.is_open:
                return
            message = self._class(
                gid=self._gid_of(self.participant.guid),
                node_entities_info_seq=[
                    self._node(
                        node_namespace=entry.namespace,
                        node_name=entry.name,
                        reader_gid_seq=[self._gid_of(guid) for guid in entry.readers],
                        writer_gid_seq=[self._gid_of(guid) for guid in entry.writers],
                    )
                    for entry in self._nodes
                ],
            )
            self._writer.write(message._codec.encode(message))
            self._listen()

    def _gid_of(self, guid: bytes) -> Any:
        gid = self._gid()
        gid.data[:] = memoryview(guid)
        return gid

    # ---- what others have -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take what the other participants said; the last word of each counts."""
        while True:
            sample = self._reader.take()
            if sample is None:
                return
            try:
                message = self._class._codec.decode(sample.data)
                self._others[bytes(message.gid.data)] = message
            except CodecError:
                pass  # an older layout of the message (before Iron): its nodes stay unknown, its topics do not
            finally:
                sample.release()

    def endpoints(self, writers: bool) -> list[Endpoint]:
        """All writers or all readers in the domain, our own included, without DDS's internal ones."""
        topic = BUILTIN_PUBLICATION if writers else BUILTIN_SUBSCRIPTION
        return _read_builtin(self.participant.handle, topic, BuiltinEndpoint)

    def participants(self) -> set[bytes]:
        """GUIDs of all participants that are alive."""
        return set(_read_builtin(self.participant.handle, BUILTIN_PARTICIPANT, BuiltinParticipant))

    def nodes(self) -> list[tuple[str, str, set[bytes], set[bytes]]]:
        """(name, namespace, GUIDs of readers, GUIDs of writers) of all nodes."""
        with self._lock:
            self._listen()
            alive = self.participants()
            for guid in [guid for guid in self._others if guid not in alive]:
                del self._others[guid]
            found = [(node.name, node.namespace, set(node.readers), set(node.writers)) for node in self._nodes]
            for message in self._others.values():
                for node in message.node_entities_info_seq:
                    readers, writers = (
                        {bytes(gid.data) for gid in gids} for gids in (node.reader_gid_seq, node.writer_gid_seq)
                    )
                    found.append((node.node_name, node.node_namespace, readers, writers))
            return found

    def owners(self) -> dict[bytes, tuple[str, str]]:
        """(node name, namespace) of each endpoint."""
        return {
            guid: (name, namespace) for name, namespace, readers, writers in self.nodes() for guid in readers | writers
        }


def _read_builtin(participant: int, topic: int, kind: Any) -> list[Any]:
    """Everything alive on one of the library's discovery topics; known at once, since it is local knowledge."""
    reader = check(dds.dds_create_reader(participant, topic, None, None), "reading discovery data")
    found: list[Any] = []
    try:
        pointers = (ct.c_void_p * _BATCH)()
        infos = (SampleInfo * _BATCH)()
        while True:
            pointers[0] = None  # the library lends its own memory
            count = check(dds.dds_take(reader, pointers, infos, _BATCH, _BATCH), "reading discovery data")
            for index in range(count):
                if infos[index].valid_data and infos[index].instance_state == ALIVE:
                    data = kind.from_address(pointers[index])
                    if kind is BuiltinParticipant:
                        found.append(bytes(data.key))
                    elif not data.topic_name.startswith(b"DCPS"):
                        found.append(
                            Endpoint(
                                bytes(data.key),
                                bytes(data.participant_key),
                                data.topic_name.decode(),
                                data.type_name.decode(),
                                dds_qos.read(data.qos),
                            )
                        )
            if count > 0:
                dds.dds_return_loan(reader, pointers, count)
            if count < _BATCH:
                return found
    finally:
        dds.dds_delete(reader)


# ---- names between DDS and ROS ---------------------------------------------------------------------------------------


def topic_of(name: str) -> str | None:
    """``rt/chatter`` → ``/chatter``; None for what is no ROS topic."""
    return name[2:] if name.startswith("rt/") else None


def service_of(name: str) -> str | None:
    """``rq/addRequest`` and ``rr/addReply`` → ``/add``; None for what is no ROS service."""
    for prefix, suffix in (("rq/", "Request"), ("rr/", "Reply")):
        if name.startswith(prefix) and name.endswith(suffix):
            return name[2 : -len(suffix)]
    return None


def ros_type(name: str) -> str:
    """``std_msgs::msg::dds_::String_`` → ``std_msgs/msg/String``; service halves become the service."""
    if "::dds_::" not in name or not name.endswith("_"):
        return name
    scope, _, bare = name[:-1].partition("::dds_::")
    for half in ("_Request", "_Response"):
        if not scope.endswith("::msg") and bare.endswith(half):
            bare = bare[: -len(half)]
    return scope.replace("::", "/") + "/" + bare


def names_and_types(endpoints: Iterable[Endpoint], services: bool) -> list[tuple[str, list[str]]]:
    """Sorted (name, [types]) of the topics or services that the endpoints belong to."""
    found: dict[str, set[str]] = {}
    for endpoint in endpoints:
        name = service_of(endpoint.topic) if services else topic_of(endpoint.topic)
        if name is not None:
            found.setdefault(name, set()).add(ros_type(endpoint.type))
    return [(name, sorted(types)) for name, types in sorted(found.items())]
