"""Episodes to a LeRobot data set and back: numbers exactly, images by the codec, and what is wrong in one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robovlm_ros.bags import Episode, list_episodes, mark, observations, read_episode
from robovlm_ros.bags.aligned import Pace
from robovlm_ros.bags.frames import FrameWriter
from robovlm_ros.bags.lerobot import LeRobotReader, VideoOptions, layout
from robovlm_ros.bags.lerobot.statistics import PixelStatistics, of_numbers, of_pixels
from robovlm_ros.cli.convert import main as convert
from robovlm_ros.contract import Contract

START = 1_700_000_000_000_000_000
FRAMES = 14
CONTRACT = Contract.from_dict(
    {
        "name": "two_arms",
        "rate_hz": 10.0,
        "command_rate_hz": 20.0,
        "cameras": {
            "front": {"topic": "/front/image_raw", "width": 64, "height": 48},
            "side": {
                "topic": "/side/image/compressed",
                "width": 32,
                "height": 31,
                "type": "sensor_msgs/msg/CompressedImage",
            },
        },
        "state": {
            "joints": {
                "topic": "/joint_states",
                "type": "sensor_msgs/msg/JointState",
                "dims": ["a", "b"],
                "unit": "rad",
            },
            "force": {"topic": "/force", "type": "std_msgs/msg/Float64MultiArray", "dims": ["f"], "unit": "N"},
        },
        "commands": {
            "arm": {
                "topic": "/arm",
                "type": "trajectory_msgs/msg/JointTrajectory",
                "dims": [{"name": n, "unit": "rad", "limits": [-3.0, 3.0]} for n in ("a", "b")],
            },
            "hand": {
                "topic": "/hand",
                "type": "std_msgs/msg/Float64MultiArray",
                "dims": [{"name": "grip", "unit": "m", "kind": "binary", "limits": [0.0, 0.04]}],
            },
        },
    }
)


def scene(camera: int, step: int) -> np.ndarray:
    """A smooth picture that moves."""
    size = CONTRACT.cameras[camera]
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    waves = [120 + 60 * np.sin((x + 3 * step) / 15 + k) + 40 * np.cos(y / 11 + camera) for k in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def record(folder: Path, name: str, seed: int = 0, frames: int = FRAMES) -> Path:
    """An episode whose stamps jitter, whose side camera skips two frames, and whose first frame has no command.

    Its instruction changes half-way and a person takes over for a while.
    """
    rng = np.random.default_rng(seed)
    writer = FrameWriter(folder / name, CONTRACT, operator="ada")
    stamps = START + np.arange(frames) * CONTRACT.step_ns + rng.integers(-9_000_000, 9_000_000, frames)
    stamps[frames // 2 :] += CONTRACT.step_ns  # one frame of all that is missing
    writer.instruct("push the red block", START - 50_000_000)
    writer.instruct(f"lift the {name} block", int(stamps[5]) - 3)
    writer.intervene(True, int(stamps[6]) - 7)
    if name != "green":  # there the person commands to the end
        writer.intervene(False, int(stamps[9]) + 11)
    side = 0
    for i, stamp in enumerate(stamps.tolist()):
        if i not in (3, 4):  # then the newest picture of the side camera is an old one
            side = stamp - 4_000_000
        own = {"/side/image/compressed": side, "/joint_states": stamp - 2_000_000, "/force": stamp - 999_999}
        own |= {"/arm": stamp - 1_500_001, "/hand": stamp - 1_500_002}
        action = np.array([*rng.normal(0, 0.3, 2), float(i % 3 == 0)]) if i else None
        images = {"front": scene(0, i), "side": scene(1, i)}
        writer.add(stamp, images, rng.normal(0, 0.1, 3), action, own)
    return writer.finish(outcome="success")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes, the second a failure, their data set and the episodes that were made of it."""
    folder = tmp_path_factory.mktemp("convert")
    for number, name in enumerate(("red", "blue", "green")):
        record(folder / "episodes", name, number, FRAMES + number)
    mark(folder / "episodes" / "blue", "failure")
    assert convert(["lerobot", str(folder / "episodes"), str(folder / "lerobot"), "--workers", "1"]) == 0
    assert convert(["episodes", str(folder / "lerobot"), str(folder / "back"), "--workers", "1"]) == 0
    return folder


