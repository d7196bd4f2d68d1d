"""How a recording gets to the disk: flushed by itself, synced beside the writing, broken off with a reason."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from robovlm_ros.bags import EpisodeWriter, Recording, read_episode, recover

from .test_bags import CONTRACT, START, text

TOPIC = CONTRACT.instruction_topic


def begin(path: Path, failed: Callable[[str], object] = print) -> Recording:
    writer = EpisodeWriter(path, CONTRACT)
    writer.add_topic(TOPIC, CONTRACT.instruction_type)
    return Recording(writer, failed)


def size(recording: Recording) -> int:
    return next(recording.writer.partial.glob("*.mcap")).stat().st_size


def wait_until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)


def test_what_was_taken_leaves_the_process_by_itself_and_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
    recording = begin(tmp_path / "one")
    wait_until(lambda: bool(synced), "the first flush")
    before = size(recording)
    recording.put(TOPIC, text("a" * 5000), START)
    wait_until(lambda: synced[-1] > before, "the message on the disk")
    recording.note("outcome", "success")
    path = recording.finish()
    episode = read_episode(path)
    assert episode.outcome == "success"
    assert [m.receive_ns for m in episode.messages()] == [START]


def test_a_disk_that_takes_its_time_to_sync_stops_neither_writing_nor_flushing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda fd: slow.wait(20.0))
    recording = begin(tmp_path / "one")
    try:
        for i in range(3):
            before = size(recording)
            recording.put(TOPIC, text(str(i)), START + i)
            wait_until(lambda before=before: size(recording) > before, f"message {i} in the file")
    finally:
        slow.set()
    assert len(list(read_episode(recording.finish()).messages())) == 3


def test_a_sync_that_fails_breaks_the_recording_off_and_what_was_flushed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()

    def sync(_fd: int) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said: list[str] = []
    monkeypatch.setattr(os, "fdatasync", sync)
    recording = begin(tmp_path / "one", said.append)
    before = size(recording)
    recording.put(TOPIC, text("kept"), START)
    wait_until(lambda: size(recording) > before, "the message in the file")
    full.set()
    wait_until(lambda: bool(said), "the reason")
    recording.put(TOPIC, text("lost"), START + 1)
    assert "broke off: No space left on device" in said[0]
    with pytest.raises(Exception, match="No space left on device"):
        recording.finish()
    assert len(said) == 1
    assert recording.counts()[TOPIC]["dropped"] == 1
    done = recover(recording.writer.partial)
    assert done.path is not None
    assert [m.decode().data for m in read_episode(done.path).messages()] == ["kept"]


@pytest.mark.parametrize("broken_off", [False, True])
def test_messages_come_back_in_the_order_of_their_receipt_where_the_clock_was_set_back(
    tmp_path: Path, broken_off: bool
) -> None:
    times = [START, START + 10**9, START - 5 * 10**9, START - 4 * 10**9]
    recording = begin(tmp_path / "one")
    before = size(recording)
    for i, receive_ns in enumerate(times):
        recording.put(TOPIC, text(str(i)), receive_ns)
    if broken_off:
        wait_until(lambda: size(recording) > before + 500, "the messages in the file")
        copy = tmp_path / "crashed" / ".one.partial"  # what a crash would leave now
        shutil.copytree(recording.writer.partial, copy)
        recording.discard()
        path = recover(copy).path
    else:
        path = recording.finish()
    assert path is not None
    episode = read_episode(path)
    assert [m.receive_ns for m in episode.messages()] == times
    assert episode.start_ns == times[2]


def test_what_comes_after_the_end_is_neither_taken_nor_counted(tmp_path: Path) -> None:
    recording = begin(tmp_path / "one")
    recording.put(TOPIC, text("a"), START)
    path = recording.finish()
    recording.put(TOPIC, text("b"), START + 1)
    assert recording.counts()[TOPIC] == {"received": 1, "written": 1, "dropped": 0}
    assert len(list(read_episode(path).messages())) == 1
