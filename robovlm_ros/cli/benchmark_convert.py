"""``benchmark convert``: how fast episodes become a LeRobot data set, and come back."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.bags import EpisodeWriter, list_episodes
from robovlm_ros.bags.frames import IMAGES
from robovlm_ros.bags.lerobot import LeRobotReader, VideoOptions
from robovlm_ros.bags.schema import blank, serialize
from robovlm_ros.cli.command import Commands, HelpFormatter, write_json
from robovlm_ros.cli.convert_lerobot import write_episodes, write_lerobot
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.options import field_docs

JOINTS = tuple(f"joint_{i + 1}" for i in range(7))
SCENES = 30
"""Different images, shown forth and back."""
NOISE = 2.0
"""Standard deviation of the noise in them, as a camera has it."""
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the episodes are like."""

    episodes: int = 4
    """Number of episodes."""
    seconds: float = 10.0
    """Length of each [s]."""
    cameras: int = 1
    """Number of cameras, each of raw ``rgb8`` images in uncompressed bags, as the recorder writes them."""
    width: int = 640
    """Image width [px]."""
    height: int = 480
    """Image height [px]."""
    hz: float = 30.0
    """Images and commands per second, and rate of the contract [Hz]."""
    joint_hz: float = 120.0
    """Joint states per second [Hz]."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"--{field.name.replace('_', '-')} must be above 0, not {getattr(self, field.name)}")

    def contract(self) -> Contract:
        """The robot."""
        kind = "sensor_msgs/msg/JointState"
        sizes = {"width": self.width, "height": self.height}
        names = [f"camera_{i + 1}" for i in range(self.cameras)]
        dims = [{"name": name, "unit": "rad", "limits": [-3.0, 3.0]} for name in JOINTS]
        return Contract.from_dict(
            {
                "name": "synthetic",
                "rate_hz": self.hz,
                "command_rate_hz": self.hz,
                "cameras": {name: {"topic": f"/{name}/image_raw", **sizes} for name in names},
                "state": {"joints": {"topic": "/joint_states", "type": kind, "dims": JOINTS, "unit": "rad"}},
                "commands": {"arm": {"topic": "/joint_commands", "type": kind, "dims": dims}},
            }
        )


def add_command(commands: Commands) -> None:
    """Add ``convert`` to the things that `benchmark` measures."""
    convert = commands.add_parser(
        "convert",
        help="episodes to a LeRobot data set and back, in multiples of real time",
        description="Makes episodes of noisy moving pictures, converts them to a LeRobot data set and back to episodes "
        "of raw images, and says how many seconds of recording were converted in a second, both ways.",
        formatter_class=HelpFormatter,
    )
    for cls in (Recorded, VideoOptions):
        docs = field_docs(cls)
        for field in dataclasses.fields(cls):
            flag = f"--{field.name.replace('_', '-')}"
            convert.add_argument(flag, type=type(field.default), default=field.default, help=docs[field.name])
    convert.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, each with an episode")
    convert.add_argument("--images", choices=IMAGES, default="contract", help="how images are written on the way back")
    convert.add_argument(
        "--directory", type=Path, default=Path(), help="where a folder is made and removed again: the disk to measure"
    )
    convert.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    convert.set_defaults(command=_convert)


def _convert(options: argparse.Namespace) -> int:
    recorded = Recorded(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recorded)})
    video = VideoOptions(**{field.name: getattr(options, field.name) for field in dataclasses.fields(VideoOptions)})
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="benchmark_convert_") as name:
        folder = Path(name)
        contract = recorded.contract()
        pictures = _pictures(recorded)
        for number in range(recorded.episodes):
            start_ns = START_NS + round(number * 2e9 * recorded.seconds)
            _record(folder / "episodes" / f"episode_{number}", contract, recorded, pictures, start_ns)
        paths = list_episodes(folder / "episodes")
        there = _measured(lambda: write_lerobot(paths, folder / "lerobot", video, options.workers))
        reader = LeRobotReader(folder / "lerobot")
        frames = sum(row["length"] for row in reader.episodes)
        back = _measured(lambda: write_episodes(reader, folder / "back", None, options.images, False, options.workers))
        bag, data = (_size_mb(folder / part) for part in ("episodes", "lerobot"))
    seconds = frames / recorded.hz
    result = {
        **dataclasses.asdict(recorded),
        **dataclasses.asdict(video),
        "workers": options.workers,
        "cores": os.cpu_count(),
        "frames": frames,
        "times_real_time": {way: round(seconds / spent["seconds"], 2) for way, spent in _ways(there, back)},
        "cpu_ms_per_image": {
            way: round(spent["cpu_s"] / frames / recorded.cameras * 1e3, 3) for way, spent in _ways(there, back)
        },
        "mb": {"episodes": round(bag, 1), "lerobot": round(data, 1)},
    }
    for way, times in result["times_real_time"].items():
        print(
            f"{way}: {times:.1f} times real time with {options.workers} workers "
            f"({result['cpu_ms_per_image'][way]:.2f} ms of a core for each {recorded.width}x{recorded.height} image)"
        )
    print(f"{bag:.1f} MB of episodes became {data:.1f} MB")
    write_json(options.json, result)
    return 0


def _ways(there: dict[str, float], back: dict[str, float]) -> list[tuple[str, dict[str, float]]]:
    return [("episodes_to_lerobot", there), ("lerobot_to_episodes", back)]


def _measured(work: Any) -> dict[str, float]:
    """Time on the clock and of the processors, those of the processes that it started included [s]."""
    begin, before = time.monotonic(), os.times()
    work()
    after = os.times()
    cpu = sum(getattr(after, key) - getattr(before, key) for key in _CPU)
    return {"seconds": time.monotonic() - begin, "cpu_s": cpu}


_CPU = ("user", "system", "children_user", "children_system")


def _pictures(recorded: Recorded) -> list[NDArray[np.uint8]]:
    """Discs that move before a shaded wall, with a camera's noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : recorded.height, 0 : recorded.width]
    wall = np.stack([40 + 0.2 * x + 0.15 * y, 60 + 0.1 * x, 200 - 0.2 * y], axis=-1)  # (height, width, 3)
    found = []
    for i in range(SCENES):
        image = wall + rng.normal(0.0, NOISE, wall.shape)
        for disc in range(6):
            at_x = recorded.width * (0.5 + 0.35 * np.cos(0.03 * i + disc))
            at_y = recorded.height * (0.5 + 0.35 * np.sin(0.04 * i + 2 * disc))
            near = (x - at_x) ** 2 + (y - at_y) ** 2 < (0.08 * recorded.height) ** 2
            image[near] += [40 * disc - 100, 60 - 25 * disc, 30 * disc - 80]
        found.append(np.clip(image, 0, 255).astype(np.uint8))
    return found


