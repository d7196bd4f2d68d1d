"""Reading bags: folders with their ``metadata.yaml``, or single MCAP and SQLite files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ros2_lite.bags import metadata
from ros2_lite.bags.metadata import BagError, BagInfo, File, Topic


class Message(NamedTuple):
    """One message: its topic, the time at which it was received [ns] and its CDR bytes."""

    topic: str
    time_ns: int
    data: bytes


class Bag:
    """A bag that is there; `info` is known at once, messages are read as they are asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        if os.path.isdir(path):
            self._folder = path
            self.info = metadata.read(path)
        elif os.path.exists(path):
            self._folder = os.path.dirname(path)
            self.info = _info_of_file(path)
        else:
            raise BagError(f"bag path '{path}' does not exist")
        if self.info.compression_mode not in ("", "none", "NONE"):
            raise BagError(
                f"bag '{path}' is compressed by rosbag2 itself (mode {self.info.compression_mode}), which is not read "
                "here; `ros2 bag convert` makes an MCAP bag of it"
            )

    def messages(
        self, wanted: Callable[[str], bool] = lambda topic: True, start_ns: int = 0, end_ns: int = 2**63 - 1
    ) -> Iterator[Message]:
        """The messages of the wanted topics by their time, from `start_ns` up to and with `end_ns`."""
        topics = [topic.name for topic in self.info.topics if wanted(topic.name)]
        for one in self.info.files:
            path = os.path.join(self._folder, one.path)
            read = _read_sqlite if self.info.storage == "sqlite3" else _read_mcap
            yield from read(path, topics, start_ns, end_ns)


def _info_of_file(path: str) -> BagInfo:
    """What a single file tells, of which there is no ``metadata.yaml``."""
    if path.endswith(".db3"):
        return _info_of_sqlite(path)
    if path.endswith(".mcap"):
        return _info_of_mcap(path)
    raise BagError(f"'{path}' is no bag: neither a folder with {metadata.FILE_NAME}, nor a .mcap or .db3 file")


# -- MCAP ------------------------------------------------------------------------------------------------------------


def mcap_module(name: str) -> Any:
    """A module of the package ``mcap``; BagError with the cure where it is not installed."""
    import importlib

    try:
        return importlib.import_module(f"mcap.{name}")
    except ImportError:
        raise BagError("MCAP bags need the package mcap: pip install 'ros2_lite[bags]'") from None


def _read_mcap(path: str, topics: list[str], start_ns: int, end_ns: int) -> Iterator[Message]:
    exceptions = mcap_module("exceptions")
    make_reader = mcap_module("reader").make_reader
    if not topics:  # to the package, no topics mean all
        return
    try:
        with open(path, "rb") as stream:
            found = make_reader(stream).iter_messages(topics=topics, starting_at=start_ns, ending_at=end_ns)
            for _, channel, message in found:
                yield Message(channel.topic, message.log_time, message.data)
    except OSError as error:
        raise BagError(f"cannot read '{path}': {error.strerror}") from None
    except exceptions.McapError as error:
        raise BagError(f"'{path}' is no whole MCAP file: {type(error).__name__} {error}") from None


def _info_of_mcap(path: str) -> BagInfo:
    exceptions = mcap_module("exceptions")
    make_reader = mcap_module("reader").make_reader
    file = File(os.path.basename(path))
    topics: dict[str, Topic] = {}
    distro = ""

    def topic_of(channel: Any, schema: Any) -> Topic:
        if channel.topic not in topics:
            about = channel.metadata
            topics[channel.topic] = Topic(
                name=channel.topic,
                type=schema.name if schema is not None else "",
                qos=about.get("offered_qos_profiles", ""),
                type_hash=about.get("topic_type_hash", ""),
                serialization_format=channel.message_encoding,
            )
        return topics[channel.topic]

    try:
        with open(path, "rb") as stream:
            reader = make_reader(stream)
            summary = reader.get_summary()
            if summary is not None and summary.statistics is not None:
                counts = summary.statistics.channel_message_counts
                for number, channel in summary.channels.items():
                    topic_of(channel, summary.schemas.get(channel.schema_id)).count += counts.get(number, 0)
                file.count = summary.statistics.message_count
                file.start_ns = summary.statistics.message_start_time if file.count else None
                file.end_ns = summary.statistics.message_end_time
                for record in reader.iter_metadata():
                    distro = record.metadata.get("ROS_DISTRO", distro)
            else:  # a recording that broke off has no summary: what is there is read
                for schema, channel, message in reader.iter_messages(log_time_order=False):
                    topic_of(channel, schema).count += 1
                    file.add(message.log_time)
    except OSError as error:
        raise BagError(f"cannot read '{path}': {error.strerror}") from None
    except exceptions.McapError as error:
        raise BagError(f"'{path}' is no whole MCAP file: {type(error).__name__} {error}") from None
    return BagInfo("mcap", sorted(topics.values(), key=lambda topic: topic.name), [file], distro, size=_size(path))


# -- SQLite ----------------------------------------------------------------------------------------------------------


def _connect(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise BagError(f"cannot read '{path}': it is not there")
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _read_sqlite(path: str, topics: list[str], start_ns: int, end_ns: int) -> Iterator[Message]:
    connection = _connect(path)
    try:
        names = dict(connection.execute("SELECT id, name FROM topics"))
        wanted = [number for number, name in names.items() if name in topics]
        places = ",".join("?" * len(wanted))
        rows = connection.execute(
            f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({places}) "
            "AND timestamp BETWEEN ? AND ? ORDER BY timestamp, id",
            [*wanted, start_ns, end_ns],
        )
        for number, time_ns, data in rows:
            yield Message(names[number], time_ns, data)
    except sqlite3.Error as error:
        raise BagError(f"'{path}' is no SQLite bag: {error}") from None
    finally:
        connection.close()


def _info_of_sqlite(path: str) -> BagInfo:
    connection = _connect(path)
    try:
        counts = dict(connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
        rows = connection.execute(
            "SELECT id, name, type, serialization_format, offered_qos_profiles FROM topics ORDER BY name"
        )
        topics = [
            Topic(name, type_name, qos, "", counts.get(number, 0), form) for number, name, type_name, form, qos in rows
        ]
        start, end, count = connection.execute(
            "SELECT MIN(timestamp), MAX(timestamp), COUNT(*) FROM messages"
        ).fetchone()
    except sqlite3.Error as error:
        raise BagError(f"'{path}' is no SQLite bag: {error}") from None
    finally:
        connection.close()
    return BagInfo("sqlite3", topics, [File(os.path.basename(path), start, end or 0, count)], size=_size(path))


def _size(path: str) -> int:
    return os.path.getsize(path)
