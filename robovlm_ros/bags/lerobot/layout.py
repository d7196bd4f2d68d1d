"""Names, places and types of a LeRobotDataset v3.0, and what this package adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from robovlm_ros.contract import Contract

CODEBASE_VERSION = "v3.0"
STATE, ACTION = "observation.state", "action"
IMAGES = "observation.images."
"""What the key of a camera begins with."""
SUCCESS = "next.success"

# What this package adds. A name that began with "observation" or "action" would become an input or output of the
# policies that LeRobot trains.
STAMP = "robovlm.stamp_ns"
STAMPS = "robovlm.source_stamps_ns"
EXACT_STATE = "robovlm.state"
EXACT_ACTION = "robovlm.action"
VALID = "robovlm.action_valid"
INTERVENTION = "robovlm.intervention"

INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
TASKS_FILE = "meta/tasks.parquet"
EPISODES_FOLDER = "meta/episodes"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = EPISODES_FOLDER + "/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CONTRACTS_FILE = "meta/robovlm_ros/contracts.json"
"""The contracts of the episodes, a list."""
RECORDS_FILE = "meta/robovlm_ros/episodes.jsonl"
"""One line for each episode: all of its metadata that LeRobot has no place for."""

CHUNK_FILES = 1000
"""Most files in a folder."""
DATA_MB, VIDEO_MB = 100, 200
"""A file that has reached this size gets no further episode [MB, of 2^20 bytes]."""

Features = dict[str, dict[str, Any]]


def frame_rate(hz: float) -> Fraction:
    """The rate of the videos: a number of frames in a number of seconds."""
    return Fraction(hz).limit_denominator(1001)


def following(chunk: int, file: int) -> tuple[int, int]:
    """Chunk and file index after these."""
    return (chunk + 1, 0) if file == CHUNK_FILES - 1 else (chunk, file + 1)


def topics(contract: Contract) -> tuple[str, ...]:
    """The topics whose stamps are kept, in the order of their column."""
    parts: list[Any] = [*contract.cameras, *contract.state, *contract.commands]
    return tuple(part.topic for part in parts)


def features(contract: Contract) -> Features:
    """The columns of the episodes of a robot, without what its videos are like."""
    found: Features = {}
    if contract.state_names:
        found[STATE] = _numbers("float32", contract.state_names)
    found[ACTION] = _numbers("float32", contract.action_names)
    for camera in contract.cameras:
        names = ["height", "width", "channels"]
        found[IMAGES + camera.name] = {"dtype": "video", "shape": [camera.height, camera.width, 3], "names": names}
    found[SUCCESS] = _numbers("bool", None)
    found[INTERVENTION] = _numbers("bool", None)
    found[STAMP] = _numbers("int64", None)
    found[STAMPS] = _numbers("int64", topics(contract))
    if contract.state_names:
        found[EXACT_STATE] = _numbers("float64", contract.state_names)
    found[EXACT_ACTION] = _numbers("float64", contract.action_names)
    found[VALID] = _numbers("bool", None)
    found["timestamp"] = _numbers("float32", None)
    for name in ("frame_index", "episode_index", "index", "task_index"):
        found[name] = _numbers("int64", None)
    return found


def _numbers(dtype: str, names: Sequence[str] | None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1 if names is None else len(names)], "names": None if names is None else [*names]}
