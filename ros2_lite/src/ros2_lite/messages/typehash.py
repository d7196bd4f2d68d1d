"""RIHS01 type hashes (REP-2016): sha256 over the canonical JSON of a type's description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from ros2_lite.messages.spec import Field, FieldType, MessageSpec

# Ids of type_description_interfaces/msg/FieldType; arrays, bounded and unbounded sequences add 48, 96 and 144.
_IDS = {
    "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9,
    "float32": 10, "float64": 11, "bool": 15, "byte": 16, "string": 17, "wstring": 18,
}  # fmt: skip
_BOUNDED_STRING_IDS = {"string": 21, "wstring": 22}
_ARRAY_OFFSETS = {"": 0, "fixed": 48, "bounded": 96, "unbounded": 144}
_NESTED_ID = 1

SpecOf = Callable[[str], MessageSpec]


def type_hash(spec: MessageSpec, spec_of: SpecOf) -> str:
    """``RIHS01_<64 hex digits>`` of a message; `spec_of` finds the messages that its fields name."""
    text = json.dumps(description(spec, spec_of), ensure_ascii=True, separators=(", ", ": "))
    return "RIHS01_" + hashlib.sha256(text.encode()).hexdigest()


def description(spec: MessageSpec, spec_of: SpecOf) -> dict[str, Any]:
    """type_description_interfaces/msg/TypeDescription as plain values, without what the hash leaves out."""
    referenced: dict[str, MessageSpec] = {}
    _collect(spec, spec_of, referenced)
    return {
        "type_description": _individual(spec),
        "referenced_type_descriptions": [_individual(referenced[name]) for name in sorted(referenced)],
    }


def service_spec(name: str) -> tuple[MessageSpec, MessageSpec]:
    """The service itself and its event message as rosidl describes them, for the hash of a service."""
    event = MessageSpec(
        f"{name}_Event",
        (
            Field("info", FieldType("service_msgs/msg/ServiceEventInfo")),
            Field("request", FieldType(f"{name}_Request", "bounded", 1)),
            Field("response", FieldType(f"{name}_Response", "bounded", 1)),
        ),
    )
    whole = MessageSpec(
        name,
        (
            Field("request_message", FieldType(f"{name}_Request")),
            Field("response_message", FieldType(f"{name}_Response")),
            Field("event_message", FieldType(f"{name}_Event")),
        ),
    )
    return whole, event


def action_spec(name: str) -> MessageSpec:
    """The action itself as rosidl describes it, for its hash."""
    parts = {
        "goal": "Goal",
        "result": "Result",
        "feedback": "Feedback",
        "send_goal_service": "SendGoal",
        "get_result_service": "GetResult",
        "feedback_message": "FeedbackMessage",
    }
    return MessageSpec(name, tuple(Field(field, FieldType(f"{name}_{part}")) for field, part in parts.items()))


def _collect(spec: MessageSpec, spec_of: SpecOf, found: dict[str, MessageSpec]) -> None:
    for field in spec.fields:
        if not field.type.is_primitive and field.type.base not in found:
            inner = spec_of(field.type.base)
            found[field.type.base] = inner
            _collect(inner, spec_of, found)


def _individual(spec: MessageSpec) -> dict[str, object]:
    # A message without fields carries one byte, in IDL and so in the description too.
    fields: Iterable[Field] = spec.fields or (Field("structure_needs_at_least_one_member", FieldType("uint8")),)
    return {"type_name": spec.name, "fields": [{"name": field.name, "type": _type(field.type)} for field in fields]}


def _type(kind: FieldType) -> dict[str, object]:
    if not kind.is_primitive:
        base = _NESTED_ID
    elif kind.string_bound:
        base = _BOUNDED_STRING_IDS[kind.base]
    else:
        base = _IDS[kind.base]
    return {
        "type_id": base + _ARRAY_OFFSETS[kind.array],
        "capacity": kind.size,
        "string_capacity": kind.string_bound,
        "nested_type_name": "" if kind.is_primitive else kind.base,
    }
