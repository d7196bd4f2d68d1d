"""A recording that broke off becomes an episode; nothing is removed before that is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader

from robovlm_ros.bags import EpisodeWriter, OfferedQos, list_episodes, list_unfinished, read_episode, recover
from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.errors import UserError

from .test_bags import CONTRACT, episode_messages, record, topics

LATCHED_TOPIC = CONTRACT.instruction_topic


def unfinished(path: Path, steps: int = 5, each: int = 4, **options: Any) -> tuple[EpisodeWriter, list[Any]]:
    """A recording that goes on, flushed after each so many messages; and what was flushed."""
    writer = EpisodeWriter(path, CONTRACT, operator="ada", ros_distro="jazzy", **options)
    for topic, kind in topics().items():
        writer.add_topic(topic, kind, OfferedQos(transient_local=topic == LATCHED_TOPIC))
    messages = episode_messages(steps)
    for i, (topic, data, receive_ns) in enumerate(messages, start=1):
        writer.write(topic, data, receive_ns)
        if i % each == 0:
            writer.flush()
    return writer, messages[: len(messages) - len(messages) % each]


def contents(path: Path) -> list[tuple[str, bytes, int]]:
    return [(m.topic, m.data, m.receive_ns) for m in read_episode(path).messages()]


def cut(folder: Path, share: float) -> Path:
    file = next(folder.glob("*.mcap"))
    data = file.read_bytes()
    file.write_bytes(data[: round(len(data) * share)])
    return file


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_what_was_flushed_before_the_end_comes_back_unchanged(tmp_path: Path, share: float, compress: bool) -> None:
    writer, flushed = unfinished(tmp_path / "one", compress=compress)
    writer.note("outcome", "failure")
    writer.flush()
    writer.abandon()
    cut(writer.partial, share)
    done = recover(writer.partial)
    assert done.path == tmp_path / "one"
    found = contents(done.path)
    assert found == [*flushed, *episode_messages()[len(flushed) :]][: len(found)]
    assert len(found) >= share * len(flushed) - 5
    episode = read_episode(done.path)
    assert (episode.recovered, episode.operator, episode.contract) == (True, "ada", CONTRACT)
    assert episode.instruction == "reach the red block"
    assert episode.versions["ros_distro"] == "jazzy"
    assert episode.outcome == ("failure" if share == 1.0 else "unknown")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    with Reader(done.path) as reader:  # of another making: index, types and QoS are there again
        assert reader.message_count == len(found)
        assert {c.topic for c in reader.connections} == set(topics())
        latched = next(c for c in reader.connections if c.topic == LATCHED_TOPIC)
        assert latched.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    with next(done.path.glob("*.mcap")).open("rb") as stream:
        chunk = next(r for r in StreamReader(stream, emit_chunks=True).records if isinstance(r, Chunk))
        assert chunk.compression == ("zstd" if compress else "")


def test_a_recording_that_runs_is_left_alone(tmp_path: Path) -> None:
    writer, _ = unfinished(tmp_path / "one")
    with pytest.raises(UserError, match="one is being recorded right now: left alone"):
        recover(writer.partial)
    assert len(contents(writer.finish())) == len(episode_messages())


def test_a_chunk_that_is_damaged_costs_what_it_held_and_the_original_stays(tmp_path: Path) -> None:
    writer, flushed = unfinished(tmp_path / "one", steps=8)
    writer.abandon()
    file = next(writer.partial.glob("*.mcap"))
    data = file.read_bytes()
    middle = len(data) // 2
    file.write_bytes(data[:middle] + bytes(255 - b for b in data[middle : middle + 16]) + data[middle + 16 :])
    done = recover(writer.partial)
    assert done.path is not None
    assert "stays in" in done.sentence
    found = contents(done.path)
    assert set(found) <= set(flushed)
    assert len(flushed) - 8 <= len(found) < len(flushed)
    assert found[-1] == flushed[-1]
    assert (tmp_path / ".one.damaged" / "one_0.mcap").stat().st_size == len(data)
    assert list_unfinished(tmp_path) == []


@pytest.mark.parametrize("how", ["no file", "nothing in it", "no message"])
def test_a_recording_that_holds_nothing_is_removed(tmp_path: Path, how: str) -> None:
    writer = EpisodeWriter(tmp_path / "one", CONTRACT)
    writer.add_topic(LATCHED_TOPIC, "std_msgs/msg/String")
    writer.abandon()
    if how == "no file":
        next(writer.partial.glob("*.mcap")).unlink()
    elif how == "nothing in it":
        cut(writer.partial, 0.0)
    assert recover(writer.partial).path is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_told_stays_where_it_is(tmp_path: Path) -> None:
    writer, _ = unfinished(tmp_path / "one")
    writer.abandon()
    file = next(writer.partial.glob("*.mcap"))
    file.write_bytes(b"not a bag " * 100)
    with pytest.raises(UserError, match=r"one cannot be recovered: .*it stays in"):
        recover(writer.partial)
    assert file.exists()


def test_a_kill_between_the_last_two_steps_of_recording_costs_the_name_only(tmp_path: Path) -> None:
    record(tmp_path / "one", episode_messages())
    (tmp_path / "one").rename(tmp_path / ".one.partial")
    assert list_episodes(tmp_path) == []
    assert recover(tmp_path / ".one.partial").path == tmp_path / "one"
    assert len(contents(tmp_path / "one")) == len(episode_messages())
    assert not read_episode(tmp_path / "one").recovered


def test_a_repair_that_was_killed_itself_can_be_repeated(tmp_path: Path) -> None:
    writer, flushed = unfinished(tmp_path / "one")
    writer.abandon()
    original = tmp_path / "original"
    shutil.copytree(writer.partial, original)
    (tmp_path / ".one.repairing").mkdir()
    (tmp_path / ".one.repairing" / "one_0.mcap").write_bytes(b"half a copy")
    recover(writer.partial)
    assert contents(tmp_path / "one")[: len(flushed)] == flushed
    shutil.copytree(original, writer.partial)  # killed before the original was removed
    assert "already" in recover(writer.partial).sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "original"]
    (tmp_path / "one").rename(tmp_path / "two")
    record(tmp_path / "one", episode_messages(1))
    shutil.copytree(original, writer.partial)
    with pytest.raises(UserError, match=r"one exists beside \.one\.partial"):
        recover(writer.partial)
    assert writer.partial.exists()


def test_inspect_names_unfinished_recordings_and_repairs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, _ = unfinished(tmp_path / "broken")
    writer.abandon()
    assert inspect(["episodes", str(tmp_path)]) == 1
    assert "unfinished recordings (1): try --repair" in capsys.readouterr().err
    record(tmp_path / "good", episode_messages())
    running, _ = unfinished(tmp_path / "running")
    assert inspect(["episodes", str(tmp_path)]) == 0
    assert "unfinished recordings: 2" in capsys.readouterr().out
    assert inspect(["episodes", str(tmp_path), "--repair", "--json", str(tmp_path / "out.json")]) == 1
    said = capsys.readouterr()
    assert "broken: recovered 0.4 s" in said.out
    assert "broken: recovered: it broke off" in said.out
    assert "running is being recorded right now" in said.err
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["repaired"] == ["broken"]
    assert [(row["name"], row["recovered"]) for row in report["episodes"]] == [("broken", True), ("good", False)]
    running.discard()
