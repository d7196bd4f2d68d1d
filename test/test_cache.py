"""What is decoded once for all runs: the bytes of the bag, whole or not at all, and never those of another thing."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robovlm_ros.bags import read_episode
from robovlm_ros.bags import reader as bag_reader
from robovlm_ros.cli import benchmark_data
from robovlm_ros.cli.benchmark import main as benchmark
from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.errors import UserError
from robovlm_ros.training import seen
from robovlm_ros.training.cache import Cache, open_cache
from robovlm_ros.training.coding import Codebook, TooManyValuesError, decode
from robovlm_ros.training.features import FeatureEncoder
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.windows import Recording, WindowDataset, read_recordings
from robovlm_ros.vlm.checkpoint import save_vlm
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import processor_for, small_vlm
from .test_bags import CONTRACT, START, STEP, episode_messages, text
from .test_bags import record as record_bag


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    late = [item for item in episode_messages(6) if item[0] != "/arm/target_pose" or item[2] > START + 3 * STEP]
    words = ("/instruction", text("reach the blue block"), START + 3 * STEP)
    return record_bag(tmp_path / "bags" / "one", [*late, words])


def nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, asking a bag for its messages fails."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("a bag was read again")

    monkeypatch.setattr(bag_reader, "_from_mcap", refuse)


def items(recordings: list[Recording], processor: ActionTokenProcessor) -> list[dict[str, bytes]]:
    dataset = WindowDataset(recordings, processor)
    return [{key: value.numpy().tobytes() for key, value in dataset[i].items()} for i in range(len(dataset))]


def encoder_for(processor: ActionTokenProcessor, seed: int = 0) -> FeatureEncoder:
    vlm, _ = small_vlm(seed)
    return FeatureEncoder(ActionTokenPolicy.from_vlm(vlm, processor.config), 4, torch.device("cpu"))


@pytest.mark.parametrize("kept", ["tensors", "frames", "features"])
def test_from_the_cache_come_the_bytes_of_the_bag_and_the_bag_is_read_once_for_every_chunk_size(
    cache: Cache, bag: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = processor_for(CONTRACT)
    options: dict[str, Any] = {
        "encode": encoder_for(processor) if kept == "features" else None, "raw": kept == "frames"
    }  # fmt: skip
    episodes = [read_episode(bag)]
    expected = {size: items(read_recordings(episodes, processor, size, **options), processor) for size in (3, 1)}
    assert [len(found) for found in expected.values()] == [5, 3]  # the first is of use for what follows it only
    first = read_recordings(episodes, processor, 3, cache=cache, **options)
    assert items(first, processor) == expected[3]
    if kept != "features":  # those are made of batches of what a chunk size uses
        nobody_reads(monkeypatch)
        assert items(read_recordings(episodes, processor, 1, cache=cache, **options), processor) == expected[1]
    nobody_reads(monkeypatch)
    again = read_recordings(episodes, processor_for(CONTRACT), 3, cache=cache, **options)
    assert items(again, processor) == expected[3]


def test_a_second_training_reads_no_bag_and_gives_the_same_policy_as_one_without_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))

    def weights(cache: str, workers: int = 0) -> dict[str, torch.Tensor]:
        options = FinetuneOptions(
            steps=3, batch_size=4, chunk_size=3, warmup_steps=0, validation_share=0.5, device="cpu", train_vision=True,
            cache=cache, workers=workers, cameras=("static", "wrist"),
        )  # fmt: skip
        return finetune(options, tmp_path / "episodes", str(tmp_path / "vlm"), Report("test")).policy.state_dict()

    plain, first = weights("off"), weights(str(tmp_path / "cache"))
    nobody_reads(monkeypatch)
    second = weights(str(tmp_path / "cache"), workers=2)  # and batches do not depend on who prepares them
    assert all(torch.equal(plain[name], first[name]) and torch.equal(plain[name], second[name]) for name in plain)


def changed(path: Path, **options: Any) -> Path:
    shutil.rmtree(path)
    return record_bag(path, episode_messages(**options))


@pytest.mark.parametrize(
    "change",
    [
        lambda path, processor: (changed(path, steps=5), processor),
        lambda path, processor: (path, _other_size(processor)),
    ],
    ids=["episode", "processor"],
)
def test_what_decides_about_the_images_makes_another_entry(
    cache: Cache, tmp_path: Path, change: Callable[[Path, ActionTokenProcessor], tuple[Path, ActionTokenProcessor]]
) -> None:
    path, processor = record_bag(tmp_path / "one", episode_messages(3)), processor_for(CONTRACT)
    read_recordings([read_episode(path)], processor, 2, None, cache=cache)
    path, processor = change(path, processor)
    found = read_recordings([read_episode(path)], processor, 2, None, cache=cache)
    assert items(found, processor) == items(read_recordings([read_episode(path)], processor, 2, None), processor)
    assert len(cache.entries()) == 2


def _other_size(processor: ActionTokenProcessor) -> ActionTokenProcessor:
    processor.backbone.image_processor.size = {"height": 32, "width": 32}
    return processor


def test_features_of_other_weights_make_another_entry(cache: Cache, bag: Path) -> None:
    processor = processor_for(CONTRACT)
    for seed in (0, 1, 0):
        encode = encoder_for(processor, seed)
        found = read_recordings([read_episode(bag)], processor, 3, encode, cache=cache)
        assert items(found, processor) == items(read_recordings([read_episode(bag)], processor, 3, encode), processor)
    assert len(cache.entries()) == 2


@pytest.mark.parametrize("kept", ["tensors", "frames"])
def test_the_code_that_decodes_belongs_to_the_key(cache: Cache, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for code in ("today", "tomorrow"):
        monkeypatch.setattr(seen, "_code", lambda *_, code=code: code)
        keys.append(seen.Source(cache, processor_for(CONTRACT), 1, raw=kept == "frames").kept)
    assert keys[0] != keys[1]


def _cut(folder: Path) -> None:
    file = next(folder.glob("pixel_values.npy"))
    file.write_bytes(file.read_bytes()[:-100])


def _flip(folder: Path) -> None:
    file = next(folder.glob("pixel_values.npy"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _lose(folder: Path) -> None:
    (folder / "entry.json").unlink()


def _spoil(folder: Path) -> None:
    (folder / "entry.json").write_text('{"files": {}')


@pytest.mark.parametrize("damage", [_cut, _flip, _lose, _spoil])
def test_a_damaged_entry_is_said_and_made_again(
    cache: Cache, bag: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    processor = processor_for(CONTRACT)
    expected = items(read_recordings([read_episode(bag)], processor, 3, None), processor)
    read_recordings([read_episode(bag)], processor, 3, None, cache=cache)
    [(folder, _)] = cache.entries()
    damage(folder)
    capsys.readouterr()
    found = read_recordings([read_episode(bag)], processor, 3, None, cache=Cache(cache.folder))
    assert items(found, processor) == expected
    assert capsys.readouterr().out.splitlines() == [f"cache: the entry of episode {bag} was damaged and is made again"]
    read_recordings([read_episode(bag)], processor, 3, None, cache=cache)
    assert capsys.readouterr().out == ""


def test_what_broke_off_leaves_nothing_that_counts(cache: Cache, bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = processor_for(CONTRACT)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Codebook, "table", property(stop))
        with pytest.raises(KeyboardInterrupt):
            read_recordings([read_episode(bag)], processor, 3, None, cache=cache)
    assert cache.entries() == []
    key = seen.Source(cache, processor, 3)._key(read_episode(bag))
    half = cache._place(key).with_name(f".{cache._place(key).name}.partial")  # as a SIGKILL leaves it
    half.mkdir()
    (half / "pixel_values.npy").write_bytes(b"half")
    found = read_recordings([read_episode(bag)], processor, 3, None, cache=cache)
    assert items(found, processor) == items(read_recordings([read_episode(bag)], processor, 3, None), processor)
    assert not half.exists()


def _make(folder: Path, made: Any, met: Any) -> None:
    def fill(writer: Any) -> None:
        with made.get_lock():
            made.value += 1
        for value in range(50):
            writer.append("numbers", np.full(1000, value))

    met.wait()
    for number in range(10):
        found = Cache(folder).get({"number": number}, fill, "a test")
        assert int(found.stored("numbers")[49][0]) == 49


def test_of_several_processes_one_makes_an_entry_and_the_others_find_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    made, met = fork.Value("i", 0), fork.Barrier(4)
    processes = [fork.Process(target=_make, args=(tmp_path / "cache", made, met)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert made.value == 10


def test_a_disk_that_is_too_small_is_said_before_much_is_written(
    cache: Cache, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(cache.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=10**6, free=40_000))
    with pytest.raises(UserError, match=r"would need .* GB more, and .* can be used: name a folder on a larger disk"):
        read_recordings([read_episode(bag)], processor_for(CONTRACT), 3, None, cache=cache)
    assert cache.entries() == []


def test_a_cache_that_cannot_be_is_one_line_and_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*: name another folder with cache, or set it off"):
        open_cache(str(tmp_path / "file" / "cache"))
    assert open_cache("off") is None
    monkeypatch.delenv("ROBOVLM_ROS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = open_cache("auto")
    assert found is not None
    assert found.folder == tmp_path / "robovlm_ros"


def test_inspect_says_how_much_is_kept_and_clears_it(
    tmp_path: Path, bag: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROBOVLM_ROS_CACHE", str(tmp_path / "cache"))
    cache = open_cache("auto")
    read_recordings([read_episode(bag)], processor_for(CONTRACT), 3, None, cache=cache)
    assert inspect(["cache", "--json", str(tmp_path / "out.json")]) == 0
    said = json.loads((tmp_path / "out.json").read_text())
    assert (said["entries"], said["folder"]) == (1, str(tmp_path / "cache"))
    assert said["bytes"] == sum(file.stat().st_size for file in (tmp_path / "cache" / "entries").rglob("*.*"))
    capsys.readouterr()
    assert inspect(["cache", "--clear"]) == 0
    assert "removed 1 entries" in capsys.readouterr().out
    assert cache is not None
    assert cache.entries() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_codes_say_every_bit_of_the_numbers(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(3, 4, 5), (2, 3, 4, 5), (7, 6), (2,)]))
    pool = data.draw(st.lists(st.floats(width=32), min_size=1, max_size=200))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    samples = [rng.choice(np.array([*pool, 0.0, -0.0], np.float32), shape) for _ in range(3)]
    book = Codebook(samples[0])
    codes = [book.encode(sample) for sample in samples]
    assert all(decode(c, book.table).tobytes() == s.tobytes() for c, s in zip(codes, samples, strict=True))
    assert {c.dtype.itemsize for c in codes} == {1 if len(shape) > 2 else 2}


def test_numbers_that_are_too_many_for_codes_are_kept_as_they_are(cache: Cache) -> None:
    samples = [np.full((3, 20, 20), 0.5, np.float32), np.arange(1200, dtype=np.float32).reshape(3, 20, 20)]
    with pytest.raises(TooManyValuesError):
        Codebook(samples[0]).encode(samples[1])

    def fill(writer: Any) -> None:
        for sample in (*samples, *samples):
            writer.append("numbers", sample, coded=True)

    found = cache.get({"of": "a test"}, fill, "a test").stored("numbers")
    assert [found[i].tobytes() for i in range(4)] == [sample.tobytes() for sample in (*samples, *samples)]


def test_the_benchmark_of_reading_compares_training_from_episodes_with_training_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_data, "BLOCK_S", 0.0)
    monkeypatch.setattr(benchmark_data, "LENGTH", 4)
    save_vlm(tmp_path / "vlm", *small_vlm())
    flags = ["--base", tmp_path / "vlm", "--width", 64, "--height", 48, "--seconds", 0.01, "--batch-size", 8]
    flags += ["--train-vision", "true", "--augment-shift", 4, "--device", "cpu", "--json", tmp_path / "out.json"]
    assert benchmark(["data", *map(str, flags)]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["observations"], found["kept"]) == (24, "frames")
    assert found["ratio"] > 0
    assert found["first_epoch_ratio"] < found["observations_per_second"] / found["constant_observations_per_second"]
    assert benchmark(["data", "--seconds", "0"]) == 1