def episodes(folder: Path) -> Iterator[tuple[Episode, Episode]]:
    for path in list_episodes(folder / "episodes"):
        yield read_episode(path), read_episode(folder / "back" / path.name)


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    """Peak signal-to-noise ratio [dB]."""
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - two) ** 2), 1e-9)))


def test_episodes_come_back_from_a_lerobot_data_set_with_every_number_as_it_was(folder: Path) -> None:
    for before, after in episodes(folder):
        for field in ("contract", "outcome", "operator", "instruction", "instructions"):
            assert getattr(after, field) == getattr(before, field), field
        (begin_ns, end_ns), (same_begin_ns, same_end_ns) = *before.interventions, *after.interventions
        assert same_begin_ns == begin_ns
        assert abs(same_end_ns - end_ns) <= (1 if before.name == "green" else 0)  # up to the last frame, and with it
        assert after.duration_s == pytest.approx(before.duration_s, abs=1e-6)
        assert len(after.instructions) == 2
        steps = [list(observations(episode, chunk_size=4)) for episode in (before, after)]
        assert len(steps[0]) == len(steps[1]) >= FRAMES
        for old, new in zip(*steps, strict=True):
            assert new.observation.stamp_ns == old.observation.stamp_ns
            assert new.observation.instruction == old.observation.instruction
            assert new.intervention == old.intervention
            np.testing.assert_array_equal(new.observation.state, old.observation.state)
            np.testing.assert_array_equal(new.actions, old.actions)
            np.testing.assert_array_equal(new.valid, old.valid)
            for name, image in old.observation.images.items():
                assert psnr(new.observation.images[name], image) > 35.0, name
        assert {step.intervention for step in steps[0]} == {True, False}
        assert not steps[0][0].valid[0]
    assert [after.outcome for _, after in episodes(folder)] == ["failure", "success", "success"]


def test_every_message_but_the_pixels_comes_back_bit_for_bit_with_its_own_stamp(folder: Path) -> None:
    pictures = {camera.topic for camera in CONTRACT.cameras}
    for before, after in episodes(folder):
        end_ns = [step.observation.stamp_ns for step in observations(before)][-1]
        found = [
            sorted((m.receive_ns, m.topic, b"" if m.topic in pictures else m.data) for m in episode.messages())
            for episode in (before, after)
        ]
        kept = [message for message in found[0] if message[0] <= end_ns]
        assert [message for message in found[1] if message[0] <= end_ns] == kept
        assert len(kept) > 5 * FRAMES


