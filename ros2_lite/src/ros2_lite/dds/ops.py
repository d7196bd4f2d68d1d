"""Topic descriptors: message definitions as the instructions that Cyclone checks and byte-swaps received data with.

The encoding is that of the library's dds_opcodes.h.  Only serialised data ever passes through these topics, so the
member offsets, which describe C structs, are never followed; they are still laid out as an IDL compiler would.
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable

from ros2_lite.dds.lib import TopicDescriptor
from ros2_lite.messages.spec import Field, FieldType, MessageSpec

_RTS, _ADR = 0x00 << 24, 0x01 << 24
_STR, _BST, _SEQ, _ARR, _STU, _BSQ, _EXT, _WSTR = 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0B, 0x0D, 0x10
_FLAG_FP, _FLAG_SIGNED = 1 << 1, 1 << 2
_TYPES = {
    "bool": (0x0E, 1, 0), "byte": (0x01, 1, 0), "int8": (0x01, 1, _FLAG_SIGNED), "uint8": (0x01, 1, 0),
    "int16": (0x02, 2, _FLAG_SIGNED), "uint16": (0x02, 2, 0), "int32": (0x03, 4, _FLAG_SIGNED), "uint32": (0x03, 4, 0),
    "int64": (0x04, 8, _FLAG_SIGNED), "uint64": (0x04, 8, 0), "float32": (0x03, 4, _FLAG_FP),
    "float64": (0x04, 8, _FLAG_FP),
}  # fmt: skip
_POINTER, _SEQUENCE = (8, 8), (24, 8)  # (size, alignment) of char * and dds_sequence_t
_NO_OPTIMIZE, _RESTRICT_REPRESENTATION, _XCDR1 = 1 << 0, 1 << 7, 1 << 0

_SERVICE_HEADER = (Field("client_guid", FieldType("uint64")), Field("sequence_number", FieldType("int64")))


class _Program:
    """The instructions of one topic: those of the top-level struct first, one subroutine per nested struct."""

    def __init__(self, spec_of: Callable[[str], MessageSpec]) -> None:
        self.ops: list[int] = []
        self._spec_of = spec_of
        self._layouts: dict[str, tuple[int, int]] = {}
        self._calls: list[tuple[int, int, str]] = []  # (index of the jump word, index of its instruction, struct)

    def build(self, fields: tuple[Field, ...]) -> tuple[int, int]:
        """Emit everything; returns size and alignment of the top-level struct."""
        layout = self._struct(fields)
        starts: dict[str, int] = {}
        position = 0
        while position < len(self._calls):
            word, instruction, name = self._calls[position]
            if name not in starts:
                starts[name] = len(self.ops)
                self._struct(self._fields_of(name))
            position += 1
            jump = starts[name] - instruction
            if jump >= 1 << 15:
                raise ValueError(f"{name} is too large a type")
            self.ops[word] |= jump & 0xFFFF
        return layout

    def _fields_of(self, name: str) -> tuple[Field, ...]:
        return self._spec_of(name).fields or (Field("structure_needs_at_least_one_member", FieldType("uint8")),)

    def _struct(self, fields: tuple[Field, ...]) -> tuple[int, int]:
        offset, alignment = 0, 1
        for field in fields or (Field("structure_needs_at_least_one_member", FieldType("uint8")),):
            size, align = self._layout(field.type)
            offset += -offset % align
            self._field(field.type, offset)
            offset += size
            alignment = max(alignment, align)
        self.ops.append(_RTS)
        return offset + -offset % alignment, alignment

    def _element_layout(self, kind: FieldType) -> tuple[int, int]:
        if kind.base in _TYPES:
            size = _TYPES[kind.base][1]
            return size, size
        if kind.base in ("string", "wstring"):
            return (kind.string_bound + 1, 1) if kind.string_bound and kind.base == "string" else _POINTER
        if kind.base not in self._layouts:
            offset, alignment = 0, 1
            for field in self._fields_of(kind.base):
                size, align = self._layout(field.type)
                offset += -offset % align + size
                alignment = max(alignment, align)
            self._layouts[kind.base] = (offset + -offset % alignment, alignment)
        return self._layouts[kind.base]

    def _layout(self, kind: FieldType) -> tuple[int, int]:
        if kind.array in ("bounded", "unbounded"):
            return _SEQUENCE
        size, align = self._element_layout(kind)
        return (size * kind.size if kind.array else size), align

    def _field(self, kind: FieldType, offset: int) -> None:
        ops, start = self.ops, len(self.ops)
        code, flags = self._code(kind)
        if not kind.array:
            if code == _STU:
                ops += [_ADR | _EXT << 16, offset, 3 << 16]
                self._calls.append((start + 2, start, kind.base))
            else:
                ops += [_ADR | code << 16 | flags, offset]
                if code == _BST:
                    ops.append(kind.string_bound + 1)
            return
        collection = {"fixed": _ARR, "bounded": _BSQ, "unbounded": _SEQ}[kind.array]
        ops += [_ADR | collection << 16 | code << 8 | flags, offset]
        if kind.array != "unbounded":
            ops.append(kind.size)
        if code == _BST:
            ops += [0, kind.string_bound + 1] if kind.array == "fixed" else [kind.string_bound + 1]
        elif code == _STU:
            size = self._element_layout(kind)[0]
            if kind.array == "fixed":
                ops += [5 << 16, size]
                word = start + 3
            else:
                ops.append(size)
                ops.append((len(ops) + 1 - start) << 16)
                word = len(ops) - 1
            self._calls.append((word, start, kind.base))

    def _code(self, kind: FieldType) -> tuple[int, int]:
        if kind.base in _TYPES:
            code, _, flags = _TYPES[kind.base]
            return code, flags
        if kind.base == "string":
            return (_BST if kind.string_bound else _STR), 0
        return (_WSTR, 0) if kind.base == "wstring" else (_STU, 0)


def dds_type_name(full_name: str) -> str:
    """``sensor_msgs/msg/Image`` → ``sensor_msgs::msg::dds_::Image_``."""
    package, kind, name = full_name.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def descriptor(spec: MessageSpec, spec_of: Callable[[str], MessageSpec], service: bool) -> TopicDescriptor:
    """The descriptor of a topic that carries `spec`; a `service` topic has the 16-byte request header in front."""
    program = _Program(spec_of)
    body = spec.fields or (Field("structure_needs_at_least_one_member", FieldType("uint8")),)
    size, align = program.build((_SERVICE_HEADER + body) if service else body)
    ops = (ct.c_uint32 * len(program.ops))(*program.ops)
    result = TopicDescriptor(
        m_size=size,
        m_align=align,
        m_flagset=_NO_OPTIMIZE | _RESTRICT_REPRESENTATION,
        m_typename=dds_type_name(spec.name).encode(),
        m_nops=len(program.ops),
        m_ops=ct.cast(ops, ct.POINTER(ct.c_uint32)),
        m_meta=b"",
        restrict_data_representation=_XCDR1,
    )
    result._keep = ops  # the array must live as long as the descriptor
    return result
