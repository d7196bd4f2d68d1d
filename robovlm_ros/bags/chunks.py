"""The messages of an MCAP file in the order in which they lie there, with one chunk in memory at a time.

The reader of the `mcap` package can do that by time only: asked for the order of the file, it keeps the messages of all
chunks before it hands out the first, which of a recording with cameras are gigabytes. Bytes are read, checked and
decompressed by the package; what is here goes through the records of a chunk (MCAP specification, "Chunk" and
"Message"). A chunk that is not compressed is read message by message: images are large, and each copy of them counts.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Iterator
from typing import IO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from mcap.reader import McapReader
from mcap.records import Channel, Chunk, Schema
from mcap.stream_reader import CRCValidationError, get_chunk_data_stream

_RECORD = struct.Struct("<BQ")
"""Opcode and length of what follows."""
_MESSAGE = struct.Struct("<HIQQ")
"""Channel, number, time of receipt and time of publishing [ns]; the message itself follows."""


class Found(NamedTuple):
    """One message of a file."""

    schema: Schema | None
    channel: Channel
    log_time: int
    """When it was received [ns]."""
    data: bytes


def messages_in_order(reader: McapReader, stream: IO[bytes], topics: Collection[str] | None = None) -> Iterator[Found]:
    """All messages of a reader's file, or those on some topics; what its package raises if the file is damaged."""
    summary = reader.get_summary()
    if summary is None or not summary.chunk_indexes:  # without an index the package itself goes from chunk to chunk
        for schema, channel, message in reader.iter_messages(topics, log_time_order=False):
            yield Found(schema, channel, message.log_time, message.data)
        return
    wanted = {
        number: (summary.schemas[channel.schema_id] if channel.schema_id else None, channel)
        for number, channel in summary.channels.items()
        if topics is None or channel.topic in topics
    }
    for index in sorted(summary.chunk_indexes, key=lambda index: index.chunk_start_offset):
        if index.message_index_offsets and not wanted.keys() & index.message_index_offsets.keys():
            continue
        stream.seek(index.chunk_start_offset + _RECORD.size, io.SEEK_SET)
        found: list[Found] = []
        content, length, expected = _content(ReadDataStream(stream), stream)
        while content.count < length:
            opcode, size = _RECORD.unpack(content.read(_RECORD.size))
            if size > length - content.count:  # damaged: what it says may be any number
                raise EndOfFile(f"a record of {size} bytes does not fit into its chunk")
            if opcode != Opcode.MESSAGE:
                content.read(size)
                continue
            number, _, log_time, _ = _MESSAGE.unpack(content.read(_MESSAGE.size))
            data = content.read(size - _MESSAGE.size)
            if number in wanted:
                found.append(Found(*wanted[number], log_time, data))
        if expected and content.checksum() != expected:
            raise CRCValidationError(expected=expected, actual=content.checksum(), record=index)
        yield from found


def _content(head: ReadDataStream, stream: IO[bytes]) -> tuple[ReadDataStream, int, int]:
    """The records of the chunk that begins here, their length, and the checksum that is still to be compared, or 0."""
    begin_ns, end_ns, size, checksum = head.read8(), head.read8(), head.read8(), head.read4()
    compression, length = head.read_prefixed_string(), head.read8()
    if not compression:
        return ReadDataStream(stream, calculate_crc=True), length, checksum
    chunk = Chunk(
        compression=compression,
        data=head.read(length),
        message_start_time=begin_ns,
        message_end_time=end_ns,
        uncompressed_crc=checksum,
        uncompressed_size=size,
    )
    return *get_chunk_data_stream(chunk, validate_crc=True), 0
