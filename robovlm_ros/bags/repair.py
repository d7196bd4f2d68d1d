"""Recordings that broke off (the process was killed, the power failed, the disk was full) become episodes again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mcap.exceptions import EndOfFile
from mcap.records import Channel, Chunk, Message, Metadata, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from robovlm_ros.bags import metadata
from robovlm_ros.bags.reader import read_episode
from robovlm_ros.bags.schema import Definition, is_stamped
from robovlm_ros.bags.writer import MCAP_RECORD, PARTIAL, EpisodeWriter
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

REPAIRING, DAMAGED = ".repairing", ".damaged"
"""Ends of the hidden folders of a repair under way, and of an original that was damaged in the midst of it."""
LARGEST_RECORD = 2**30
"""A record that says it is longer than this [bytes] is damaged: chunks have about one MiB."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What became of an unfinished recording."""

    name: str
    """Name of the episode."""
    path: Path | None
    """The episode; None: no message had reached the disk, and the recording is gone."""
    messages: int
    """Messages that it holds."""
    sentence: str
    """What was done, for a person."""


def list_unfinished(directory: str | os.PathLike[str]) -> list[Path]:
    """The recordings in a folder that have not become an episode, those among them that run, too; oldest first."""
    found = Path(directory).glob(f".*{PARTIAL}")
    return sorted(path for path in found if path.is_dir())


def recover(partial: Path) -> Repair:
    """Make an episode of what can be read of an unfinished recording, and remove that only when the episode is whole.

    May be interrupted and called again. UserError if a recorder is at work on it, if an episode of its name exists
    that is none of it, or if it cannot be told what the recording is; the recording then stays as it is.
    """
    path = partial.with_name(partial.name.removeprefix(".").removesuffix(PARTIAL))
    source = partial / f"{path.name}_0.mcap"
    try:
        stream: IO[bytes] = source.open("rb")
    except FileNotFoundError:  # killed before the file was made
        shutil.rmtree(partial)
        return Repair(name=path.name, path=None, messages=0, sentence=f"{path.name}: held nothing, removed")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path.name} is being recorded right now: left alone") from error
        if path.exists():
            return _after_a_repair(path, partial)
        if (partial / metadata.FILE_NAME).is_file():
            return _only_rename(path, partial)
        return _rewrite(path, partial, stream)


@dataclass
class _Salvage:
    """Reads what can be read of an MCAP file without an end."""

    stream: IO[bytes]
    notes: dict[str, str] = field(default_factory=dict)
    """What the recorder said of the recording."""
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    compressed: bool = False
    damage: str = ""
    """What is wrong with it apart from that it ends too early."""

    def messages(self) -> Iterator[Message]:
        """In the order of the file; chunks that are damaged are left out."""
        reader = StreamReader(self.stream, emit_chunks=True, record_size_limit=LARGEST_RECORD)
        records = iter(reader.records)
        while True:
            try:
                record = next(records)
            except (StopIteration, EndOfFile):
                return
            except Exception as error:  # whatever broken bytes lead the parser to; what came before them counts
                self.damage = " ".join(str(error).split()) or type(error).__name__
                return
            if isinstance(record, Metadata) and record.name == MCAP_RECORD:
                self.notes.update(record.metadata)
            elif isinstance(record, Chunk):
                yield from self._of_chunk(record)

    def _of_chunk(self, chunk: Chunk) -> Iterator[Message]:
        try:
            parts = breakup_chunk(chunk, validate_crc=True)
        except Exception as error:
            self.damage = " ".join(str(error).split()) or type(error).__name__
            return
        self.compressed = self.compressed or bool(chunk.compression)
        for part in parts:
            if isinstance(part, Schema):
                self.schemas[part.id] = part
            elif isinstance(part, Channel):
                self.channels[part.id] = part
            elif isinstance(part, Message):
                if part.channel_id in self.channels:
                    yield part
                else:
                    self.damage = "the chunk that names the topics is damaged"


def _rewrite(path: Path, partial: Path, stream: IO[bytes]) -> Repair:
    found = _Salvage(stream)
    messages = found.messages()
    first = next(messages, None)
    if first is None and not found.damage:
        shutil.rmtree(partial)
        sentence = f"{path.name}: no message had reached the disk, removed"
        return Repair(name=path.name, path=None, messages=0, sentence=sentence)
    if first is None or "contract" not in found.notes:
        reason = found.damage or "it does not say of which robot it is"
        raise UserError(f"{path.name} cannot be recovered: {reason}; it stays in {partial}")
    workplace = path.with_name(f".{path.name}{REPAIRING}")
    shutil.rmtree(workplace, ignore_errors=True)  # of a repair that was interrupted
    writer = EpisodeWriter(
        path,
        Contract.from_dict(json.loads(found.notes["contract"]), where=f"contract of {partial}"),
        operator=found.notes.get("operator", ""),
        ros_distro=json.loads(found.notes.get("versions", "{}")).get("ros_distro", ""),
        compress=found.compressed,
        partial=workplace,
    )
    try:
        message: Message | None = first
        while message is not None:
            _announce(writer, found)
            topic = found.channels[message.channel_id].topic
            writer.copy(topic, message.data, message.log_time, message.publish_time)
            message = next(messages, None)
        begun_with = ("contract", "operator", "versions")  # the writer says these itself
        writer.finish(**{key: value for key, value in found.notes.items() if key not in begun_with}, recovered=True)
    except BaseException:
        writer.discard()
        raise
    episode = read_episode(path)
    total = sum(1 for _ in episode.messages())  # UserError, before the original goes, if not all can be read again
    said = f"{path.name}: recovered {episode.duration_s:.1f} s, {total} messages"
    if found.damage:
        kept = path.with_name(f".{path.name}{DAMAGED}")
        partial.rename(kept)
        said += f"; the original was damaged ({found.damage}) and stays in {kept}"
    else:
        shutil.rmtree(partial)
    return Repair(name=path.name, path=path, messages=total, sentence=said)


def _announce(writer: EpisodeWriter, found: _Salvage) -> None:
    """Have the writer know each topic that has been found until now, in the words of the recording."""
    if len(writer.counts) == len(found.channels):
        return
    for channel in found.channels.values():
        if channel.topic not in writer.counts:
            schema = found.schemas[channel.schema_id]
            text = schema.data.decode()
            hashed = channel.metadata.get("topic_type_hash", "")
            definition = Definition(text=text, type_hash=hashed, stamped=is_stamped(text))
            writer.add_channel(channel.topic, schema.name, definition, channel.metadata.get("offered_qos_profiles", ""))


def _only_rename(path: Path, partial: Path) -> Repair:
    """It was complete and lacked its name only."""
    total = sum(1 for _ in read_episode(partial).messages())
    partial.rename(path)
    return Repair(name=path.name, path=path, messages=total, sentence=f"{path.name}: was complete, has its name now")


def _after_a_repair(path: Path, partial: Path) -> Repair:
    """An earlier repair was interrupted between its last two steps."""
    episode = read_episode(path)
    if not episode.recovered:
        raise UserError(f"{path.name} exists beside {partial.name}: rename one of them")
    total = sum(1 for _ in episode.messages())
    shutil.rmtree(partial)
    return Repair(name=path.name, path=path, messages=total, sentence=f"{path.name}: had been recovered already")
