"""Domains and participants: who we are on the network, and with which discovery settings."""

from __future__ import annotations

import atexit
import os
import socket
import struct
import sys
import threading
from typing import Any

from ros2_lite.dds.entities import Entity, Reader, Writer, guid_of
from ros2_lite.dds.lib import DDSError, check, dds
from ros2_lite.dds.ops import descriptor
from ros2_lite.dds.qos import Qos, participant_qos
from ros2_lite.messages import registry
from ros2_lite.messages.spec import MessageSpec

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
MAX_DOMAIN_ID = 232
_MAX_PARTICIPANTS_PER_HOST = 32

_lock = threading.RLock()
_domains: dict[int, list[int]] = {}
"""Handle and number of participants of each domain that this process is in."""
_participants: set[Participant] = set()


class DomainError(RuntimeError):
    """A domain that cannot be joined, or settings that make no sense."""


def domain_id_from_environment() -> int:
    """ROS_DOMAIN_ID, 0 when unset; DomainError when it is no usable number."""
    text = os.environ.get("ROS_DOMAIN_ID", "").strip()
    if not text:
        return 0
    try:
        return check_domain_id(int(text))
    except ValueError:
        raise DomainError(f"ROS_DOMAIN_ID is '{text}'; it must be a whole number from 0 to {MAX_DOMAIN_ID}") from None


def check_domain_id(domain: int) -> int:
    """`domain` itself; DomainError when UDP has no ports for it."""
    if not 0 <= domain <= MAX_DOMAIN_ID:
        raise DomainError(f"domain id {domain} is out of range; it must be from 0 to {MAX_DOMAIN_ID}")
    return domain


_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_BESIDE_LOOPBACK = (
    '<Interfaces><NetworkInterface autodetermine="true"/><NetworkInterface address="127.0.0.1"/></Interfaces>'
)
"""The network and loopback.  Cyclone 11 drops announcements that arrive by an interface which it does not use, and
rmw_cyclonedds_cpp of Jazzy (Cyclone 0.10) sends those for its own host to 127.0.0.1: a node of ROS 2 that started
after ours would not be found."""

_REPEATED_AFTER = "2s"
"""How often a process is announced that keeps to this host but for its static peers; Cyclone's own time is 30 s."""


