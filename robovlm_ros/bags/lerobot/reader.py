"""Reads a LeRobotDataset v3.0, made here or by LeRobot itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.lerobot import layout
from robovlm_ros.bags.lerobot.tables import load_pyarrow, to_array
from robovlm_ros.bags.lerobot.video import decode
from robovlm_ros.errors import UserError
from robovlm_ros.images import decode_compressed

BATCH = 32
"""Images that are stored one by one are read by so many rows at a time."""


class LeRobotReader:
    """One data set; episodes are read one at a time, images one by one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the metadata; UserError naming path and reason if it is none, of another version, or broken."""
        self.path = Path(path)
        self.info = self._read_info()
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.fps = float(self.info["fps"])
        """Frames per second of all episodes."""
        self.cameras = {
            key: feature for key, feature in self.features.items() if feature.get("dtype") in ("video", "image")
        }
        """Key → feature of each camera, without depth maps, which hold no colours."""
        for key, feature in list(self.cameras.items()):
            info = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
            if info.get("is_depth_map") or info.get("video.is_depth_map"):
                del self.cameras[key]
        self.episodes = self._read_episodes()
        """The rows of ``meta/episodes``, without their statistics, by number."""
        self.tasks = self._read_tasks()

    def __len__(self) -> int:
        return len(self.episodes)

    def size(self, key: str) -> tuple[int, int]:
        """(height, width) of a camera's images [px]."""
        shape, names = list(self.features[key]["shape"]), list(self.features[key].get("names") or ())
        first = (bool(names) and names[0] in ("channel", "channels", "c")) or (not names and shape[0] in (1, 3))
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def names(self, key: str) -> list[str]:
        """A name for each value of a column; those that LeRobot was not told are numbers."""
        length = int(np.prod(self.features[key]["shape"]))
        found = self.features[key].get("names")
        while isinstance(found, Mapping):  # {"motors": [...]}, or a number for each name
            found = next(iter(found.values())) if len(found) == 1 else list(found)
        found = [str(name) for name in found] if isinstance(found, Sequence) else []
        return found if len(found) == length and len(set(found)) == length else [f"{key}_{i}" for i in range(length)]

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """``meta/stats.json``; empty where there is none."""
        path = self.path / layout.STATS_FILE
        if not path.is_file():
            return {}
        found: dict[str, Any] = self._read_json(layout.STATS_FILE)
        return found

    @cached_property
    def contracts(self) -> list[dict[str, Any]]:
        """The contracts that this package kept with the episodes; empty for other data sets."""
        if not (self.path / layout.CONTRACTS_FILE).is_file():
            return []
        found: list[dict[str, Any]] = self._read_json(layout.CONTRACTS_FILE)
        return found

    def record(self, episode: int, first_stamp_ns: int) -> dict[str, Any]:
        """What this package kept of the episode that begins with this stamp [ns]; empty if it kept nothing.

        It need not be the line of the same number, for LeRobot's tools delete and merge episodes and number them anew.
        """
        wanted = (first_stamp_ns, self.episodes[episode]["length"])
        for record in [*self._records[episode : episode + 1], *self._records]:
            if (record["first_stamp_ns"], record["frames"]) == wanted:
                return record
        return {}

    def name(self, episode: int, record: Mapping[str, Any]) -> str:
        """What an episode was called, with its number where several were called so; else a name of its number."""
        name = str(record.get("name", f"episode_{episode:06d}"))
        return f"{name}_{episode}" if [other.get("name") for other in self._records].count(name) > 1 else name

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        path = self.path / layout.RECORDS_FILE
        if not path.is_file():
            return []
        try:
            found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            for record in found:
                _ = record["first_stamp_ns"], record["frames"]
            return found
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(f"{layout.RECORDS_FILE}: {error}") from error

    def columns(self, episode: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of an episode: (frames,) values or (frames, d)."""
        pyarrow = load_pyarrow()
        path = self._data_path(episode)
        try:
            table = pyarrow.parquet.read_table(path, columns=list(names), filters=[("episode_index", "=", episode)])
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise self._broken(f"{path.name}: {' '.join(str(error).split())}") from error
        if len(table) != self.episodes[episode]["length"]:
            raise self._broken(
                f"{path} has {len(table)} of {self.episodes[episode]['length']} frames of episode {episode}"
            )
        found = {}
        for name in names:
            if name not in table.column_names:
                raise self._broken(f"{path} has no column '{name}'")
            length = int(np.prod(self.features[name]["shape"]))
            found[name] = to_array(table[name], self.features[name]["dtype"], length)
        return found

    def images(self, episode: int, key: str, times_s: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
        """(height, width, 3) RGB images of a camera at all frames of an episode, whose times are given [s]."""
        if self.features[key]["dtype"] == "image":
            return self._stored_images(episode, key)
        row = self.episodes[episode]
        try:
            place = {part: row[f"videos/{key}/{part}"] for part in ("chunk_index", "file_index")}
            start_s = float(row[f"videos/{key}/from_timestamp"])
        except (KeyError, TypeError) as error:
            raise self._broken(f"meta/episodes does not say where the video of {key} is") from error
        path = self.path / str(self.info["video_path"]).format(video_key=key, **place)
        return decode(path, start_s, times_s, self.fps)

    @property
    def rate(self) -> Fraction:
        """Frames per second, as a fraction."""
        return layout.frame_rate(self.fps)

    def _stored_images(self, episode: int, key: str) -> Iterator[NDArray[np.uint8]]:
        load_pyarrow()
        import pyarrow.dataset

        path = self._data_path(episode)
        only = pyarrow.dataset.field("episode_index") == episode
        rows = pyarrow.dataset.dataset(path).to_batches(columns=[key], filter=only, batch_size=BATCH)
        for batch in rows:
            for item in batch.column(0).to_pylist():
                data = item.get("bytes")
                if data is None:
                    stored = self.path / str(item.get("path"))
                    if not stored.is_file():
                        raise self._broken(f"image {stored} is missing")
                    data = stored.read_bytes()
                yield decode_compressed("of a data set", data)

    def _data_path(self, episode: int) -> Path:
        row = self.episodes[episode]
        place = {part: row[f"data/{part}"] for part in ("chunk_index", "file_index")}
        path = self.path / str(self.info["data_path"]).format(**place)
        if not path.is_file():
            raise self._broken(f"{path} is missing")
        return path

    def _read_info(self) -> dict[str, Any]:
        if not (self.path / layout.INFO_FILE).is_file():
            raise UserError(f"{self.path} is no LeRobot data set: it has no {layout.INFO_FILE}")
        info = self._read_json(layout.INFO_FILE)
        version = str(info.get("codebase_version")) if isinstance(info, dict) else "None"
        if version.startswith("v2"):
            raise UserError(
                f"{self.path} is a LeRobot data set of version {version}, not v3.0: LeRobot converts it "
                "(python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=NAME)"
            )
        if not version.startswith("v3."):
            raise UserError(f"{self.path} is a LeRobot data set of version {version}; v3.0 can be read")
        missing = [key for key in ("fps", "features", "data_path") if not info.get(key)]
        if missing:
            raise self._broken(f"{layout.INFO_FILE} has no '{missing[0]}'")
        found: dict[str, Any] = info
        return found

    def _read_episodes(self) -> list[dict[str, Any]]:
        pyarrow = load_pyarrow()
        files = sorted((self.path / layout.EPISODES_FOLDER).glob("*/*.parquet"))
        rows: list[dict[str, Any]] = []
        try:
            for file in files:
                names = pyarrow.parquet.read_schema(file).names
                wanted = [name for name in names if not name.startswith("stats/")]
                rows += pyarrow.parquet.read_table(file, columns=wanted).to_pylist()
            rows.sort(key=lambda row: row["episode_index"])
            if not rows or [row["episode_index"] for row in rows] != list(range(len(rows))):
                raise self._broken(f"{layout.EPISODES_FOLDER} lists {len(rows)} episodes, not all of those from 0 on")
        except (OSError, KeyError, pyarrow.ArrowException) as error:
            raise self._broken(f"{layout.EPISODES_FOLDER}: {' '.join(str(error).split())}") from error
        return rows

    def _read_tasks(self) -> dict[int, str]:
        pyarrow = load_pyarrow()
        path = self.path / layout.TASKS_FILE
        if not path.is_file():
            raise self._broken(f"{layout.TASKS_FILE} is missing")
        try:
            found = pyarrow.parquet.read_table(path).to_pydict()
            numbers = found.pop("task_index")
            texts = next(iter(found.values()))
            return dict(zip(map(int, numbers), map(str, texts), strict=True))
        except (OSError, KeyError, StopIteration, pyarrow.ArrowException) as error:
            raise self._broken(f"{layout.TASKS_FILE}: {error}") from error

    def _read_json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise self._broken(f"{name}: {error}") from error

    def _broken(self, reason: str) -> UserError:
        return UserError(f"LeRobot data set {self.path} cannot be read: {reason}")
