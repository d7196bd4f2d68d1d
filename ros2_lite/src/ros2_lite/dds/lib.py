"""The shared library and the prototypes of what is used of it (dds.h of Cyclone DDS 11)."""

from __future__ import annotations

import ctypes as ct
import importlib.util
import sys
from pathlib import Path

INFINITY = 2**63 - 1
"""No timeout, no limit [ns] (DDS_INFINITY)."""
LENGTH_UNLIMITED = -1
LIBRARY_HANDLE = 0x7FFF0000 + 256
"""Owner of entities that belong to no participant (DDS_CYCLONEDDS_HANDLE)."""
BUILTIN_PARTICIPANT, BUILTIN_PUBLICATION, BUILTIN_SUBSCRIPTION = 0x7FFF0001, 0x7FFF0003, 0x7FFF0004
ANY_STATE = 1 | 2 | 4 | 8 | 16 | 32 | 64
ALIVE = 16

RETCODE_BAD_PARAMETER = -3
RETCODE_PRECONDITION_NOT_MET = -4
RETCODE_OUT_OF_RESOURCES = -5
RETCODE_ALREADY_DELETED = -9
RETCODE_TIMEOUT = -10


class DDSError(RuntimeError):
    """A failed call into the library; `code` is its return code."""

    def __init__(self, what: str, code: int) -> None:
        self.code = code
        super().__init__(f"{what}: {_strretcode(code)}")


class InvalidHandle(RuntimeError):  # noqa: N818 (the name is ROS's)
    """The object was destroyed already."""


class SampleInfo(ct.Structure):
    """dds_sample_info_t."""

    _fields_ = [
        ("sample_state", ct.c_uint),
        ("view_state", ct.c_uint),
        ("instance_state", ct.c_uint),
        ("valid_data", ct.c_bool),
        ("source_timestamp", ct.c_int64),
        ("instance_handle", ct.c_uint64),
        ("publication_handle", ct.c_uint64),
        ("disposed_generation_count", ct.c_uint32),
        ("no_writers_generation_count", ct.c_uint32),
        ("sample_rank", ct.c_uint32),
        ("generation_rank", ct.c_uint32),
        ("absolute_generation_rank", ct.c_uint32),
    ]


class IoVec(ct.Structure):
    """ddsrt_iovec_t on POSIX (on Windows the two members are the other way round)."""

    if sys.platform == "win32":
        _fields_ = [("len", ct.c_ulong), ("base", ct.c_void_p)]
    else:
        _fields_ = [("base", ct.c_void_p), ("len", ct.c_size_t)]


class MetaSer(ct.Structure):
    """struct dds_type_meta_ser."""

    _fields_ = [("data", ct.c_void_p), ("sz", ct.c_uint32)]


class TopicDescriptor(ct.Structure):
    """dds_topic_descriptor_t."""

    _fields_ = [
        ("m_size", ct.c_uint32),
        ("m_align", ct.c_uint32),
        ("m_flagset", ct.c_uint32),
        ("m_nkeys", ct.c_uint32),
        ("m_typename", ct.c_char_p),
        ("m_keys", ct.c_void_p),
        ("m_nops", ct.c_uint32),
        ("m_ops", ct.POINTER(ct.c_uint32)),
        ("m_meta", ct.c_char_p),
        ("type_information", MetaSer),
        ("type_mapping", MetaSer),
        ("restrict_data_representation", ct.c_uint32),
    ]


class BuiltinParticipant(ct.Structure):
    """dds_builtintopic_participant_t."""

    _fields_ = [("key", ct.c_uint8 * 16), ("qos", ct.c_void_p)]


class BuiltinEndpoint(ct.Structure):
    """dds_builtintopic_endpoint_t."""

    _fields_ = [
        ("key", ct.c_uint8 * 16),
        ("participant_key", ct.c_uint8 * 16),
        ("participant_instance_handle", ct.c_uint64),
        ("topic_name", ct.c_char_p),
        ("type_name", ct.c_char_p),
        ("qos", ct.c_void_p),
    ]


class CountStatus(ct.Structure):
    """The statuses that only count: lost samples, lost liveliness (the last handle of missed deadlines follows)."""

    _fields_ = [
        ("total_count", ct.c_uint32),
        ("total_count_change", ct.c_int32),
        ("last_handle", ct.c_uint64),
    ]


