"""Writes a LeRobotDataset v3.0 of episode parts; it appears under its name only when it is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.lerobot import layout, statistics
from robovlm_ros.bags.lerobot.export import EpisodePart
from robovlm_ros.bags.lerobot.tables import MIB, column, load_pyarrow, read_column, task_table
from robovlm_ros.bags.lerobot.video import VideoJoiner, VideoOptions, plain_rate, video_info
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError


class LeRobotWriter:
    """Takes parts one after the other; ``finish`` completes the data set, ``discard`` removes it."""

    def __init__(self, path: str | os.PathLike[str], contract: Contract, options: VideoOptions) -> None:
        """Begin the data set ``path``, a folder that does not exist or is empty; UserError otherwise."""
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} exists already: name a new folder")
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        """Where it is until it is complete."""
        load_pyarrow()
        shutil.rmtree(self.partial, ignore_errors=True)  # of a conversion that broke off
        self.partial.mkdir(parents=True)
        self.contract = contract
        self.options = options
        self.rate = layout.frame_rate(contract.rate_hz)
        self.features = layout.features(contract)
        for camera in contract.cameras:
            info = video_info(camera.width, camera.height, self.rate, options)
            self.features[layout.IMAGES + camera.name]["info"] = info
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._records: list[Mapping[str, Any]] = []
        self._contracts: list[Mapping[str, Any]] = []
        nothing: tuple[NDArray[np.int64], int] = (np.zeros((3, 256), np.int64), 0)
        self._pixels = {camera.name: nothing for camera in contract.cameras}
        self._frames = 0
        self._data: Any = None
        self._data_place = (0, 0)
        self._joiners: dict[str, tuple[tuple[int, int], VideoJoiner]] = {}

    def add(self, part: EpisodePart) -> None:
        """The next episode; its videos are removed. UserError if it has other columns than the first."""
        contract = Contract.from_dict(part.contract)
        if layout.features(contract) != layout.features(self.contract) or contract.step_ns != self.contract.step_ns:
            raise UserError(
                f"episode {part.record['name']} was recorded with a contract that differs from the first one's in "
                "cameras, state, actions, topics or rate: convert one kind at a time"
            )
        number, first = len(self._rows), self._frames
        tasks = [self._tasks.setdefault(text, len(self._tasks)) for text in part.instructions]
        columns = {
            **part.columns,
            "episode_index": np.full(part.frames, number),
            "index": np.arange(first, first + part.frames),
            "task_index": np.array(tasks, np.int64),
        }
        self._write_rows(columns)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(part.instructions)),
            "length": part.frames,
            "outcome": part.record["outcome"],
            "operator": part.record["operator"],
            "data/chunk_index": self._data_place[0],
            "data/file_index": self._data_place[1],
            "dataset_from_index": first,
            "dataset_to_index": first + part.frames,
        }
        found = {name: statistics.of_numbers(columns[name]) for name in self._number_features()}
        for camera, video in part.videos.items():
            row.update(self._add_video(camera, video, part.frames))
            counts, images = part.pixels[camera]
            before, seen = self._pixels[camera]
            self._pixels[camera] = (np.add(before, counts), seen + images)
            found[layout.IMAGES + camera] = statistics.of_pixels(counts, images)
        row.update({f"stats/{name}/{key}": value.tolist() for name, s in found.items() for key, value in s.items()})
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        if part.contract not in self._contracts:
            self._contracts.append(part.contract)
        self._rows.append(row)
        self._records.append({**part.record, "contract": self._contracts.index(part.contract)})
        self._frames += part.frames

    def finish(self) -> Path:
        """Write the metadata and give the folder its name."""
        if not self._rows:
            raise UserError("there is no episode to convert")
        self._close_files()
        parquet = load_pyarrow().parquet
        self._write_json(layout.INFO_FILE, self._info())
        self._write_json(layout.STATS_FILE, self._statistics())
        self._write_json(layout.CONTRACTS_FILE, list(self._contracts))
        records = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self._records)
        (self.partial / layout.RECORDS_FILE).write_text(records, encoding="utf-8")
        parquet.write_table(task_table(list(self._tasks)), self.partial / layout.TASKS_FILE)
        episodes = self.partial / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        parquet.write_table(load_pyarrow().Table.from_pylist(self._rows), episodes)
        if self.path.exists():
            self.path.rmdir()  # it is empty
        self.partial.rename(self.path)
        return self.path

    def discard(self) -> None:
        """Remove what was written."""
        self._close_files()
        shutil.rmtree(self.partial, ignore_errors=True)

    @property
    def frames(self) -> int:
        """Frames added."""
        return self._frames

    def _number_features(self) -> list[str]:
        return [name for name, feature in self.features.items() if feature["dtype"] != "video"]

    def _write_rows(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """One row group for each episode, so that readers find them at once."""
        pyarrow = load_pyarrow()
        names = self._number_features()
        arrays = {name: column(columns[name], self.features[name]["dtype"]) for name in names}
        table = pyarrow.table(arrays)
        if self._data is not None:
            size = (self.partial / layout.DATA_PATH.format(**_place(self._data_place))).stat().st_size
            if size + table.nbytes > layout.DATA_MB * MIB:
                self._data.close()
                self._data, self._data_place = None, layout.following(*self._data_place)
        if self._data is None:
            path = self.partial / layout.DATA_PATH.format(**_place(self._data_place))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pyarrow.parquet.ParquetWriter(path, table.schema, compression="snappy")
        self._data.write_table(table, row_group_size=max(1, len(table)))

    def _add_video(self, camera: str, video: Path, frames: int) -> dict[str, Any]:
        key = layout.IMAGES + camera
        place, joiner = self._joiners.get(camera, ((0, 0), None))
        if joiner is not None and joiner.size + video.stat().st_size > layout.VIDEO_MB * MIB:
            joiner.close()
            place, joiner = layout.following(*place), None
        if joiner is None:
            path = self.partial / layout.VIDEO_PATH.format(video_key=key, **_place(place))
            joiner = VideoJoiner(path, self.rate)
        self._joiners[camera] = (place, joiner)
        begin = joiner.count
        joiner.append(video, frames)
        video.unlink()
        return {
            f"videos/{key}/chunk_index": place[0],
            f"videos/{key}/file_index": place[1],
            f"videos/{key}/from_timestamp": begin / float(self.rate),
            f"videos/{key}/to_timestamp": (begin + frames) / float(self.rate),
        }

    def _close_files(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None
        for _, joiner in self._joiners.values():
            joiner.close()
        self._joiners = {}

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self.contract.name,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": plain_rate(self.rate),
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH,
            "features": self.features,
        }

    def _statistics(self) -> dict[str, Any]:
        """Of the whole data set: of numbers from the files, one column at a time."""
        files = sorted((self.partial / "data").glob("*/*.parquet"))
        found = {name: statistics.of_numbers(read_column(files, name)) for name in self._number_features()}
        for camera, (counts, images) in self._pixels.items():
            found[layout.IMAGES + camera] = statistics.of_pixels(counts, images)
        return {name: {key: value.tolist() for key, value in s.items()} for name, s in found.items()}

    def _write_json(self, name: str, value: Any) -> None:
        path = self.partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _place(place: tuple[int, int]) -> dict[str, int]:
    return {"chunk_index": place[0], "file_index": place[1]}
