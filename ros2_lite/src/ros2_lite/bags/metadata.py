"""``metadata.yaml``: what a bag says of itself (rosbag2_storage, ``bag_metadata.hpp`` and ``yaml.hpp``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

FILE_NAME = "metadata.yaml"
VERSION = 8
"""The last version whose QoS profiles are text, which the readers of Humble, Jazzy and Kilted all understand."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class BagError(Exception):
    """A bag that cannot be read or written; the message names it and the reason."""


@dataclass
class Topic:
    """One topic of a bag."""

    name: str
    type: str
    qos: str = ""
    """Offered profiles as YAML text, a list."""
    type_hash: str = ""
    count: int = 0
    serialization_format: str = "cdr"


@dataclass
class File:
    """One file of a bag; times in ns."""

    path: str
    start_ns: int | None = None
    end_ns: int = 0
    count: int = 0

    def add(self, time_ns: int) -> None:
        """Count a message in."""
        self.start_ns = time_ns if self.start_ns is None else min(self.start_ns, time_ns)
        self.end_ns = max(self.end_ns, time_ns)
        self.count += 1


@dataclass
class BagInfo:
    """What is known of a bag without reading its messages."""

    storage: str
    topics: list[Topic] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    ros_distro: str = ""
    custom_data: dict[str, str] = field(default_factory=dict)
    compression_mode: str = ""
    size: int = 0
    """Bytes of the files together."""

    @property
    def start_ns(self) -> int:
        return min((one.start_ns for one in self.files if one.start_ns is not None), default=0)

    @property
    def end_ns(self) -> int:
        return max((one.end_ns for one in self.files), default=0)

    @property
    def count(self) -> int:
        return sum(topic.count for topic in self.topics)


def write(folder: str, info: BagInfo) -> None:
    """Write the folder's ``metadata.yaml``."""

    def span(start_ns: int | None, end_ns: int) -> dict[str, Any]:
        start = start_ns or 0
        return {
            "starting_time": {"nanoseconds_since_epoch": start},
            "duration": {"nanoseconds": max(0, end_ns - start)},
        }

    document = {
        "version": VERSION,
        "storage_identifier": info.storage,
        **span(info.start_ns, info.end_ns),
        "message_count": info.count,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": topic.serialization_format,
                    "offered_qos_profiles": topic.qos,
                    "type_description_hash": topic.type_hash,
                },
                "message_count": topic.count,
            }
            for topic in info.topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [one.path for one in info.files],
        "files": [
            {"path": one.path, **span(one.start_ns, one.end_ns), "message_count": one.count} for one in info.files
        ],
        "custom_data": info.custom_data or None,
        "ros_distro": info.ros_distro,
    }
    with open(os.path.join(folder, FILE_NAME), "w", encoding="utf-8") as stream:
        yaml.dump({"rosbag2_bagfile_information": document}, stream, Dumper=_Dumper, sort_keys=False, width=1 << 20)


def read(folder: str) -> BagInfo:
    """Read a folder's ``metadata.yaml``; BagError where it is none."""
    path = os.path.join(folder, FILE_NAME)
    try:
        with open(path, encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_Loader)
        return _parse(document["rosbag2_bagfile_information"], folder)
    except OSError as error:
        raise BagError(f"bag '{folder}' cannot be read: {path}: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BagError(f"bag '{folder}' cannot be read: {path} is not that of a rosbag2 bag: {reason}") from None


def _parse(document: dict[str, Any], folder: str) -> BagInfo:
    topics = []
    for entry in document["topics_with_message_count"] or []:
        about = entry["topic_metadata"]
        profiles = about.get("offered_qos_profiles") or ""
        topics.append(
            Topic(
                name=about["name"],
                type=about["type"],
                qos=profiles if isinstance(profiles, str) else yaml.safe_dump(profiles),  # text until version 8
                type_hash=about.get("type_description_hash") or "",
                count=int(entry["message_count"]),
                serialization_format=about.get("serialization_format", "cdr"),
            )
        )
    names: Sequence[str] = document["relative_file_paths"]
    start = int(document["starting_time"]["nanoseconds_since_epoch"])
    end = start + int(document["duration"]["nanoseconds"])
    # The times of the single files came with version 5; those of the whole do for what is asked here.
    files = [File(name, start, end) for name in names]
    size = sum(os.path.getsize(path) for name in names if os.path.exists(path := os.path.join(folder, name)))
    return BagInfo(
        storage=document["storage_identifier"],
        topics=topics,
        files=files,
        ros_distro=document.get("ros_distro") or "",
        custom_data=document.get("custom_data") or {},
        compression_mode=document.get("compression_mode") or "",
        size=size,
    )
