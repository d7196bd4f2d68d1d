"""Writers, readers, guard conditions and waitsets that carry serialised samples."""

from __future__ import annotations

import ctypes as ct
import threading
import time
from array import array
from collections.abc import Sequence
from typing import Any

from ros2_lite.dds.lib import (
    ANY_STATE,
    INFINITY,
    LIBRARY_HANDLE,
    RETCODE_ALREADY_DELETED,
    RETCODE_BAD_PARAMETER,
    STATUSES,
    DDSError,
    InvalidHandle,
    IoVec,
    SampleInfo,
    check,
    dds,
)
from ros2_lite.dds.qos import Qos, native, user_data

_SDK_DATA = 2  # enum ddsi_serdata_kind: a sample with its data
_POINTER_OF = ct.c_char.from_buffer


def guid_of(entity: int) -> bytes:
    """The 16 bytes that identify an entity on the network."""
    guid = (ct.c_uint8 * 16)()
    check(dds.dds_get_guid(entity, ct.byref(guid)), "reading a GUID")
    return bytes(guid)


class Entity:
    """Something the library made; `close` deletes it, once, and not while a ``with`` block uses it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._open = True
        self._deleted = False
        self._uses = 0
        self._closing = threading.Lock()

    def close(self) -> None:
        with self._closing:
            self._open = False
            self._delete_unused()

    def _delete_unused(self) -> None:
        if not self._open and self._uses == 0 and not self._deleted:
            self._deleted = True
            dds.dds_delete(self.handle)

    def __del__(self) -> None:
        # Nobody has it any more, so there is nothing to lock; garbage is collected where a lock may be held already.
        if not getattr(self, "_deleted", True):
            self._deleted = True
            dds.dds_delete(self.handle)

    def __enter__(self) -> Any:
        """Keep it from being deleted.  InvalidHandle when that was asked for."""
        with self._closing:
            if not self._open:
                raise InvalidHandle("cannot use Destroyable because destruction was requested")
            self._uses += 1
        return self

    def __exit__(self, *exc: object) -> None:
        with self._closing:
            self._uses -= 1
            self._delete_unused()

    destroy_when_not_in_use = close
    """Its name in rclpy."""

    @property
    def pointer(self) -> int:
        return self.handle

    @property
    def is_open(self) -> bool:
        return self._open

    _mask = 0

    def watch(self, status: str) -> None:
        """Let a waitset that this entity is attached to wake when a status (see `STATUSES`) changes."""
        self._mask |= 1 << STATUSES[status][0]
        check(dds.dds_set_status_mask(self.handle, self._mask), "setting a status mask")

    def status(self, status: str) -> Any:
        """A status with what changed since the last call."""
        found = STATUSES[status][1]()
        check(getattr(dds, f"dds_get_{status}_status")(self.handle, ct.byref(found)), "reading a status")
        return found


class Writer(Entity):
    """Writes serialised samples to one topic."""

    def __init__(self, publisher: int, topic: int, name: str, qos: Qos) -> None:
        with native(qos, writer=True) as settings:
            super().__init__(
                check(dds.dds_create_writer(publisher, topic, settings, None), f"creating a writer on '{name}'")
            )
        self.guid = guid_of(self.handle)
        self.topic_name = name
        self._sertype = ct.c_void_p()
        check(dds.dds_get_entity_sertype(self.handle, ct.byref(self._sertype)), f"reading the type of '{name}'")

    @property
    def instance_handle(self) -> int:
        handle = ct.c_uint64()
        check(dds.dds_get_instance_handle(self.handle, ct.byref(handle)), "reading an instance handle")
        return handle.value

    def write(self, chunks: Sequence[Any]) -> None:
        """Write one sample given as bytes-like chunks, encapsulation header first; copied once, into the library.

        Raises ValueError when the bytes are no sample of the topic's type, DDSError when writing fails.
        """
        vector = (IoVec * len(chunks))()
        keep = []
        total = 0
        for slot, chunk in zip(vector, chunks):  # noqa: B905 (equal by construction)
            slot.base, slot.len, owner = _address(chunk)
            keep.append(owner)
            total += slot.len
        sample = dds.ddsi_serdata_from_ser_iov(self._sertype, _SDK_DATA, len(chunks), vector, total)
        del keep
        if not sample:
            raise ValueError(f"{total} bytes are no valid sample for topic '{self.topic_name}'")
        # dds_writecdr takes over the reference, whether it fails or not.
        check(dds.dds_writecdr(self.handle, sample), f"writing to '{self.topic_name}'")

    def matched(self) -> int:
        """How many readers this writer is matched with."""
        # Not from the status, which an event handler may be waiting for.
        return check(dds.dds_get_matched_subscriptions(self.handle, None, 0), "reading matched readers")

    def matched_user_data(self) -> list[bytes]:
        """USER_DATA of the matched readers."""
        return _matched(self.handle, dds.dds_get_matched_subscriptions, dds.dds_get_matched_subscription_data)

    def wait_for_acks(self, timeout: int) -> bool:
        """Wait until all reliable readers have all samples; False after `timeout` [ns]."""
        code = dds.dds_wait_for_acks(self.handle, timeout)
        if code == -10:
            return False
        check(code, "waiting for acknowledgements")
        return True

    def assert_liveliness(self) -> None:
        check(dds.dds_assert_liveliness(self.handle), "asserting liveliness")


class Sample:
    """One received sample: `data` is a view of the library's memory, valid until `release`."""

    __slots__ = ("_iov", "_reference", "data", "info")

    def __init__(self, reference: int, info: SampleInfo) -> None:
        size = dds.ddsi_serdata_size(reference)
        self._iov = IoVec()
        self._reference = dds.ddsi_serdata_to_ser_ref(reference, 0, size, ct.byref(self._iov))
        dds.ddsi_serdata_unref(reference)
        self.data = memoryview((ct.c_ubyte * self._iov.len).from_address(self._iov.base)).cast("B")
        self.info = info

    def release(self) -> None:
        if self._reference:
            self.data.release()
            dds.ddsi_serdata_to_ser_unref(self._reference, ct.byref(self._iov))
            self._reference = 0


