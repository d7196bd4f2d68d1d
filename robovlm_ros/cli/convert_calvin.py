"""``convert calvin``: CALVIN's folders of npz files to episodes."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from robovlm_ros.bags.calvin import CalvinReader, convert_span
from robovlm_ros.cli.command import Commands, HelpFormatter
from robovlm_ros.cli.convert_lerobot import Progress, add_episode_options, add_workers, in_order, new_folder
from robovlm_ros.contract import Contract


def add_command(commands: Commands) -> None:
    """Add ``calvin`` to the things that `convert` makes."""
    calvin = commands.add_parser(
        "calvin",
        help="episodes of a CALVIN data set",
        description="Write one episode for each annotated span of a CALVIN folder (training or validation): numbered "
        "npz files with rgb_static, rgb_gripper, robot_obs and rel_actions. The annotations are a pickle; they are "
        "read as data, and nothing in them is executed.",
        formatter_class=HelpFormatter,
    )
    calvin.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the npz files")
    add_episode_options(calvin)
    calvin.add_argument(
        "--contract",
        metavar="FILE",
        default="calvin",
        help="contract with cameras static and gripper (or one of them) and one command, rel_actions or actions",
    )
    add_workers(calvin)
    calvin.set_defaults(command=_to_episodes)


def _to_episodes(options: argparse.Namespace) -> int:
    _reader.cache_clear()
    reader = _reader(options.folder, options.contract)
    new_folder(options.output).mkdir(parents=True, exist_ok=True)
    progress = Progress("convert", len(reader.spans), reader.contract.rate_hz)
    rest = (options.output, options.images, options.compress)
    jobs = [(options.folder, options.contract, number, *rest) for number in range(len(reader.spans))]
    for path, frames in in_order(_convert, jobs, options.workers):
        progress.add(path.name, frames)
    print(f"convert: wrote {options.output}: {progress.summary}")
    return 0


def _convert(folder: Path, contract: str, number: int, output: Path, images: str, compress: bool) -> tuple[Path, int]:
    return convert_span(_reader(folder, contract), number, output, images, compress)


@functools.lru_cache(1)
def _reader(folder: Path, contract: str) -> CalvinReader:
    """The data set, read once in each process."""
    return CalvinReader(folder, Contract.load(contract))
