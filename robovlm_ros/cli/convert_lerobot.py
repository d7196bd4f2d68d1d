"""``convert lerobot`` and ``convert episodes``: rosbag2 episodes to a LeRobot data set, and back."""

from __future__ import annotations

import argparse
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robovlm_ros.bags import list_episodes, read_episode
from robovlm_ros.bags.frames import IMAGES
from robovlm_ros.bags.lerobot import (
    EpisodePart,
    LeRobotReader,
    LeRobotWriter,
    VideoOptions,
    check_fit,
    derive_contract,
    export_part,
    restore,
)
from robovlm_ros.bags.metadata import FILE_NAME as METADATA_FILE
from robovlm_ros.cli.command import Commands, HelpFormatter
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.options import field_docs

_T = TypeVar("_T")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
CONTRACT_FILE = "contract.yaml"
"""Where `convert episodes` writes a contract that it derived."""


def add_commands(commands: Commands) -> None:
    """Add ``lerobot`` and ``episodes`` to the things that `convert` makes."""
    formatter = HelpFormatter
    lerobot = commands.add_parser(
        "lerobot",
        help="a LeRobot data set (v3.0) of episodes",
        description="Write a LeRobotDataset v3.0 of recorded episodes: their aligned observations at the contract's "
        "rate, with what LeRobot has no place for (stamps, numbers in double precision, interventions, outcome, "
        "contract) beside them, so that `convert episodes` can make the episodes again.",
        formatter_class=formatter,
    )
    lerobot.add_argument("episodes", nargs="+", type=Path, metavar="EPISODES", help="folder of episodes, or an episode")
    lerobot.add_argument("output", type=Path, metavar="OUTPUT", help="new folder that receives the data set")
    lerobot.add_argument("--no-failures", action="store_true", help="leave out episodes marked as failures")
    docs = field_docs(VideoOptions)
    for field in fields(VideoOptions):
        flag = f"--{field.name.replace('_', '-')}"
        lerobot.add_argument(flag, type=type(field.default), default=field.default, help=docs[field.name])
    add_workers(lerobot)
    lerobot.set_defaults(command=_to_lerobot)
    episodes = commands.add_parser(
        "episodes",
        help="episodes of a LeRobot data set (v3.0)",
        description="Write rosbag2 episodes of a LeRobotDataset v3.0, one that `convert lerobot` made or any other. A "
        f"data set without a contract needs --contract, or gets one that is derived and written to {CONTRACT_FILE}.",
        formatter_class=formatter,
    )
    episodes.add_argument("dataset", type=Path, metavar="LEROBOT", help="folder of the data set")
    add_episode_options(episodes)
    episodes.add_argument("--contract", metavar="FILE", help="contract of the robot; default: that of the data set")
    add_workers(episodes)
    episodes.set_defaults(command=_to_episodes)


def add_episode_options(arguments: argparse.ArgumentParser) -> None:
    """What all conversions to episodes take."""
    arguments.add_argument("output", type=Path, metavar="OUTPUT", help="new folder that receives the episodes")
    arguments.add_argument(
        "--images",
        choices=IMAGES,
        default="contract",
        help="how images are written: raw, png (both lossless), jpeg, or as the contract says (png if compressed)",
    )
    arguments.add_argument("--compress", action="store_true", help="compress with zstd: smaller and slower")


def add_workers(arguments: argparse.ArgumentParser) -> None:
    """How many processes convert."""
    workers = os.cpu_count() or 1
    arguments.add_argument("--workers", type=int, default=workers, help="processes, each with an episode")