class Reader(Entity):
    """Takes serialised samples from one topic; `condition` is what a waitset waits for."""

    def __init__(self, subscriber: int, topic: int, name: str, qos: Qos) -> None:
        with native(qos, writer=False) as settings:
            super().__init__(
                check(dds.dds_create_reader(subscriber, topic, settings, None), f"creating a reader on '{name}'")
            )
        self.guid = guid_of(self.handle)
        self.topic_name = name
        self.condition = check(dds.dds_create_readcondition(self.handle, ANY_STATE), "creating a read condition")

    def take(self) -> Sample | None:
        """The next sample with data, or None; the caller releases it."""
        reference = ct.c_void_p()
        while True:
            info = SampleInfo()
            count = dds.dds_takecdr(self.handle, ct.byref(reference), 1, ct.byref(info), ANY_STATE)
            if count in (RETCODE_ALREADY_DELETED, RETCODE_BAD_PARAMETER) and not self._open:
                return None  # destroyed by another callback meanwhile
            if check(count, f"taking from '{self.topic_name}'") == 0:
                return None
            if info.valid_data:
                return Sample(reference.value or 0, info)
            dds.ddsi_serdata_unref(reference)  # only says that a writer left

    def take_message(self, msg_type: Any, raw: bool) -> tuple[Any, dict[str, int | None]] | None:
        """The next message of a message class, or its bytes, with what is known of it; None if there is none.

        CodecError when it is damaged.
        """
        sample = self.take()
        if sample is None:
            return None
        received = time.time_ns()  # as rmw_cyclonedds: the library does not say, nor does it number the samples
        try:
            message = bytes(sample.data) if raw else msg_type._codec.decode(sample.data)
        finally:
            sample.release()
        return message, {
            "source_timestamp": sample.info.source_timestamp,
            "received_timestamp": received,
            "publication_sequence_number": None,
            "reception_sequence_number": None,
        }

    def matched(self) -> int:
        """How many writers this reader is matched with."""
        return check(dds.dds_get_matched_publications(self.handle, None, 0), "reading matched writers")

    def matched_user_data(self) -> list[bytes]:
        """USER_DATA of the matched writers."""
        return _matched(self.handle, dds.dds_get_matched_publications, dds.dds_get_matched_publication_data)

    def publisher_user_data(self, publication_handle: int) -> bytes | None:
        """USER_DATA of the writer of a sample; None when it is gone."""
        data = dds.dds_get_matched_publication_data(self.handle, publication_handle)
        if not data:
            return None
        found = user_data(data.contents.qos)
        dds.dds_builtintopic_free_endpoint(data)
        return found


