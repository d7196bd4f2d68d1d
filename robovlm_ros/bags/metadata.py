"""``metadata.yaml`` of an episode: rosbag2's own fields, and what makes a bag an episode.

Version 8 of the format with QoS profiles as text is what `ros2 bag` of Humble, Jazzy and Kilted reads.
Reference: rosbag2_storage, ``bag_metadata.hpp`` and ``yaml.hpp``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from robovlm_ros.errors import UserError

FILE_NAME = "metadata.yaml"
OUTCOMES = ("success", "failure", "unknown")
_VERSION = 8
# The safe loader and dumper of libyaml, where PyYAML has it, are ten times faster.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _NoAliases(_Dumper):  # type: ignore[misc]
    """Writes a value that occurs twice twice: rosbag2's parser reads anchors, people and other parsers less well."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class OfferedQos:
    """Quality of service that a topic's publishers offered, so that a replay offers the same."""

    reliable: bool = True
    transient_local: bool = False
    depth: int = 10

    def to_text(self) -> str:
        """A list of one profile, as rosbag2 writes it (numbers are those of ``rmw/types.h``)."""
        infinite = {"sec": 9223372036, "nsec": 854775807}
        profile = {
            "history": 1,
            "depth": self.depth,
            "reliability": 1 if self.reliable else 2,
            "durability": 1 if self.transient_local else 2,
            "deadline": infinite,
            "lifespan": infinite,
            "liveliness": 1,
            "liveliness_lease_duration": infinite,
            "avoid_ros_namespace_conventions": False,
        }
        return str(yaml.dump([profile], Dumper=_NoAliases, sort_keys=False)).strip()


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One recorded topic."""

    name: str
    type: str
    qos: str
    """Offered profiles, as `OfferedQos.to_text` gives them."""
    type_hash: str
    count: int


def build(
    file_name: str, topics: Sequence[Topic], start_ns: int, end_ns: int, ros_distro: str, custom: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole document; ``custom`` values that are not text become JSON, for rosbag2 keeps text only."""
    duration = {"nanoseconds": max(0, end_ns - start_ns)}
    starting_time = {"nanoseconds_since_epoch": start_ns}
    count = sum(topic.count for topic in topics)
    listed = [
        {
            "topic_metadata": {
                "name": topic.name,
                "type": topic.type,
                "serialization_format": "cdr",
                "offered_qos_profiles": topic.qos,
                "type_description_hash": topic.type_hash,
            },
            "message_count": topic.count,
        }
        for topic in topics
    ]
    files = [{"path": file_name, "starting_time": starting_time, "duration": duration, "message_count": count}]
    return {
        "rosbag2_bagfile_information": {
            "version": _VERSION,
            "storage_identifier": "mcap",
            "duration": duration,
            "starting_time": starting_time,
            "message_count": count,
            "topics_with_message_count": listed,
            "compression_format": "",  # chunks are compressed inside the MCAP file, which rosbag2 does not count
            "compression_mode": "",
            "relative_file_paths": [file_name],
            "files": files,
            "custom_data": {key: _as_text(value) for key, value in custom.items()},
            "ros_distro": ros_distro,
        }
    }


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """Replace the folder's metadata at one stroke: a reader sees the old or the new, never a part."""
    temporary = folder / f".{FILE_NAME}.partial"
    with temporary.open("w", encoding="utf-8") as stream:
        yaml.dump(dict(document), stream, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=1 << 20)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / FILE_NAME)


def read(folder: Path) -> dict[str, Any]:
    """The document of a bag folder; UserError naming folder and reason if it is missing or broken."""
    path = folder / FILE_NAME
    if not folder.exists():
        raise UserError(f"episode {folder} does not exist")
    if not path.is_file():
        raise UserError(f"episode {folder} cannot be read: it has no {FILE_NAME}")
    try:
        document = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"episode {folder} cannot be read: {FILE_NAME}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rosbag2_bagfile_information"), dict):
        raise UserError(f"episode {folder} cannot be read: {FILE_NAME} is not that of a rosbag2 bag")
    return document


def mark(folder: str | os.PathLike[str], outcome: str) -> None:
    """Set the outcome of a finished episode."""
    if outcome not in OUTCOMES:
        raise UserError(f"outcome '{outcome}' is not one of: {', '.join(OUTCOMES)}")
    document = read(Path(folder))
    info = document["rosbag2_bagfile_information"]
    info["custom_data"] = {**(info.get("custom_data") or {}), "outcome": outcome}
    write(Path(folder), document)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
