"""One episode as a part of a LeRobot dataset: its videos in a folder, its numbers in arrays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.aligned import AlignedEpisode
from robovlm_ros.bags.interventions import during
from robovlm_ros.bags.lerobot import layout
from robovlm_ros.bags.lerobot.statistics import PixelStatistics
from robovlm_ros.bags.lerobot.video import VideoOptions, VideoThread, VideoWriter
from robovlm_ros.bags.reader import Episode
from robovlm_ros.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EpisodePart:
    """What `LeRobotWriter.add` takes; it passes between processes."""

    columns: Mapping[str, NDArray[Any]]
    """Column → (frames,) or (frames, values), without those that depend on the other episodes."""
    instructions: tuple[str, ...]
    """Of each frame what was to be done."""
    videos: Mapping[str, Path]
    """Camera → its video."""
    pixels: Mapping[str, tuple[NDArray[np.int64], int]]
    """Camera → how often each pixel value occurred (3, 256), and in how many images."""
    record: Mapping[str, Any]
    """All metadata of the episode, as JSON can say it."""
    contract: Mapping[str, Any]
    """The episode's contract, as plain values."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.instructions)


def export_part(episode: Episode, folder: Path, options: VideoOptions, *, threads: bool = False) -> EpisodePart:
    """Read an episode once and write its videos into ``folder``, which must exist.

    Images pass through one by one; only the numbers of the episode are kept, some MB for each hour. ``threads``: each
    video is encoded in a thread of its own, for where cores have nothing else to do. UserError if the episode cannot be
    read, or holds no observation.
    """
    contract = episode.contract
    rate = layout.frame_rate(contract.rate_hz)
    aligned = AlignedEpisode(episode)
    topics = layout.topics(contract)[: len(contract.cameras) + len(contract.state)]
    stamps: list[int] = []
    used: list[list[int]] = []
    states: list[NDArray[np.float64]] = []
    said: list[str] = []
    pixels = {camera.name: PixelStatistics() for camera in contract.cameras}
    writers: dict[str, VideoWriter | VideoThread] = {}
    with ExitStack() as stack:
        for number, camera in enumerate(contract.cameras):
            path = folder / f"{number}.mp4"
            writer = VideoWriter(path, camera.width, camera.height, rate, options)
            writers[camera.name] = VideoThread(writer) if threads else writer
            stack.callback(_end_quietly, writers[camera.name])
        for frame in aligned.frames():
            stamps.append(frame.observation.stamp_ns)
            used.append([frame.stamps[topic] for topic in topics])
            states.append(frame.state)
            said.append(frame.observation.instruction)
            for name, image in frame.observation.images.items():
                writers[name].add(image)
                pixels[name].add(image)
        if not stamps:
            raise UserError(
                f"episode {episode.path} has no observation: were all cameras and all of the state recorded?"
            )
        stack.pop_all()
        for video in writers.values():
            video.close()
    times = np.array(stamps, np.int64)  # (frames,)
    commands, spans = aligned.commands(), aligned.interventions()
    actions, valid = commands.in_force(times)  # (frames, action_dim), (frames,)
    given = np.concatenate([np.array(used, np.int64), commands.stamps_in_force(times)], axis=1)  # (frames, topics)
    if valid.any():  # before the first command nobody commanded anything: hold what came then, and say so
        actions[~valid] = actions[valid][0]
    exact = np.stack(states)  # (frames, state_dim)
    last = np.arange(len(times)) == len(times) - 1  # (frames,)
    columns: dict[str, NDArray[Any]] = {
        layout.ACTION: actions.astype(np.float32),
        layout.SUCCESS: last & (episode.outcome == "success"),
        layout.INTERVENTION: np.array([during(spans, stamp) for stamp in stamps], np.bool_),
        layout.STAMP: times,
        layout.STAMPS: given,
        layout.EXACT_ACTION: actions,
        layout.VALID: valid,
        "timestamp": (np.arange(len(times)) / float(rate)).astype(np.float32),
        "frame_index": np.arange(len(times)),
    }
    if contract.state_names:
        columns |= {layout.STATE: exact.astype(np.float32), layout.EXACT_STATE: exact}
    return EpisodePart(
        columns=columns,
        instructions=tuple(said),
        videos={name: writer.path for name, writer in writers.items()},
        pixels={name: (statistics.counts, statistics.images) for name, statistics in pixels.items()},
        record=_record(episode, spans, stamps),
        contract=contract.to_dict(),
    )


def _record(episode: Episode, spans: Any, stamps: list[int]) -> dict[str, Any]:
    """What the metadata of the episode say, without what can be told from its columns."""
    # a person who still commanded at the end did so up to there, the last frame included
    end_ns = max(episode.start_ns + round(episode.duration_s * 1e9), stamps[-1] + 1)
    plain = ("instruction", "instructions", "outcome", "operator", "start_ns", "duration_s", "incidents", "recovered")
    return {
        "name": episode.name,
        "first_stamp_ns": stamps[0],
        "frames": len(stamps),
        **{key: getattr(episode, key) for key in plain},
        "interventions": [[begin_ns, min(span_end_ns, end_ns)] for begin_ns, span_end_ns in spans],
        "counts": dict(episode.counts),
        "dropped": dict(episode.dropped),
        "versions": dict(episode.versions),
    }


def _end_quietly(writer: VideoWriter | VideoThread) -> None:
    with suppress(UserError):  # something else went wrong first
        writer.close()