class GuardCondition(Entity):
    """A condition that any thread can set, to wake a waitset."""

    def __init__(self) -> None:
        super().__init__(check(dds.dds_create_guardcondition(LIBRARY_HANDLE), "creating a guard condition"))

    def set(self) -> None:
        if self._open:
            dds.dds_set_guardcondition(self.handle, True)

    def take(self) -> bool:
        """Clear it; whether it was set."""
        was = ct.c_bool()
        return bool(self._open and dds.dds_take_guardcondition(self.handle, ct.byref(was)) >= 0 and was.value)


class WaitSet(Entity):
    """Waits, without the GIL, until one of the attached conditions is true."""

    _MOST = 256

    def __init__(self) -> None:
        super().__init__(check(dds.dds_create_waitset(LIBRARY_HANDLE), "creating a waitset"))

    def attach(self, condition: int, key: int) -> None:
        """Attach a condition; `key` (not negative) is what `wait` returns for it."""
        check(dds.dds_waitset_attach(self.handle, condition, key), "attaching to a waitset")

    def detach(self, condition: int) -> None:
        """Detach a condition; one that was deleted meanwhile is detached already."""
        code = dds.dds_waitset_detach(self.handle, condition)
        if code not in (RETCODE_ALREADY_DELETED, RETCODE_BAD_PARAMETER, -4):
            check(code, "detaching from a waitset")

    def wait(self, timeout: int = INFINITY) -> list[int]:
        """Keys of the conditions that are true, at most 256; empty after `timeout` [ns]."""
        keys = (ct.c_ssize_t * self._MOST)()
        count = dds.dds_waitset_wait(self.handle, keys, self._MOST, timeout)
        if count < 0:
            if not self._open:
                return []
            raise DDSError("waiting", count)
        return keys[: min(count, self._MOST)]


def _address(chunk: Any) -> tuple[int, int, Any]:
    """Address and length of a bytes-like object, and an object that keeps both valid."""
    if isinstance(chunk, bytes):
        pointer = ct.c_char_p(chunk)
        return ct.cast(pointer, ct.c_void_p).value or 0, len(chunk), pointer
    if isinstance(chunk, array):
        address, count = chunk.buffer_info()
        return address, count * chunk.itemsize, chunk
    view = memoryview(chunk).cast("B")
    if view.readonly:
        copy = ct.c_char_p(bytes(view))
        return ct.cast(copy, ct.c_void_p).value or 0, len(view), copy
    if len(view) == 0:
        return 0, 0, view
    buffer = _POINTER_OF(view)
    return ct.addressof(buffer), len(view), buffer


def _matched(handle: int, list_call: Any, data_call: Any) -> list[bytes]:
    peers = (ct.c_uint64 * 128)()
    count = list_call(handle, peers, 128)
    found = []
    for peer in peers[: max(0, min(count, 128))]:
        data = data_call(handle, peer)
        if data:
            found.append(user_data(data.contents.qos))
            dds.dds_builtintopic_free_endpoint(data)
    return found