def _networked() -> bool:
    """Whether an interface beside loopback is up and has an address (Linux; elsewhere unknown, thus False)."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
                fcntl.ioctl(probe, _SIOCGIFADDR, request)
            except OSError:
                continue  # without an IPv4 address, or gone
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                return True
    return False


def discovery_config(networked: bool = False) -> str:
    """Cyclone's configuration for ROS 2's discovery variables, with CYCLONEDDS_URI appended.

    ROS_LOCALHOST_ONLY=1 (deprecated in ROS 2) wins over ROS_AUTOMATIC_DISCOVERY_RANGE; ROS_STATIC_PEERS lists
    further hosts, separated by semicolons.  With `networked`, nodes that keep to this host alone listen on loopback
    beside the network that Cyclone chooses, which must be another one.
    """
    wanted = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").strip().upper() or "SUBNET"
    if os.environ.get("ROS_LOCALHOST_ONLY", "") == "1":
        wanted = "LOCALHOST"
    if wanted not in RANGES:
        raise DomainError(f"ROS_AUTOMATIC_DISCOVERY_RANGE is '{wanted}'; choose from {', '.join(RANGES)}")
    user = os.environ.get("CYCLONEDDS_URI", "")
    if wanted == "SYSTEM_DEFAULT":
        return user
    peers = [peer.strip() for peer in os.environ.get("ROS_STATIC_PEERS", "").split(";") if peer.strip()]
    general = ""
    if wanted in ("LOCALHOST", "OFF"):
        # Peers on other hosts would take the loopback address that is announced then for one of their own.
        alone = networked and wanted == "LOCALHOST" and not peers and "NetworkInterface" not in user
        interfaces = _BESIDE_LOOPBACK if alone else ""
        general = f"<General>{interfaces}<AllowMulticast>false</AllowMulticast></General>"
    if wanted == "OFF":
        # A tag of our own keeps even those out who would find us by chance.
        discovery = f"<ParticipantIndex>none</ParticipantIndex><Tag>ros_discovery_off_{os.getpid()}</Tag>"
        peers = []
    else:
        discovery = "<ParticipantIndex>auto</ParticipantIndex>"
        discovery += f"<MaxAutoParticipantIndex>{_MAX_PARTICIPANTS_PER_HOST}</MaxAutoParticipantIndex>"
    if wanted == "LOCALHOST":
        if peers:  # loopback is not listened on then, so later nodes of ROS 2 here must be told of us again and again
            discovery += f"<SPDPInterval>{_REPEATED_AFTER}</SPDPInterval>"
        peers.insert(0, "localhost")
    if peers:
        discovery += "<Peers>" + "".join(f'<Peer address="{_escape(peer)}"/>' for peer in peers) + "</Peers>"
    config = f"<CycloneDDS><Domain>{general}<Discovery>{discovery}</Discovery></Domain></CycloneDDS>"
    return f"{config},{user}" if user else config


def _escape(text: str) -> str:
    # By hand: xml.sax.saxutils would import urllib, 20 ms of every start.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _join(domain: int) -> None:
    """Count a participant into its domain, which the first one creates with our settings."""
    if domain not in _domains:
        config, fallback = discovery_config(_networked()), discovery_config()
        handle = dds.dds_create_domain(domain, config.encode())
        if handle < 0 and config != fallback:  # Cyclone chose loopback all the same, and refuses to have it twice
            handle = dds.dds_create_domain(domain, fallback.encode())
        if handle < 0:
            raise _failure(domain, handle)
        _domains[domain] = [handle, 0]
    _domains[domain][1] += 1


def _leave(domain: int) -> None:
    """Count a participant out; the last one takes the domain and its threads along."""
    entry = _domains[domain]
    entry[1] -= 1
    if entry[1] == 0:
        del _domains[domain]
        dds.dds_delete(entry[0])


def _failure(domain: int, code: int) -> DomainError:
    return DomainError(
        f"cannot join domain {domain}: {DDSError('Cyclone DDS', code)}; its own line above names the cause:"
        f" ports in use (at most {_MAX_PARTICIPANTS_PER_HOST + 1} processes of a host can be in a domain), a network"
        " interface that is not there, or CYCLONEDDS_URI"
    )


class Participant(Entity):
    """One participant: the owner of topics, writers and readers."""

    def __init__(self, domain: int, user_data: bytes) -> None:
        self.domain = check_domain_id(domain)
        with _lock:
            _join(domain)
            with participant_qos(user_data) as settings:
                handle = dds.dds_create_participant(domain, settings, None)
            if handle < 0:
                _leave(domain)
                raise _failure(domain, handle)
            super().__init__(handle)
            _participants.add(self)
        self.guid = guid_of(handle)
        self._publisher = check(dds.dds_create_publisher(handle, None, None), "creating a publisher")
        self._subscriber = check(dds.dds_create_subscriber(handle, None, None), "creating a subscriber")
        self._topics: dict[tuple[str, str, bool], int] = {}
        self._descriptors: list[Any] = []

    def _topic(self, name: str, spec: MessageSpec, service: bool) -> int:
        key = (name, spec.name, service)
        with _lock:
            if key not in self._topics:
                description = descriptor(spec, registry.spec, service)
                self._descriptors.append(description)
                self._topics[key] = check(
                    dds.dds_create_topic(self.handle, description, name.encode(), None, None),
                    f"creating topic '{name}' of type {spec.name}",
                )
            return self._topics[key]

    def writer(self, name: str, spec: MessageSpec, qos: Qos, service: bool = False) -> Writer:
        """A writer on the DDS topic `name` (``rt/...``)."""
        return Writer(self._publisher, self._topic(name, spec, service), name, qos)

    def reader(self, name: str, spec: MessageSpec, qos: Qos, service: bool = False) -> Reader:
        """A reader on the DDS topic `name`."""
        return Reader(self._subscriber, self._topic(name, spec, service), name, qos)

    def close(self) -> None:
        with _lock:
            super().close()
            if self in _participants:
                _participants.discard(self)
                _leave(self.domain)


@atexit.register
def _leave_all() -> None:
    """Say goodbye when the interpreter ends: otherwise peers would see us until a lease of 10 s runs out."""
    for participant in list(_participants):
        participant.close()