def new_folder(path: Path) -> Path:
    """The path of a folder that has nothing in it yet; UserError otherwise."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already: name a new folder")
    return path


class Progress:
    """A line on the terminal for each episode, and the speed at the end."""

    def __init__(self, what: str, total: int, rate_hz: float) -> None:
        self._what, self._total, self._rate_hz = what, total, rate_hz
        self._done, self._frames, self._begin = 0, 0, time.monotonic()

    def add(self, name: str, frames: int) -> None:
        """An episode is done."""
        self._done += 1
        self._frames += frames
        seconds = time.monotonic() - self._begin
        left = seconds / self._done * (self._total - self._done)
        print(f"{self._what}: {self._done}/{self._total} {name}, {frames} frames; {left:.0f} s left", flush=True)

    @property
    def summary(self) -> str:
        """What was done, and how fast."""
        seconds = max(time.monotonic() - self._begin, 1e-9)
        speed = self._frames / self._rate_hz / seconds
        return f"{self._done} episodes, {self._frames} frames in {seconds:.1f} s, {speed:.1f} times real time"


def write_lerobot(
    paths: Sequence[Path],
    output: Path,
    options: VideoOptions,
    workers: int,
    done: Callable[[str, int], None] = lambda name, frames: None,
) -> Path:
    """The data set of these episodes, in this order; the path it has."""
    if not paths:
        raise UserError("there is no episode to convert")
    first = read_episode(paths[0])
    writer = LeRobotWriter(output, first.contract, options)
    try:
        with tempfile.TemporaryDirectory(dir=writer.partial, prefix="parts_") as scratch:
            threads = min(workers, len(paths)) < (os.cpu_count() or 1)  # cores that would have nothing to do
            jobs = [(path, Path(scratch) / f"{i}", options, threads) for i, path in enumerate(paths)]
            for part in in_order(_export, jobs, workers):
                writer.add(part)
                done(str(part.record["name"]), part.frames)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def write_episodes(
    reader: LeRobotReader,
    output: Path,
    contract: Contract | None,
    images: str,
    compress: bool,
    workers: int,
    done: Callable[[str, int], None] = lambda name, frames: None,
) -> None:
    """The episodes of a data set, in a folder."""
    output.mkdir(parents=True, exist_ok=True)
    _reader.cache_clear()
    jobs = [(reader.path, number, output, contract, images, compress) for number in range(len(reader))]
    for path, frames in in_order(_restore, jobs, workers):
        done(path.name, frames)


def _to_lerobot(options: argparse.Namespace) -> int:
    video = VideoOptions(**{field.name: getattr(options, field.name) for field in fields(VideoOptions)})
    new_folder(options.output)
    paths: list[Path] = []
    for folder in options.episodes:
        paths += [folder] if (folder / METADATA_FILE).is_file() else list_episodes(folder)
    if not paths:
        raise UserError(f"there are no episodes in {', '.join(map(str, options.episodes))}")
    episodes = [read_episode(path) for path in paths]
    paths = [episode.path for episode in episodes if not (options.no_failures and episode.outcome == "failure")]
    if not paths:
        raise UserError(f"all {len(episodes)} episodes are marked as failures")
    progress = Progress("convert", len(paths), episodes[0].contract.rate_hz)
    write_lerobot(paths, options.output, video, options.workers, progress.add)
    size = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    print(f"convert: wrote {options.output} ({size / 1e6:.1f} MB): {progress.summary}")
    return 0


def _to_episodes(options: argparse.Namespace) -> int:
    reader = LeRobotReader(options.dataset)
    new_folder(options.output)
    contract = Contract.load(options.contract) if options.contract else None
    if contract is None and not reader.contracts:
        contract = derive_contract(reader)
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / CONTRACT_FILE
        path.write_text(yaml.safe_dump(contract.to_dict(), sort_keys=False), encoding="utf-8")
        print(f"convert: derived a contract and wrote {path}: units are unknown, limits are those of the data, ")
        print("         topics are made up; correct it and pass it with --contract before you drive a robot with it")
    elif contract is not None:
        check_fit(reader, contract)
    progress = Progress("convert", len(reader), reader.fps)
    write_episodes(reader, options.output, contract, options.images, options.compress, options.workers, progress.add)
    print(f"convert: wrote {options.output}: {progress.summary}")
    return 0


def _export(path: Path, folder: Path, options: VideoOptions, threads: bool) -> EpisodePart:
    folder.mkdir()
    return export_part(read_episode(path), folder, options, threads=threads)


def _restore(
    dataset: Path, number: int, folder: Path, contract: Contract | None, images: str, compress: bool
) -> tuple[Path, int]:
    return restore(_reader(dataset), number, folder, contract, images=images, compress=compress)


@functools.lru_cache(1)
def _reader(dataset: Path) -> LeRobotReader:
    """The data set, read once in each process."""
    return LeRobotReader(dataset)


def in_order(work: Callable[..., _T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[_T]:
    """Results of the jobs in their order, made by so many processes, or here where one is enough."""
    if workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")
    if min(workers, len(jobs)) == 1:
        _keep_memory()
        for job in jobs:
            yield work(*job)
        return
    with _processes(min(workers, len(jobs))) as pool:
        waiting: list[Future[_T]] = []
        for job in jobs:
            waiting.append(pool.submit(work, *job))
            if len(waiting) > 2 * workers:  # nobody runs far ahead of who joins the parts
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end at once when something went wrong, or by Ctrl-C."""
    context = multiprocessing.get_context("spawn")  # threads and a fork do not go together
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Of each process. Ctrl-C on a terminal reaches all of them: the first one says so and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_memory()


def _keep_memory() -> None:
    """Let the C library keep what an image took for the next one.

    By default it gives megabytes back at once, and to be given them again, page by page, costs as much as the rest of
    the work on an image. Other C libraries than glibc have no such option, and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