def test_the_data_set_has_the_layout_of_version_3(folder: Path) -> None:
    root = folder / "lerobot"
    info = json.loads((root / "meta/info.json").read_text())
    lengths = [FRAMES + 1, FRAMES + 2, FRAMES]
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 10)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, sum(lengths), 4)
    assert {name for name, feature in info["features"].items() if feature["dtype"] == "video"} == {
        "observation.images.front",
        "observation.images.side",
    }
    assert info["features"]["observation.state"] == {
        "dtype": "float32",
        "shape": [3],
        "names": ["joints.a", "joints.b", "force.f"],
    }
    rows = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert set(rows.column_names) == {name for name, f in info["features"].items() if f["dtype"] != "video"}
    assert rows.schema.field("observation.state").type == pa.list_(pa.float32(), 3)
    assert rows["index"].to_pylist() == list(range(sum(lengths)))
    assert rows["next.success"].to_pylist().count(True) == 2
    np.testing.assert_allclose(rows["timestamp"].to_numpy()[:4], [0.0, 0.1, 0.2, 0.3], rtol=1e-6)
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["length"] for row in table] == lengths
    assert [row["outcome"] for row in table] == ["failure", "success", "success"]
    begins = [row["videos/observation.images.side/from_timestamp"] for row in table]
    np.testing.assert_allclose(begins, [0.0, 1.5, 3.1])
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    statistics = json.loads((root / "meta/stats.json").read_text())
    state = np.stack(rows["observation.state"].to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(statistics["observation.state"]["mean"], state.mean(axis=0), rtol=1e-4)
    assert np.shape(statistics["observation.images.front"]["mean"]) == (3, 1, 1)


def test_a_data_set_of_lerobots_own_making_becomes_episodes_with_a_derived_contract(
    folder: Path, tmp_path: Path
) -> None:
    root = foreign(folder, tmp_path)
    assert convert(["episodes", str(root), str(tmp_path / "out"), "--images", "png", "--workers", "2"]) == 0
    found = list_episodes(tmp_path / "out")
    contract = Contract.load(tmp_path / "out" / "contract.yaml")
    assert (contract.name, contract.rate_hz, contract.action_names) == ("two_arms", 10.0, ("a", "b", "grip"))
    assert len(found) == 3
    steps = list(observations(read_episode(found[0])))
    rows = pq.read_table(root / "data/chunk-000/file-000.parquet").to_pylist()
    assert len(steps) == FRAMES + 1
    for i, step in enumerate(steps):
        assert step.observation.stamp_ns == 1_000_000_000 + i * 100_000_000
        assert step.observation.state.tolist() == rows[i]["observation.state"]
        assert step.actions[0].tolist() == rows[i]["action"]
    assert read_episode(found[0]).contract.cameras[0].type == "sensor_msgs/msg/CompressedImage"
    (tmp_path / "mine.yaml").write_text(json.dumps(CONTRACT.to_dict()))  # JSON is YAML
    arguments = ["episodes", str(root), str(tmp_path / "mine"), "--contract", str(tmp_path / "mine.yaml")]
    assert convert([*arguments, "--workers", "1"]) == 0
    mine = read_episode(list_episodes(tmp_path / "mine")[0])
    assert mine.contract == CONTRACT
    assert [step.actions[0, 2] for step in observations(mine)] == [float(row["action"][2] > 0.02) for row in rows[:15]]


def test_images_that_a_data_set_stores_one_by_one_come_back_exactly(folder: Path, tmp_path: Path) -> None:
    root, key = foreign(folder, tmp_path), "observation.images.side"
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"][key] = {"dtype": "image", "shape": [3, 31, 32], "names": ["channels", "height", "width"]}
    info["features"]["observation.state"]["names"] = {"motors": ["one", "two", "three"]}
    path.write_text(json.dumps(info))
    data = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    images = []
    for i in range(len(table)):
        stream = io.BytesIO()
        Image.fromarray(scene(1, i)).save(stream, "PNG")
        images.append({"bytes": stream.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(table.append_column(key, pa.array(images, kind)), data)
    assert convert(["episodes", str(root), str(tmp_path / "out"), "--workers", "1"]) == 0
    number = 0
    for name in list_episodes(tmp_path / "out"):
        for step in observations(read_episode(name)):
            np.testing.assert_array_equal(step.observation.images["side"], scene(1, number))
            number += 1
    assert number == len(table)
    assert read_episode(name).contract.state_names == ("state.one", "state.two", "state.three")


def foreign(folder: Path, tmp_path: Path) -> Path:
    """The data set without what this package adds."""
    root = tmp_path / "foreign"
    shutil.copytree(folder / "lerobot", root)
    shutil.rmtree(root / "meta/robovlm_ros")
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"] = {name: f for name, f in info["features"].items() if not name.startswith("robovlm")}
    path.write_text(json.dumps(info))
    data = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("robovlm")]), data)
    return root


def test_episodes_that_lerobots_tools_numbered_anew_keep_what_was_theirs(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "edited"
    shutil.copytree(folder / "lerobot", root)
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").slice(1)
    numbers = rows.set_column(rows.column_names.index("episode_index"), "episode_index", pa.array([0, 1]))
    pq.write_table(numbers, root / "meta/episodes/chunk-000/file-000.parquet")
    data = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data).slice(FRAMES + 1)
    at = table.column_names.index("episode_index")
    pq.write_table(table.set_column(at, "episode_index", pa.array(np.array(table["episode_index"]) - 1)), data)
    assert convert(["episodes", str(root), str(tmp_path / "out"), "--workers", "1"]) == 0
    assert [path.name for path in list_episodes(tmp_path / "out")] == ["green", "red"]
    assert read_episode(tmp_path / "out" / "red").instructions == read_episode(folder / "episodes" / "red").instructions


