"""Writing one episode: an ordinary rosbag2 folder (MCAP) that appears under its name only when it is complete."""

from __future__ import annotations

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
from robovlm_ros.bags.metadata import OfferedQos
from robovlm_ros.bags.schema import definition, deserialize, header_stamp_ns
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.messages import instruction as instruction_text

MCAP_RECORD = "robovlm_ros"
"""Name of the MCAP metadata record at the start of the file, from which a broken recording can be told."""


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
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        contract: Contract,
        *,
        operator: str = "",
        ros_distro: str = "",
        compress: bool = True,
    ) -> None:
        """Begin the episode ``path``, a folder that does not exist yet; chunks are zstd-compressed or not."""
        self.path = Path(path)
        """Where the episode will be."""
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        """Where it is until then."""
        if self.path.exists() or self.partial.exists():
            raise UserError(f"episode {self.path} exists already")
        self.contract = contract
        self.operator = operator
        self.instructions: list[tuple[int, str]] = []
        """Each instruction of this episode with the time at which it was received [ns]."""
        self.outcome = "unknown"
        """What `finish` says of the episode, one of OUTCOMES."""
        self._to_begin_with: str | None = None  # the instruction in force at the first image
        self._seen = False
        self._ros_distro = ros_distro
        self._channels: dict[str, _Channel] = {}
        self._schemas: dict[str, int] = {}
        self._undated: list[tuple[str, bytes]] = []
        self._start_ns: int | None = None
        self._end_ns = 0
        self.partial.mkdir(parents=True)
        self._stream = (self.partial / self._file_name).open("xb")
        compression = CompressionType.ZSTD if compress else CompressionType.NONE
        self._mcap = Writer(self._stream, compression=compression)
        self._mcap.start(profile="ros2", library=f"robovlm_ros {__version__}")
        self._mcap.add_metadata(MCAP_RECORD, {key: _text(value) for key, value in self._fixed_data().items()})
        self._stream.flush()

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages written so far, by topic."""
        return {topic: channel.count for topic, channel in self._channels.items()}

    def add_topic(self, topic: str, type_name: str, qos: OfferedQos | None = None) -> None:
        """Announce a topic before its first message; UserError if its type has no definition here."""
        if topic in self._channels:
            return
        found = definition(type_name)
        if type_name not in self._schemas:
            self._schemas[type_name] = self._mcap.register_schema(type_name, "ros2msg", found.text.encode())
        qos_text = (qos or OfferedQos()).to_text()
        channel_id = self._mcap.register_channel(
            topic,
            "cdr",
            self._schemas[type_name],
            {"offered_qos_profiles": qos_text, "topic_type_hash": found.type_hash},
        )
        self._channels[topic] = _Channel(channel_id, type_name, qos_text, found.type_hash, found.stamped)

    def write(self, topic: str, data: bytes, receive_ns: int) -> None:
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
            self._write(self._channels[earlier_topic], earlier_topic, earlier_data, receive_ns, receive_ns)
        self._write(channel, topic, data, receive_ns, publish_ns)

    def _write(self, channel: _Channel, topic: str, data: bytes, receive_ns: int, publish_ns: int) -> None:
        self._mcap.add_message(channel.id, receive_ns, data, publish_ns, channel.count)
        channel.count += 1
        self._start_ns = receive_ns if self._start_ns is None else min(self._start_ns, receive_ns)
        self._end_ns = max(self._end_ns, receive_ns)
        if topic == self.contract.instruction_topic:
            self._note_instruction(data, channel.type, receive_ns)
        elif topic == self.contract.cameras[0].topic:
            self._seen = True

    def _note_instruction(self, data: bytes, type_name: str, receive_ns: int) -> None:
        try:
            text = instruction_text(deserialize(data, type_name))
        except UserError:  # somebody's broken message: it is kept as it came, and tells nothing
            return
        if not self.instructions or self.instructions[-1][1] != text:
            self.instructions.append((receive_ns, text))
        if self._to_begin_with is None or not self._seen:
            self._to_begin_with = text

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system: what was written survives this process."""
        self._mcap.flush()

    def finish(self) -> Path:
        """Complete the episode and give it its name; returns its path."""
        for topic, data in self._undated:  # nothing that came had a time
            self._write(self._channels[topic], topic, data, 0, 0)
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
            "outcome": self.outcome,
            **self._fixed_data(),
        }
        document = metadata.build(self._file_name, topics, self._start_ns or 0, self._end_ns, self._ros_distro, custom)
        metadata.write(self.partial, document)
        self.partial.rename(self.path)
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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