class MatchedStatus(ct.Structure):
    """dds_publication_matched_status_t and dds_subscription_matched_status_t."""

    _fields_ = [
        ("total_count", ct.c_uint32),
        ("total_count_change", ct.c_int32),
        ("current_count", ct.c_uint32),
        ("current_count_change", ct.c_int32),
        ("last_handle", ct.c_uint64),
    ]


class IncompatibleQosStatus(ct.Structure):
    """dds_offered_incompatible_qos_status_t and the requested one."""

    _fields_ = [
        ("total_count", ct.c_uint32),
        ("total_count_change", ct.c_int32),
        ("last_policy_id", ct.c_uint32),
    ]


class LivelinessChangedStatus(ct.Structure):
    """dds_liveliness_changed_status_t."""

    _fields_ = [
        ("alive_count", ct.c_uint32),
        ("not_alive_count", ct.c_uint32),
        ("alive_count_change", ct.c_int32),
        ("not_alive_count_change", ct.c_int32),
        ("last_handle", ct.c_uint64),
    ]


STATUSES: dict[str, tuple[int, type[ct.Structure]]] = {
    "offered_deadline_missed": (1, CountStatus),
    "requested_deadline_missed": (2, CountStatus),
    "offered_incompatible_qos": (3, IncompatibleQosStatus),
    "requested_incompatible_qos": (4, IncompatibleQosStatus),
    "sample_lost": (5, CountStatus),
    "liveliness_lost": (9, CountStatus),
    "liveliness_changed": (10, LivelinessChangedStatus),
    "publication_matched": (11, MatchedStatus),
    "subscription_matched": (12, MatchedStatus),
}
"""The statuses of writers and readers: bit in a status mask (enum dds_status_id) and layout."""


def _library_path() -> Path:
    spec = importlib.util.find_spec("cyclonedds")
    if spec is None or spec.origin is None:
        raise ImportError("ros2_lite needs the 'cyclonedds' package: pip install 'cyclonedds>=11.0.1,<12'")
    package = Path(spec.origin).parent
    for folder in (package.parent / "cyclonedds.libs", package / ".dylibs", package / ".libs"):
        for pattern in ("libddsc*", "ddsc*"):
            for path in sorted(folder.glob(pattern)):
                return path
    raise ImportError(f"the 'cyclonedds' package in {package} carries no ddsc library")


_dds = ct.CDLL(str(_library_path()))