def test_episodes_of_one_name_from_two_folders_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    for seed, part in enumerate(("monday", "tuesday")):
        record(tmp_path / part, "take", seed, 12 + seed)
    folders = [str(tmp_path / part) for part in ("monday", "tuesday")]
    assert convert(["lerobot", *folders, str(tmp_path / "lerobot"), "--workers", "1"]) == 0
    assert convert(["episodes", str(tmp_path / "lerobot"), str(tmp_path / "back"), "--workers", "2"]) == 0
    found = [read_episode(path) for path in list_episodes(tmp_path / "back")]
    assert [episode.name for episode in found] == ["take_0", "take_1"]
    assert [episode.counts["/front/image_raw"] for episode in found] == [12, 13]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"codebase_version": "v2.1"}, "convert_dataset_v21_to_v30"),
        ({"codebase_version": "v4.0"}, "version v4.0; v3.0 can be read"),
        ({"fps": 0}, "has no 'fps'"),
        ("meta/info.json", "no LeRobot data set"),
        ("meta/tasks.parquet", "tasks.parquet is missing"),
        ("videos/observation.images.side/chunk-000/file-000.mp4", "file-000.mp4 is missing"),
        ("data/chunk-000/file-000.parquet", "file-000.parquet is missing"),
    ],
)
def test_a_broken_data_set_is_said_in_one_line_and_leaves_no_half_episode(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, expected: str
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(folder / "lerobot", root)
    if isinstance(change, Mapping):
        path = root / "meta/info.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    else:
        (root / change).unlink()
    assert convert(["episodes", str(root), str(tmp_path / "out"), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_contract_that_does_not_fit_and_folders_in_use_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = str(folder / "lerobot"), str(tmp_path / "out")
    assert convert(["episodes", root, out, "--contract", "tabletop"]) == 1
    assert "no camera 'static' (cameras: front, side)" in capsys.readouterr().err
    assert convert(["episodes", root, str(folder / "episodes")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert convert(["lerobot", str(folder / "episodes"), root]) == 1
    assert "exists already" in capsys.readouterr().err
    assert convert(["lerobot", str(folder / "episodes"), out, "--codec", "h265"]) == 1
    assert "not one of: h264, av1" in capsys.readouterr().err
    assert convert(["lerobot", str(folder), out]) == 1
    assert "no episodes" in capsys.readouterr().err
    assert not Path(out).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("hz", "expected"), [(10.0, 300), (10.3, 309), (9.8, 294), (20.0, 300), (30.0, 300), (25.0, 300)]
)
def test_a_camera_at_the_contracts_rate_loses_no_frame_and_a_faster_one_is_thinned_to_it(
    hz: float, expected: int
) -> None:
    rng = np.random.default_rng(0)
    count = round(30 * hz)
    jitter = rng.uniform(-0.003, 0.003, count)
    stamps = ((np.arange(count) / hz + jitter) * 1e9).astype(np.int64) + START
    pace = Pace(100_000_000)
    kept = [stamp for stamp in stamps.tolist() if pace.take(stamp)]
    assert abs(len(kept) - expected) <= 3


def test_statistics_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, (500, 2))
    found = of_numbers(values)
    np.testing.assert_allclose(found["std"], values.std(axis=0))
    np.testing.assert_allclose(found["q90"], np.quantile(values, 0.9, axis=0))
    pixels = PixelStatistics()
    images = [scene(0, i) for i in range(11)]
    for image in images:
        pixels.add(image)
    seen = np.stack(images[::5])[:, ::4, ::4] / 255.0  # (3, 12, 16, 3)
    result = of_pixels(pixels.counts, pixels.images)
    assert result["count"].tolist() == [3]
    for name, value in (("mean", seen.mean((0, 1, 2))), ("std", seen.std((0, 1, 2))), ("max", seen.max((0, 1, 2)))):
        np.testing.assert_allclose(result[name].ravel(), value, atol=1e-9)
    assert np.abs(result["q10"].ravel() - np.quantile(seen.reshape(-1, 3), 0.1, axis=0)).max() < 0.01


def test_options_and_names_of_a_data_set(folder: Path) -> None:
    assert VideoOptions().codec == "h264"
    reader = LeRobotReader(folder / "lerobot")
    assert reader.names(layout.STATE) == list(CONTRACT.state_names)
    assert reader.size(layout.IMAGES + "side") == (31, 32)


@pytest.mark.slow
@pytest.mark.skipif("ROBOVLM_LEROBOT_PYTHON" not in os.environ, reason="ROBOVLM_LEROBOT_PYTHON names no environment")
def test_lerobot_itself_reads_what_was_converted_and_what_it_writes_becomes_episodes() -> None:
    tool = Path(__file__).resolve().parent.parent / "tools" / "check_lerobot.py"
    subprocess.run([sys.executable, str(tool), "--python", os.environ["ROBOVLM_LEROBOT_PYTHON"]], check=True)
