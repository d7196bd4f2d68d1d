"""Quality of service: plain values here, dds_qos_t in the library."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ros2_lite.dds.lib import INFINITY, LENGTH_UNLIMITED, dds

AUTOMATIC, MANUAL_BY_TOPIC = 0, 2


@dataclass(frozen=True)
class Qos:
    """What ROS 2 sets on a writer or a reader; durations in nanoseconds, `INFINITY` for none."""

    reliable: bool = True
    transient_local: bool = False
    keep_all: bool = False
    depth: int = 10
    deadline: int = INFINITY
    lifespan: int = INFINITY
    liveliness: int = AUTOMATIC
    lease: int = INFINITY
    user_data: bytes = b""
    ignore_local: bool = False


@contextmanager
def native(qos: Qos, writer: bool) -> Iterator[int]:
    """A dds_qos_t for the time of the ``with`` block, set as rmw_cyclonedds sets it."""
    handle = dds.dds_create_qos()
    try:
        history, depth = (1, LENGTH_UNLIMITED) if qos.keep_all else (0, max(1, qos.depth))
        dds.dds_qset_history(handle, history, depth)
        dds.dds_qset_reliability(handle, int(qos.reliable), INFINITY if qos.reliable else 0)
        dds.dds_qset_durability(handle, int(qos.transient_local))
        if qos.transient_local:
            dds.dds_qset_durability_service(
                handle, 0, history, depth, LENGTH_UNLIMITED, LENGTH_UNLIMITED, LENGTH_UNLIMITED
            )
        if writer:
            # Deleting a writer must not dispose of what it wrote: late joiners of others would lose it.
            dds.dds_qset_writer_data_lifecycle(handle, False)
            if qos.lifespan != INFINITY:
                dds.dds_qset_lifespan(handle, qos.lifespan)
        if qos.deadline != INFINITY:
            dds.dds_qset_deadline(handle, qos.deadline)
        dds.dds_qset_liveliness(handle, qos.liveliness, qos.lease)
        if qos.ignore_local:
            dds.dds_qset_ignorelocal(handle, 1)
        dds.dds_qset_userdata(handle, qos.user_data, len(qos.user_data))
        representation = (ct.c_int16 * 1)(0)  # XCDR1, the only one that ROS 2 peers read
        dds.dds_qset_data_representation(handle, 1, representation)
        yield handle
    finally:
        dds.dds_delete_qos(handle)


@contextmanager
def participant_qos(user_data: bytes) -> Iterator[int]:
    """A participant's dds_qos_t with USER_DATA, for the time of the ``with`` block."""
    handle = dds.dds_create_qos()
    try:
        dds.dds_qset_userdata(handle, user_data, len(user_data))
        yield handle
    finally:
        dds.dds_delete_qos(handle)


def user_data(handle: int | None) -> bytes:
    """USER_DATA of a dds_qos_t; empty if there is none."""
    if not handle:
        return b""
    value, size = ct.c_void_p(), ct.c_size_t()
    if not dds.dds_qget_userdata(handle, ct.byref(value), ct.byref(size)) or not value.value:
        return b""
    data = ct.string_at(value.value, size.value)
    dds.dds_free(value)
    return data


def user_data_value(data: bytes, key: str) -> str | None:
    """The value of ``key=value;`` in USER_DATA."""
    for part in data.decode("utf-8", "replace").split(";"):
        name, equals, value = part.partition("=")
        if equals and name == key:
            return value
    return None


def read(handle: int | None) -> Qos:
    """The values of a discovered endpoint's dds_qos_t."""
    if not handle:
        return Qos()
    kind, number, duration = ct.c_int(), ct.c_int32(), ct.c_int64()
    values: dict[str, int | bool | bytes] = {"user_data": user_data(handle)}
    if dds.dds_qget_reliability(handle, ct.byref(kind), ct.byref(duration)):
        values["reliable"] = kind.value == 1
    if dds.dds_qget_durability(handle, ct.byref(kind)):
        values["transient_local"] = kind.value == 1
    if dds.dds_qget_history(handle, ct.byref(kind), ct.byref(number)):
        values["keep_all"] = kind.value == 1
        values["depth"] = max(0, number.value)
    for name in ("deadline", "lifespan"):
        if getattr(dds, f"dds_qget_{name}")(handle, ct.byref(duration)):
            values[name] = duration.value
    if dds.dds_qget_liveliness(handle, ct.byref(kind), ct.byref(duration)):
        values["liveliness"] = kind.value
        values["lease"] = duration.value
    return Qos(**values)  # type: ignore[arg-type]
