"""Writing one episode: an ordinary rosbag2 folder (MCAP) that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from robovlm_ros import __version__
from robovlm_ros.bags import metadata
from robovlm_ros.bags.interventions import Interventions
from robovlm_ros.bags.metadata import OfferedQos
from robovlm_ros.bags.schema import Definition, definition, deserialize, header_stamp_ns
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.messages import instruction as instruction_text

MCAP_RECORD = "robovlm_ros"
"""Name of the MCAP metadata records from which an unfinished recording can be told: at the start of the file those
that are known then, and one for each later note.
"""


PARTIAL = ".partial"
"""How the hidden folder of a running or unfinished recording ends."""


@dataclass
class _Channel:
    id: int
    type: str
    qos: str
    type_hash: str
    stamped: bool
    count: int = 0


class EpisodeWriter:
    """Writes raw messages, as they came, into ``.NAME.partial`` and renames it to ``NAME`` in `finish`.

    Not thread-safe. OSError (a full disk) passes through; what was written until then stays in the partial folder.
    The file is locked while it is written (``flock``, which ends with the process, however it ends), so that a repair
    can tell a recording that broke off from one that runs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        contract: Contract,
        *,
        operator: str = "",
        ros_distro: str = "",
        compress: bool = True,
        partial: Path | None = None,
    ) -> None:
        """Begin the episode ``path``, a folder that does not exist yet; chunks are zstd-compressed or not.

        ``partial`` is for a repair, whose original has the usual place.
        """
        self.path = Path(path)
        """Where the episode will be."""
        self.partial = partial or self.path.with_name(f".{self.path.name}{PARTIAL}")
        """Where it is until then."""
        if self.path.exists() or self.partial.exists():
            raise UserError(f"episode {self.path} exists already")
        self.contract = contract
        self.operator = operator
        self.instructions: list[tuple[int, str]] = []
        """Each instruction of this episode with the time at which it was received [ns]."""
        self._notes: dict[str, Any] = {"outcome": "unknown"}
        self._interventions = Interventions()
        self._to_begin_with: str | None = None  # the instruction in force at the first image
        self._seen = False
        self._ros_distro = ros_distro
        self._channels: dict[str, _Channel] = {}
        self._schemas: dict[str, int] = {}
        self._undated: list[tuple[str, bytes | memoryview]] = []
        self._start_ns: int | None = None
        self._end_ns = 0
        self.partial.mkdir(parents=True)
        self._stream = (self.partial / self._file_name).open("xb")
        fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        compression = CompressionType.ZSTD if compress else CompressionType.NONE
        self._mcap = Writer(self._stream, compression=compression)
        self._mcap.start(profile="ros2", library=f"robovlm_ros {__version__}")
        self._mcap.add_metadata(MCAP_RECORD, {key: _text(value) for key, value in self._fixed_data().items()})
        self._stream.flush()
        _sync_folder(self.partial)
        _sync_folder(self.partial.parent)

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages written so far, by topic."""
        return {topic: channel.count for topic, channel in self._channels.items()}

    def add_topic(self, topic: str, type_name: str, qos: OfferedQos | None = None) -> None:
        """Announce a topic before its first message; UserError if its type has no definition here."""
        if topic in self._channels:
            return
        self.add_channel(topic, type_name, definition(type_name), (qos or OfferedQos()).to_text())

    def add_channel(self, topic: str, type_name: str, found: Definition, qos_text: str) -> None:
        """Announce a topic whose definition and offered QoS (`OfferedQos.to_text`) are known, as from another bag."""
        if type_name not in self._schemas:
            self._schemas[type_name] = self._mcap.register_schema(type_name, "ros2msg", found.text.encode())
        channel_id = self._mcap.register_channel(
            topic,
            "cdr",
            self._schemas[type_name],
            {"offered_qos_profiles": qos_text, "topic_type_hash": found.type_hash},
        )
        self._channels[topic] = _Channel(channel_id, type_name, qos_text, found.type_hash, found.stamped)

    def write(self, topic: str, data: bytes | memoryview, receive_ns: int) -> None:
        """One message of an announced topic: CDR bytes and when they were received [ns].

        The publish time is the header stamp where the type has one. Messages may come in any order of time. A time of
        receipt of 0 means that simulated time was not known yet: the header stamp stands in for it, or the time of
        the next message that has one.
        """
        channel = self._channels[topic]
        publish_ns = (header_stamp_ns(data) if channel.stamped else None) or receive_ns
        receive_ns = receive_ns or publish_ns
        if not receive_ns:
            self._undated.append((topic, data))
            return
        undated, self._undated = self._undated, []
        for earlier_topic, earlier_data in undated:
            self.copy(earlier_topic, earlier_data, receive_ns, receive_ns)
        self.copy(topic, data, receive_ns, publish_ns)

    def copy(self, topic: str, data: bytes | memoryview, receive_ns: int, publish_ns: int) -> None:
        """One message of an announced topic whose two times are known already."""
        channel = self._channels[topic]
        self._mcap.add_message(channel.id, receive_ns, data, publish_ns, channel.count)
        channel.count += 1
        self._start_ns = receive_ns if self._start_ns is None else min(self._start_ns, receive_ns)
        self._end_ns = max(self._end_ns, receive_ns)
        if topic == self.contract.instruction_topic:
            self._note_instruction(data, channel.type, receive_ns)
        elif topic == self.contract.intervention_topic:
            self._interventions.hear(data, receive_ns)
        elif topic == self.contract.cameras[0].topic:
            self._seen = True

    def _note_instruction(self, data: bytes | memoryview, type_name: str, receive_ns: int) -> None:
        try:
            text = instruction_text(deserialize(data, type_name))
        except UserError:  # somebody's broken message: it is kept as it came, and tells nothing
            return
        if not self.instructions or self.instructions[-1][1] != text:
            self.instructions.append((receive_ns, text))
        if self._to_begin_with is None or not self._seen:
            self._to_begin_with = text

    def note(self, key: str, value: Any) -> None:
        """Something that the episode's metadata shall say, such as its outcome; the latest note of a key counts.

        It goes into the file at once, so that a repair finds it. ``value``: text, or what JSON can say.
        """
        self._notes[key] = value
        self._mcap.add_metadata(MCAP_RECORD, {key: _text(value)})

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system: what was written survives this process."""
        self._mcap.flush()

    def fileno(self) -> int:
        """Descriptor of the file: ``os.fdatasync`` makes what was flushed survive the loss of power."""
        return self._stream.fileno()

    def finish(self, **notes: Any) -> Path:
        """Complete the episode, with what else its metadata shall say, and give it its name; returns its path."""
        for topic, data in self._undated:  # nothing that came had a time
            self.copy(topic, data, 0, 0)
        self._mcap.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        topics = [
            metadata.Topic(
                name=name, type=channel.type, qos=channel.qos, type_hash=channel.type_hash, count=channel.count
            )
            for name, channel in self._channels.items()
        ]
        custom = {
            "instruction": self._to_begin_with or "",
            "instructions": [{"time_ns": time_ns, "text": text} for time_ns, text in self.instructions],
            "interventions": [
                {"begin_ns": begin_ns, "end_ns": end_ns} for begin_ns, end_ns in self._interventions.spans(self._end_ns)
            ],
            **self._notes,
            **notes,
            **self._fixed_data(),
        }
        document = metadata.build(self._file_name, topics, self._start_ns or 0, self._end_ns, self._ros_distro, custom)
        metadata.write(self.partial, document)
        self.partial.rename(self.path)
        _sync_folder(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Remove what was written."""
        self.abandon()
        shutil.rmtree(self.partial, ignore_errors=True)

    def abandon(self) -> None:
        """After an error: close the file and leave what is in the partial folder."""
        with suppress(OSError):  # on a full disk closing fails, too
            self._stream.close()

    @property
    def _file_name(self) -> str:
        return f"{self.path.name}_0.mcap"

    def _fixed_data(self) -> dict[str, Any]:
        """What is known from the start."""
        return {
            "operator": self.operator,
            "contract": self.contract.to_dict(),
            "versions": {"robovlm_ros": __version__, "ros_distro": self._ros_distro},
        }


def _sync_folder(folder: Path) -> None:
    """Have a folder's names reach the disk: without it a loss of power may take a file that was synced itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
