"""Writing bags: a folder of MCAP files, with everything in them that a reader elsewhere needs to know of the types."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from ros2_lite import __version__
from ros2_lite.bags import metadata
from ros2_lite.bags.metadata import BagInfo, File, Topic
from ros2_lite.bags.reader import mcap_module
from ros2_lite.messages import registry

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "fastwrite": {"enable_crcs": False, "use_chunking": False},
    "zstd_fast": {"compression": "ZSTD", "enable_crcs": False},
    "zstd_small": {"compression": "ZSTD", "chunk_size": 4 << 20},
}
"""The storage profiles of rosbag2_storage_mcap by name."""
_SEPARATOR = "=" * 80


def definition(type_name: str) -> str:
    """A message's definition with those of all messages in it, one after the other (MCAP's ``ros2msg``)."""
    package, kind, name = type_name.split("/")
    texts = [registry.text_of(package, kind, name)]
    seen = {type_name}
    queue = [type_name]
    while queue:
        for field in registry.spec(queue.pop(0)).fields:
            inner = field.type.base
            if not field.type.is_primitive and inner not in seen:
                seen.add(inner)
                queue.append(inner)
                package, kind, name = inner.split("/")
                texts.append(f"MSG: {package}/{name}\n{registry.text_of(package, kind, name)}")
    return f"\n{_SEPARATOR}\n".join(texts)


class BagWriter:
    """Writes a new folder; ``metadata.yaml`` comes last, with `close`. OSError (a full disk) passes through."""

    def __init__(
        self,
        folder: str,
        *,
        preset: str = "none",
        max_size: int = 0,
        max_duration_ns: int = 0,
        custom_data: dict[str, str] | None = None,
    ) -> None:
        """Begin; a file ends at `max_size` bytes or `max_duration_ns`, whichever comes first (0: never)."""
        self._mcap = mcap_module("writer")  # before anything is there
        os.makedirs(folder)
        self._folder = folder
        self._preset = preset
        self._max_size = max_size
        self._max_duration_ns = max_duration_ns
        self.info = BagInfo("mcap", ros_distro=os.environ.get("ROS_DISTRO", ""), custom_data=custom_data or {})
        self._topics: dict[str, Topic] = {}
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._stream: BinaryIO | None = None
        self._writer: Any = None
        self._open_file()

    @property
    def _file(self) -> File:
        return self.info.files[-1]

    def _open_file(self) -> None:
        name = f"{os.path.basename(os.path.abspath(self._folder))}_{len(self.info.files)}.mcap"
        options: dict[str, Any] = dict(PRESETS[self._preset])
        options["compression"] = self._mcap.CompressionType[options.get("compression", "NONE")]
        self._stream = open(os.path.join(self._folder, name), "xb")  # noqa: SIM115 (it lives as long as the file does)
        self._writer = self._mcap.Writer(self._stream, **options)
        self._writer.start(profile="ros2", library=f"ros2_lite {__version__}")
        self._writer.add_metadata("rosbag2", {"ROS_DISTRO": self.info.ros_distro})
        self.info.files.append(File(name))
        self._schemas.clear()
        self._channels.clear()
        for topic in self._topics.values():
            self._announce(topic)

    def _announce(self, topic: Topic) -> None:
        if topic.type not in self._schemas:
            text = definition(topic.type).encode()
            self._schemas[topic.type] = self._writer.register_schema(topic.type, "ros2msg", text)
        self._channels[topic.name] = self._writer.register_channel(
            topic.name,
            topic.serialization_format,
            self._schemas[topic.type],
            {"offered_qos_profiles": topic.qos, "topic_type_hash": topic.type_hash},
        )

    def add_topic(self, name: str, type_name: str, qos: str) -> None:
        """Announce a topic before its first message; `qos` as bags/qos.py writes it."""
        topic = Topic(name, type_name, qos, registry.hash_of(type_name))
        self._topics[name] = topic
        self.info.topics.append(topic)
        self._announce(topic)

    def write(self, topic: str, data: bytes, time_ns: int, publish_ns: int) -> None:
        """One message: CDR bytes, when it was received and when it was published [ns]."""
        if self._is_full(time_ns):
            self._close_file()
            self._open_file()
        self._writer.add_message(
            self._channels[topic], time_ns, data, publish_ns, self._topics[topic].count & 0xFFFFFFFF
        )
        self._topics[topic].count += 1
        self._file.add(time_ns)

    def _is_full(self, time_ns: int) -> bool:
        if not self._file.count or self._stream is None:
            return False
        start = self._file.start_ns or 0
        by_time = 0 < self._max_duration_ns <= time_ns - start
        return by_time or 0 < self._max_size <= self._stream.tell()

    def _close_file(self) -> None:
        if self._stream is not None:
            self._writer.finish()
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """Complete the bag."""
        self._close_file()
        metadata.write(self._folder, self.info)
