"""Checks conversions against the `lerobot` package itself, unmodified and in an environment of its own.

    python3 -m venv lerobot && lerobot/bin/pip install 'lerobot[dataset]'
    python tools/check_lerobot.py --python lerobot/bin/python

Both ways: LeRobot reads every frame of a data set that `convert lerobot` wrote, and `convert episodes` reads a data set
that LeRobot wrote. Numbers must be equal, images alike. This file runs in both environments: what begins with `inside`
is run by LeRobot's Python and knows nothing of this package.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

LIKE_DB = 30.0
"""Images are alike from this peak signal-to-noise ratio on [dB]: what chroma at half the resolution leaves of edges."""
FRAMES = (40, 25, 33)
"""Frames of the episodes."""
HZ = 20


def scene(camera: int, step: int, height: int, width: int) -> Any:
    """A smooth picture that moves."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [120 + 60 * np.sin((x + 3 * step) / 25 + k) + 40 * np.cos(y / 19 + camera) for k in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def inside_read(root: Path, output: Path) -> None:
    """LeRobot reads a data set frame by frame, as its training does, and writes down what it got."""
    import lerobot  # type: ignore[import-not-found]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # type: ignore[import-not-found]

    dataset = LeRobotDataset("check/read", root=root)
    columns: dict[str, list[Any]] = {}
    for i in range(len(dataset)):
        for key, value in dataset[i].items():
            is_image = key.startswith("observation.images.")
            array = np.asarray(value) if isinstance(value, str) else value.numpy()
            columns.setdefault(key, []).append((array * 255).round().astype(np.uint8) if is_image else array)
    history = LeRobotDataset("check/read", root=root, delta_timestamps={"action": [0.0, 1 / HZ, 2 / HZ]})
    columns["chunks"] = [history[i]["action"].numpy() for i in range(len(history))]
    columns["version"] = [np.asarray(lerobot.__version__)]
    columns["mean"] = [np.asarray(dataset.meta.stats["observation.state"]["mean"])]
    np.savez(output, **{key: np.stack(values) for key, values in columns.items()})