def _record(
    path: Path, contract: Contract, recorded: Recorded, pictures: list[NDArray[np.uint8]], start_ns: int
) -> None:
    """One episode, as the recorder would have written it."""
    writer = EpisodeWriter(path, contract, compress=False)
    writer.note("in_order", True)
    (joints,), (arm,) = contract.state, contract.commands
    parts: list[Any] = [*contract.cameras, joints, arm]
    for part in parts:
        writer.add_topic(part.topic, part.type)
    writer.add_topic(contract.instruction_topic, contract.instruction_type)
    said = blank(contract.instruction_type)
    said.data = "move the disc"
    writer.write(contract.instruction_topic, serialize(said), start_ns)
    image, state, command = blank("sensor_msgs/msg/Image"), blank(joints.type), blank(arm.type)
    image.height, image.width, image.step, image.encoding = recorded.height, recorded.width, recorded.width * 3, "rgb8"
    events = [(i / recorded.joint_hz, 0, i) for i in range(round(recorded.seconds * recorded.joint_hz) + 2)]
    events += [(i / recorded.hz + 1e-6, 1, i) for i in range(round(recorded.seconds * recorded.hz))]
    for time_s, is_image, number in sorted(events):
        stamp = start_ns + round(time_s * 1e9)
        values = np.sin(time_s + np.arange(len(JOINTS)))
        if not is_image:
            writer.write(joints.topic, serialize(messages.fill_state(state, joints, values, stamp)), stamp)
            continue
        place = number % (2 * SCENES - 2)
        image.data = pictures[min(place, 2 * SCENES - 2 - place)].reshape(-1)
        messages.set_stamp(image, stamp)
        for camera in contract.cameras:
            writer.write(camera.topic, serialize(image), stamp)
        filled = messages.fill_command(command, arm, values, stamp, contract.step_ns)
        writer.write(arm.topic, serialize(filled), stamp)
    writer.finish(outcome="success")


def _size_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
