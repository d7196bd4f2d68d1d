"""XCDR1 (plain CDR) between message objects and bytes, built from closures once per message type.

Layout: OMG DDS-XTypes 1.3, 7.4.1: every primitive is aligned to its own size, counted from the end of the 4-byte
encapsulation header; strings and sequences carry a uint32 count first.

Runs of primitives become one `struct.Struct` per starting phase (position modulo 8), so that a Pose costs two packs.
Large byte arrays are never copied here when encoding: they stay chunks of their own, which the DDS layer gathers; when
decoding they are copied once, from the received buffer into the message.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ros2_lite.messages.spec import Field, FieldType, MessageSpec

HEADER_LE = b"\x00\x01\x00\x00"
HEADER_BE = b"\x00\x00\x00\x00"
GATHER_FROM = 4096
"""Arrays of at least this many bytes become chunks of their own instead of being copied into the stream [bytes]."""

FORMATS = {
    "bool": "?", "byte": "c", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
SIZES = {base: struct.calcsize("=" + code) for base, code in FORMATS.items()}
TYPECODES = {base: code for base, code in FORMATS.items() if base not in ("bool", "byte")}
"""`array.array` type codes of the numeric primitives."""
DTYPES = {base: np.dtype(code) for base, code in TYPECODES.items()}


class CodecError(ValueError):
    """Bytes that are no message of the type, or a message whose fields cannot be written."""


class _Out:
    """The stream being written: finished chunks, the chunk at hand, and the phase at which that chunk starts."""

    __slots__ = ("buf", "parts", "shift")

    def __init__(self) -> None:
        self.buf = bytearray(HEADER_LE)
        self.parts: list[Any] = []
        self.shift = 4  # so that the position after the 4-byte header has phase 0

    def gather(self, view: memoryview) -> None:
        """Append `view` (of bytes) as a chunk of its own."""
        self.parts.append(self.buf)
        self.parts.append(view)
        self.shift = (self.shift + len(self.buf) + len(view)) & 7
        self.buf = bytearray()


Encode = Callable[[_Out, Any], None]
Decode = Callable[[memoryview, int, Any], int]
_LENGTH = struct.Struct("<I")
_PAD = [b"\0" * n for n in range(8)]


class Codec:
    """Encoder and decoder of one message class, whose slots are ``_<field>``."""

    def __init__(
        self, spec: MessageSpec, cls: Any, class_of: Callable[[str], Any], explain: Callable[[Any], str | None]
    ) -> None:
        self.spec = spec
        self._cls = cls
        self._class_of = class_of
        self._explain = explain
        self._encoders: list[Encode] = []
        self._decoders: dict[bool, list[Decode]] = {}
        self._build_encoders()

    # ---- whole messages -------------------------------------------------------------------------------------------

    def encode(self, message: Any, prefix: bytes = b"") -> list[Any]:
        """Chunks of the serialised message: 4-byte header, `prefix` (a multiple of 8 bytes), body.

        Raises CodecError when a field holds something that its type cannot carry.
        """
        out = _Out()
        out.buf += prefix
        try:
            self.encode_into(out, message)
        except (struct.error, TypeError, AttributeError, UnicodeError, ValueError) as error:
            raise CodecError(f"cannot serialise {self.spec.name}: {self._explain(message) or error}") from None
        out.parts.append(out.buf)
        return out.parts

    def decode(self, data: memoryview, prefix: int = 0) -> Any:
        """A new message from serialised bytes (header included); `prefix` bytes after the header are skipped.

        Raises CodecError when the bytes are no such message.
        """
        if len(data) < 4:
            raise CodecError(f"{self.spec.name}: {len(data)} bytes are too few for a CDR header")
        if data[0] != 0 or data[1] > 1:
            raise CodecError(f"{self.spec.name}: unknown encapsulation 0x{data[0]:02x}{data[1]:02x} (plain CDR wanted)")
        message = self._cls.__new__(self._cls)
        try:
            self.decode_into(data[4:], prefix, message, bool(data[1]))
        except (struct.error, IndexError) as error:
            raise CodecError(f"{self.spec.name}: damaged or truncated data ({error})") from None
        return message

    def encode_into(self, out: _Out, message: Any) -> None:
        for step in self._encoders:
            step(out, message)

    def decode_into(self, data: memoryview, pos: int, message: Any, little: bool) -> int:
        steps = self._decoders.get(little)
        if steps is None:
            steps = self._decoders[little] = self._build_decoders(little)
        for step in steps:
            pos = step(data, pos, message)
        return pos

    # ---- building -------------------------------------------------------------------------------------------------

    def _runs(self) -> list[list[Field]]:
        """Fields in order, neighbouring plain primitives together."""
        runs: list[list[Field]] = []
        for field in self.spec.fields:
            plain = not field.type.array and field.type.base in FORMATS
            if plain and runs and not runs[-1][0].type.array and runs[-1][0].type.base in FORMATS:
                runs[-1].append(field)
            else:
                runs.append([field])
        return runs

    def _build_encoders(self) -> None:
        for run in self._runs():
            kind = run[0].type
            slots = [f"_{field.name}" for field in run]
            if not kind.array and kind.base in FORMATS:
                self._encoders.append(_encode_run(slots, [field.type.base for field in run]))
            elif not kind.array:
                self._encoders.append(_encode_one(slots[0], self._element_encoder(kind)))
            else:
                self._encoders.append(self._encode_array(slots[0], kind))
        if not self.spec.fields:
            self._encoders.append(_encode_empty)

    def _element_encoder(self, kind: FieldType) -> Encode:
        """Writes one value (not a message that holds it)."""
        if kind.base == "string":
            return _encode_string
        if kind.base == "wstring":
            return _encode_wstring
        # A nested message's codec is looked up late: its class may be made only when first needed.
        codec: Codec = self._class_of(kind.base)._codec
        return codec.encode_into

    def _encode_array(self, slot: str, kind: FieldType) -> Encode:
        get = operator.attrgetter(slot)
        counted = kind.array != "fixed"
        bound = kind.size
        name = slot[1:]

        def check(count: int) -> None:
            if not counted and count != bound:
                raise CodecError(f"{name} has {count} elements, its type {bound}")
            if counted and bound and count > bound:
                raise CodecError(f"{name} has {count} elements, its type at most {bound}")

        if kind.base in FORMATS:
            as_bytes = _bytes_of(kind.base)
            size = SIZES[kind.base]

            def encode_numbers(out: _Out, message: Any) -> None:
                value = get(message)
                count = len(value)
                check(count)
                if counted:
                    _align(out, 4)
                    out.buf += _LENGTH.pack(count)
                if count:
                    if size > 1:
                        _align(out, size)
                    data = as_bytes(value)
                    if len(data) >= GATHER_FROM and isinstance(data, memoryview):
                        out.gather(data)
                    else:
                        out.buf += data

            return encode_numbers

        element = self._element_encoder(kind)

        def encode_elements(out: _Out, message: Any) -> None:
            value = get(message)
            check(len(value))
            if counted:
                _align(out, 4)
                out.buf += _LENGTH.pack(len(value))
            for item in value:
                element(out, item)

        return encode_elements

    def _build_decoders(self, little: bool) -> list[Decode]:
        steps: list[Decode] = []
        order = "<" if little else ">"
        for run in self._runs():
            kind = run[0].type
            setters = [getattr(self._cls, f"_{field.name}").__set__ for field in run]
            if not kind.array and kind.base in FORMATS:
                steps.append(_decode_run(setters, [field.type.base for field in run], order))
            elif not kind.array:
                steps.append(_decode_one(setters[0], self._element_decoder(kind, little)))
            else:
                steps.append(self._decode_array(setters[0], kind, little))
        if not self.spec.fields:
            steps.append(lambda data, pos, message: pos + 1)
        return steps

    def _element_decoder(self, kind: FieldType, little: bool) -> Callable[[memoryview, int], tuple[Any, int]]:
        order = "<" if little else ">"
        if kind.base in ("string", "wstring"):
            length = struct.Struct(order + "I")
            return _string_decoder(length) if kind.base == "string" else _wstring_decoder(length, little)
        cls = self._class_of(kind.base)
        codec: Codec = cls._codec
        new = cls.__new__

        def decode_message(data: memoryview, pos: int) -> tuple[Any, int]:
            message = new(cls)
            return message, codec.decode_into(data, pos, message, little)

        return decode_message

    def _decode_array(self, put: Callable[[Any, Any], None], kind: FieldType, little: bool) -> Decode:
        counted = kind.array != "fixed"
        bound = kind.size
        length = struct.Struct("<I" if little else ">I")
        what = str(kind)
        swap = little != (sys.byteorder == "little")

        def count_at(data: memoryview, pos: int) -> tuple[int, int]:
            if not counted:
                return bound, pos
            pos = (pos + 3) & ~3
            (count,) = length.unpack_from(data, pos)
            if bound and count > bound:
                raise CodecError(f"{self.spec.name}: {count} elements in {what}")
            return count, pos + 4

        if kind.base in FORMATS:
            size = SIZES[kind.base]
            make = _maker(kind, swap)

            def decode_numbers(data: memoryview, pos: int, message: Any) -> int:
                count, pos = count_at(data, pos)
                if count and size > 1:
                    pos = (pos + size - 1) & -size
                end = pos + count * size
                if end > len(data):
                    raise CodecError(f"{self.spec.name}: {what} of {count} elements runs past the end of the data")
                put(message, make(data[pos:end]))
                return end

            return decode_numbers

        element = self._element_decoder(kind, little)

        def decode_elements(data: memoryview, pos: int, message: Any) -> int:
            count, pos = count_at(data, pos)
            if count > len(data) - pos:  # an element takes a byte at least: refuse before allocating
                raise CodecError(f"{self.spec.name}: {what} of {count} elements runs past the end of the data")
            items = []
            for _ in range(count):
                item, pos = element(data, pos)
                items.append(item)
            put(message, items)
            return pos

        return decode_elements


# ---- steps ---------------------------------------------------------------------------------------------------------


def _align(out: _Out, size: int) -> None:
    over = (len(out.buf) + out.shift) & (size - 1)
    if over:
        out.buf += _PAD[size - over]


def _phases(bases: Sequence[str], order: str) -> list[struct.Struct]:
    """One struct per phase 0..7 of the starting position, padded as CDR aligns."""
    structs = []
    for phase in range(8):
        position, code = phase, order
        for base in bases:
            size = SIZES[base]
            pad = -position % size
            code += "x" * pad + FORMATS[base]
            position += pad + size
        structs.append(struct.Struct(code))
    return structs


def _encode_run(slots: list[str], bases: list[str]) -> Encode:
    structs = _phases(bases, "<")
    get = operator.attrgetter(*slots)
    if len(slots) == 1:

        def encode_single(out: _Out, message: Any) -> None:
            buf = out.buf
            buf += structs[(len(buf) + out.shift) & 7].pack(get(message))

        return encode_single

    def encode_run(out: _Out, message: Any) -> None:
        buf = out.buf
        buf += structs[(len(buf) + out.shift) & 7].pack(*get(message))

    return encode_run


def _encode_one(slot: str, element: Encode) -> Encode:
    get = operator.attrgetter(slot)

    def encode_one(out: _Out, message: Any) -> None:
        element(out, get(message))

    return encode_one


def _encode_empty(out: _Out, message: Any) -> None:
    out.buf += b"\0"  # a struct without members carries one byte


def _encode_string(out: _Out, value: str) -> None:
    data = value.encode()
    buf = out.buf
    over = (len(buf) + out.shift) & 3
    if over:
        buf += _PAD[4 - over]
    buf += _LENGTH.pack(len(data) + 1)
    buf += data
    buf += b"\0"


def _encode_wstring(out: _Out, value: str) -> None:
    data = value.encode("utf-16-le")
    _align(out, 4)
    out.buf += _LENGTH.pack(len(data) // 2)
    out.buf += data


def _bytes_of(base: str) -> Callable[[Any], Any]:
    """The bytes of a stored array: a view where its memory already is the wire format."""
    if base == "bool":
        return lambda value: bytes(1 if item else 0 for item in value)
    if base == "byte":
        return b"".join
    dtype = DTYPES[base].newbyteorder("<")
    code = TYPECODES[base]

    def as_bytes(value: Any) -> Any:
        if isinstance(value, array) and value.typecode == code and sys.byteorder == "little":
            return memoryview(value).cast("B")
        flat = np.ascontiguousarray(value, dtype=dtype).reshape(-1)
        return flat.view(np.uint8).data

    return as_bytes


def _decode_run(setters: list[Callable[[Any, Any], None]], bases: list[str], order: str) -> Decode:
    structs = _phases(bases, order)
    if len(setters) == 1:
        put = setters[0]

        def decode_single(data: memoryview, pos: int, message: Any) -> int:
            single = structs[pos & 7]
            put(message, single.unpack_from(data, pos)[0])
            return pos + single.size

        return decode_single

    def decode_run(data: memoryview, pos: int, message: Any) -> int:
        run = structs[pos & 7]
        for put, value in zip(setters, run.unpack_from(data, pos)):  # noqa: B905 (equal by construction)
            put(message, value)
        return pos + run.size

    return decode_run


def _decode_one(put: Callable[[Any, Any], None], element: Callable[[memoryview, int], tuple[Any, int]]) -> Decode:
    def decode_one(data: memoryview, pos: int, message: Any) -> int:
        value, pos = element(data, pos)
        put(message, value)
        return pos

    return decode_one


def _string_decoder(length: struct.Struct) -> Callable[[memoryview, int], tuple[str, int]]:
    def decode_string(data: memoryview, pos: int) -> tuple[str, int]:
        pos = (pos + 3) & ~3
        (count,) = length.unpack_from(data, pos)
        pos += 4
        end = pos + count
        if count == 0:  # some implementations write an empty string without its terminator
            return "", end
        if end > len(data):
            raise CodecError(f"string of {count} bytes runs past the end of the data")
        if data[end - 1] != 0:
            raise CodecError("string without its terminator")
        return str(data[pos : end - 1], "utf-8", "replace"), end

    return decode_string


def _wstring_decoder(length: struct.Struct, little: bool) -> Callable[[memoryview, int], tuple[str, int]]:
    encoding = "utf-16-le" if little else "utf-16-be"

    def decode_wstring(data: memoryview, pos: int) -> tuple[str, int]:
        pos = (pos + 3) & ~3
        (count,) = length.unpack_from(data, pos)
        end = pos + 4 + 2 * count
        if end > len(data):
            raise CodecError(f"wide string of {count} characters runs past the end of the data")
        return str(data[pos + 4 : end], encoding, "replace"), end

    return decode_wstring


def _maker(kind: FieldType, swap: bool) -> Callable[[memoryview], Any]:
    """Makes what rclpy keeps in an array field from its bytes (one copy)."""
    if kind.base == "bool":
        return lambda data: [byte != 0 for byte in data]
    if kind.base == "byte":
        return lambda data: [bytes((byte,)) for byte in data]
    if kind.array == "fixed":
        dtype = DTYPES[kind.base]

        def make_ndarray(data: memoryview) -> Any:
            values = np.frombuffer(data, dtype=dtype)
            return values.byteswap() if swap else values.copy()

        return make_ndarray
    code = TYPECODES[kind.base]

    def make_array(data: memoryview) -> Any:
        values = array(code)
        values.frombytes(data)
        if swap:
            values.byteswap()
        return values

    return make_array