_e, _i64, _p, _u32, _sz = ct.c_int32, ct.c_int64, ct.c_void_p, ct.c_uint32, ct.c_size_t
_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "dds_create_domain": (_e, [_u32, ct.c_char_p]),
    "dds_create_participant": (_e, [_u32, _p, _p]),
    "dds_create_topic": (_e, [_e, ct.POINTER(TopicDescriptor), ct.c_char_p, _p, _p]),
    "dds_create_publisher": (_e, [_e, _p, _p]),
    "dds_create_subscriber": (_e, [_e, _p, _p]),
    "dds_create_writer": (_e, [_e, _e, _p, _p]),
    "dds_create_reader": (_e, [_e, _e, _p, _p]),
    "dds_create_readcondition": (_e, [_e, _u32]),
    "dds_create_guardcondition": (_e, [_e]),
    "dds_set_guardcondition": (_e, [_e, ct.c_bool]),
    "dds_take_guardcondition": (_e, [_e, ct.POINTER(ct.c_bool)]),
    "dds_create_waitset": (_e, [_e]),
    "dds_waitset_attach": (_e, [_e, _e, ct.c_ssize_t]),
    "dds_waitset_detach": (_e, [_e, _e]),
    "dds_waitset_wait": (_e, [_e, ct.POINTER(ct.c_ssize_t), _sz, _i64]),
    "dds_set_status_mask": (_e, [_e, _u32]),
    "dds_take_status": (_e, [_e, ct.POINTER(_u32), _u32]),
    "dds_delete": (_e, [_e]),
    "dds_get_guid": (_e, [_e, ct.POINTER(ct.c_uint8 * 16)]),
    "dds_get_instance_handle": (_e, [_e, ct.POINTER(ct.c_uint64)]),
    "dds_get_entity_sertype": (_e, [_e, ct.POINTER(_p)]),
    "ddsi_serdata_from_ser_iov": (_p, [_p, ct.c_int, ct.c_int, ct.POINTER(IoVec), _sz]),
    "ddsi_serdata_to_ser_ref": (_p, [_p, _sz, _sz, ct.POINTER(IoVec)]),
    "ddsi_serdata_to_ser_unref": (None, [_p, ct.POINTER(IoVec)]),
    "ddsi_serdata_size": (_u32, [_p]),
    "ddsi_serdata_unref": (None, [_p]),
    "dds_writecdr": (_e, [_e, _p]),
    "dds_takecdr": (_e, [_e, ct.POINTER(_p), _u32, ct.POINTER(SampleInfo), _u32]),
    "dds_read": (_e, [_e, ct.POINTER(_p), ct.POINTER(SampleInfo), _sz, _u32]),
    "dds_take": (_e, [_e, ct.POINTER(_p), ct.POINTER(SampleInfo), _sz, _u32]),
    "dds_return_loan": (_e, [_e, ct.POINTER(_p), ct.c_int32]),
    "dds_wait_for_acks": (_e, [_e, _i64]),
    "dds_assert_liveliness": (_e, [_e]),
    "dds_reader_wait_for_historical_data": (_e, [_e, _i64]),
    **{f"dds_get_{name}_status": (_e, [_e, ct.POINTER(layout)]) for name, (_, layout) in STATUSES.items()},
    "dds_get_matched_subscriptions": (_e, [_e, ct.POINTER(ct.c_uint64), _sz]),
    "dds_get_matched_publications": (_e, [_e, ct.POINTER(ct.c_uint64), _sz]),
    "dds_get_matched_subscription_data": (ct.POINTER(BuiltinEndpoint), [_e, ct.c_uint64]),
    "dds_get_matched_publication_data": (ct.POINTER(BuiltinEndpoint), [_e, ct.c_uint64]),
    "dds_builtintopic_free_endpoint": (None, [ct.POINTER(BuiltinEndpoint)]),
    "dds_strretcode": (ct.c_char_p, [_e]),
    "dds_free": (None, [_p]),
    "dds_create_qos": (_p, []),
    "dds_delete_qos": (None, [_p]),
    "dds_qset_userdata": (None, [_p, ct.c_char_p, _sz]),
    "dds_qset_reliability": (None, [_p, ct.c_int, _i64]),
    "dds_qset_durability": (None, [_p, ct.c_int]),
    "dds_qset_durability_service": (None, [_p, _i64, ct.c_int, ct.c_int32, ct.c_int32, ct.c_int32, ct.c_int32]),
    "dds_qset_history": (None, [_p, ct.c_int, ct.c_int32]),
    "dds_qset_deadline": (None, [_p, _i64]),
    "dds_qset_lifespan": (None, [_p, _i64]),
    "dds_qset_liveliness": (None, [_p, ct.c_int, _i64]),
    "dds_qset_ignorelocal": (None, [_p, ct.c_int]),
    "dds_qset_writer_data_lifecycle": (None, [_p, ct.c_bool]),
    "dds_qset_data_representation": (None, [_p, _u32, ct.POINTER(ct.c_int16)]),
    "dds_qget_userdata": (ct.c_bool, [_p, ct.POINTER(_p), ct.POINTER(_sz)]),
    "dds_qget_reliability": (ct.c_bool, [_p, ct.POINTER(ct.c_int), ct.POINTER(_i64)]),
    "dds_qget_durability": (ct.c_bool, [_p, ct.POINTER(ct.c_int)]),
    "dds_qget_history": (ct.c_bool, [_p, ct.POINTER(ct.c_int), ct.POINTER(ct.c_int32)]),
    "dds_qget_deadline": (ct.c_bool, [_p, ct.POINTER(_i64)]),
    "dds_qget_lifespan": (ct.c_bool, [_p, ct.POINTER(_i64)]),
    "dds_qget_liveliness": (ct.c_bool, [_p, ct.POINTER(ct.c_int), ct.POINTER(_i64)]),
}
for _name, (_result, _arguments) in _PROTOTYPES.items():
    _function = getattr(_dds, _name)
    _function.restype = _result
    _function.argtypes = _arguments


def _strretcode(code: int) -> str:
    text: bytes = _dds.dds_strretcode(code)
    return f"{text.decode()} ({code})"


def check(code: int, what: str) -> int:
    """Return `code` when it is no error; DDSError naming `what` otherwise."""
    if code < 0:
        raise DDSError(what, code)
    return code


dds = _dds