def inside_write(root: Path, output: Path) -> None:
    """LeRobot writes a data set, and what went into it is written down."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["shoulder.pos", "elbow.pos", "gripper.pos"]
    numbers = {"dtype": "float32", "shape": (3,), "names": names}
    image = {"dtype": "video", "shape": (96, 128, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": numbers, "action": numbers, "observation.images.front": image}
    dataset = LeRobotDataset.create("check/write", fps=HZ, features=features, root=root, robot_type="check_arm")
    rng = np.random.default_rng(0)
    kept: dict[str, list[Any]] = {"state": [], "action": [], "image": [], "task": []}
    for episode, frames in enumerate(FRAMES):
        for step in range(frames):
            state, action = rng.normal(0, 1, (2, 3)).astype(np.float32)
            picture, task = scene(episode, step, 96, 128), f"task {episode}"
            frame = {"observation.state": state, "action": action, "observation.images.front": picture, "task": task}
            dataset.add_frame(frame)
            for key, value in (("state", state), ("action", action), ("image", picture), ("task", task)):
                kept[key].append(value)
        dataset.save_episode()
    dataset.finalize()
    np.savez(output, **{key: np.stack(values) for key, values in kept.items()})


def psnr(one: Any, two: Any) -> float:
    """Peak signal-to-noise ratio [dB]."""
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - two) ** 2), 1e-9)))


def check_reading(python: Path, folder: Path) -> dict[str, Any]:
    """LeRobot reads what we wrote; the figures, AssertionError where it got something else."""
    from robovlm_ros.bags import list_episodes, observations, read_episode
    from robovlm_ros.cli.convert import main as convert

    make_episodes(folder / "episodes")
    assert convert(["lerobot", str(folder / "episodes"), str(folder / "ours"), "--workers", "1"]) == 0
    run_inside(python, "read", folder / "ours", folder / "read.npz")
    worst = float("inf")
    with np.load(folder / "read.npz") as found:
        steps = [
            step
            for path in list_episodes(folder / "episodes")
            for step in observations(read_episode(path), chunk_size=1)
        ]
        assert len(steps) == len(found["action"]) == sum(FRAMES)
        for i, step in enumerate(steps):
            seen = step.observation
            np.testing.assert_array_equal(found["observation.state"][i], seen.state)
            np.testing.assert_array_equal(found["action"][i], step.actions[0].astype(np.float32))
            assert found["robovlm.stamp_ns"][i] == seen.stamp_ns
            assert str(found["task"][i]) == seen.instruction
            assert found["robovlm.intervention"][i] == step.intervention
            for name, image in seen.images.items():
                got = found[f"observation.images.{name}"][i].transpose(1, 2, 0)  # (height, width, 3)
                worst = min(worst, psnr(got, image))
        assert worst > LIKE_DB, f"an image is only {worst:.1f} dB like that of the episode"
        np.testing.assert_array_equal(found["chunks"][0], found["action"][:3])
        np.testing.assert_allclose(found["mean"][0], np.mean([s.observation.state for s in steps], 0), atol=1e-6)
        version = str(found["version"][0])
    return {"lerobot": version, "frames_read_by_lerobot": len(steps), "worst_image_db": round(worst, 1)}


def check_writing(python: Path, folder: Path) -> dict[str, Any]:
    """We read what LeRobot wrote; the figures, AssertionError where we got something else."""
    from robovlm_ros.bags import list_episodes, observations, read_episode
    from robovlm_ros.cli.convert import main as convert

    run_inside(python, "write", folder / "theirs", folder / "write.npz")
    assert convert(["episodes", str(folder / "theirs"), str(folder / "back"), "--workers", "1"]) == 0
    episodes = [read_episode(path) for path in list_episodes(folder / "back")]
    worst, number = float("inf"), 0
    with np.load(folder / "write.npz") as given:
        assert [len(list(observations(episode))) for episode in episodes] == list(FRAMES)
        for episode in episodes:
            assert episode.contract.action_names == ("shoulder.pos", "elbow.pos", "gripper.pos")
            for step in observations(episode):
                np.testing.assert_array_equal(step.observation.state, given["state"][number])
                np.testing.assert_array_equal(step.actions[0].astype(np.float32), given["action"][number])
                assert step.observation.instruction == str(given["task"][number])
                worst = min(worst, psnr(step.observation.images["front"], given["image"][number]))
                number += 1
        assert worst > LIKE_DB, f"an image is only {worst:.1f} dB like LeRobot's"
    return {"frames_written_by_lerobot": number, "worst_image_of_theirs_db": round(worst, 1)}


def make_episodes(folder: Path) -> None:
    """Episodes with two cameras, a change of instruction, an intervention and stamps that jitter."""
    from robovlm_ros.bags.frames import FrameWriter
    from robovlm_ros.contract import Contract

    kind = "sensor_msgs/msg/JointState"
    dims = [{"name": name, "unit": "rad", "limits": [-9.0, 9.0]} for name in ("a", "b", "c")]
    contract = Contract.from_dict(
        {
            "name": "check",
            "rate_hz": HZ,
            "command_rate_hz": HZ,
            "cameras": {
                "front": {"topic": "/front", "width": 160, "height": 120},
                "wrist": {"topic": "/wrist", "width": 64, "height": 64},
            },
            "state": {"arm": {"topic": "/arm", "type": kind, "dims": ["a", "b", "c"], "unit": "rad"}},
            "commands": {"arm": {"topic": "/command", "type": kind, "dims": dims}},
        }
    )
    rng = np.random.default_rng(1)
    for episode, frames in enumerate(FRAMES):
        writer = FrameWriter(folder / f"episode_{episode}", contract)
        stamps = (
            10**18 + episode * 10**12 + np.arange(frames) * contract.step_ns + rng.integers(-(10**6), 10**6, frames)
        )
        writer.instruct("first this", int(stamps[0]))
        writer.instruct(f"then that {episode}", int(stamps[10]))
        writer.intervene(True, int(stamps[5]))
        writer.intervene(False, int(stamps[8]))
        for i, stamp in enumerate(stamps.tolist()):
            images = {"front": scene(0, i, 120, 160), "wrist": scene(1, i, 64, 64)}
            writer.add(stamp, images, rng.normal(0, 1, 3), rng.normal(0, 1, 3))
        writer.finish(outcome="failure" if episode == 1 else "success")


def run_inside(python: Path, what: str, root: Path, output: Path) -> None:
    """Run a part of this file by LeRobot's Python, without network and without our packages."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(output.parent / "cache")}
    command = [str(python), __file__, "--inside", what, str(root), str(output)]
    subprocess.run(command, check=True, env=environment)


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--python", type=Path, help="the Python of an environment that has lerobot")
    arguments.add_argument("--json", type=Path, help="write the figures there")
    arguments.add_argument("--inside", nargs=3, metavar=("WHAT", "ROOT", "OUTPUT"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.inside:
        what, root, output = options.inside
        {"read": inside_read, "write": inside_write}[what](Path(root), Path(output))
        return 0
    if options.python is None:
        arguments.error("--python is needed: the Python of an environment that has lerobot")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    with tempfile.TemporaryDirectory() as name:
        result = {**check_reading(options.python, Path(name)), **check_writing(options.python, Path(name))}
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
