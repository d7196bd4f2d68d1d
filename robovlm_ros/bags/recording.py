"""A running recording: messages are handed over at once and written by a thread of their own.

What has been taken gets out of this process every `FLUSH_S`, and from there on survives its end by whatever signal. A
second thread has the disk take it (``fdatasync``), so that it survives the loss of power, too: without that, the
kernel may hold it back for half a minute. The threads are two because a slow disk makes ``fdatasync`` wait for as long
as it takes, and neither the writing nor the flushing may wait for that; what they pile up meanwhile waits in memory.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from robovlm_ros.bags.writer import EpisodeWriter
from robovlm_ros.errors import UserError

CAPACITY_BYTES = 256 * 2**20
"""Messages may wait for the disk up to this size [bytes]; more are dropped, and counted."""
FLUSH_S = 0.4
"""What has been taken is flushed, and synced with the disk, this often [s]: with what waits in queues below 1 s."""


class _Message(NamedTuple):
    topic: str
    data: bytes
    receive_ns: int


class _Note(NamedTuple):
    key: str
    value: Any


_Flush, _End = object(), object()


class Recording:
    """Hands raw messages to an `EpisodeWriter`; any thread may call `put` and `note`.

    After an error of the disk the recording takes nothing more, says why through ``failed`` (from a thread of its
    own), and leaves what it wrote.
    """

    def __init__(self, writer: EpisodeWriter, failed: Callable[[str], object]) -> None:
        """The writer's topics are announced already."""
        writer.note("in_order", True)  # messages are written as they come: their order is that of their receipt
        self.writer = writer
        self.received: Counter[str] = Counter()
        """Messages handed over, by topic."""
        self.dropped: Counter[str] = Counter()
        """Messages among them that will never be written, by topic."""
        self.failure: str | None = None
        """Why the recording broke off."""
        self._topics = frozenset(writer.counts)
        self._failed = failed
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._closing, self._flushed = threading.Event(), threading.Event()
        self._descriptor = os.dup(writer.fileno())  # of our own: syncing may end after the file was closed
        self._threads = [
            threading.Thread(target=act, name=f"recording-{act.__name__.strip('_')}", daemon=True)
            for act in (self._write, self._pace, self._sync)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Size of the messages that wait to be written [bytes]."""
        return self._waiting_bytes

    def put(self, topic: str, data: bytes, receive_ns: int) -> None:
        """Take one message and when it was received [ns]; topics that were not announced are ignored, and so is what
        comes after the end.
        """
        if topic not in self._topics:
            return
        with self._lock:
            if self._closing.is_set():
                return
            self.received[topic] += 1
            if self.failure is not None or self._waiting_bytes + len(data) > CAPACITY_BYTES:
                self.dropped[topic] += 1
                return
            self._waiting_bytes += len(data)
            self._queue.put(_Message(topic, data, receive_ns))

    def note(self, key: str, value: Any) -> None:
        """Have the episode's metadata say something, as `EpisodeWriter.note`."""
        self._queue.put(_Note(key, value))

    def counts(self) -> dict[str, dict[str, int]]:
        """Topic → how many messages were received, written and dropped until now."""
        with self._lock:
            return {
                topic: {"received": self.received[topic], "written": written, "dropped": self.dropped[topic]}
                for topic, written in self.writer.counts.items()
            }

    def finish(self) -> Path:
        """Write what waits and complete the episode; UserError with the reason if that fails."""
        self._join()
        if self.failure is None:
            try:
                return self.writer.finish(messages=self.counts())
            except OSError as error:
                self._break_off(error)
        raise UserError(self.failure or "the recording broke off")

    def discard(self) -> None:
        """Remove the episode."""
        self._join()
        self.writer.discard()

    def _join(self) -> None:
        with self._lock:  # what was counted as received stands before the end in the queue
            self._closing.set()
            self._queue.put(_End)
        self._flushed.set()
        for thread in self._threads:
            thread.join()
        os.close(self._descriptor)

    def _pace(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._queue.put(_Flush)

    def _sync(self) -> None:
        while not self._closing.is_set():
            self._flushed.wait()
            self._flushed.clear()
            if self._closing.is_set() or self.failure is not None:
                return  # `finish` syncs what is left
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:  # an allocation that was put off finds the disk full, or the disk is broken
                self._break_off(error)

    def _write(self) -> None:
        item: object = None
        while item is not _End:
            item = self._queue.get()
            if isinstance(item, _Message):
                with self._lock:
                    self._waiting_bytes -= len(item.data)
            try:
                if self.failure is not None:
                    self._drop(item)
                elif isinstance(item, _Message):
                    self.writer.write(*item)
                elif isinstance(item, _Note):
                    self.writer.note(*item)
                else:  # also at the end: completing the file takes a while, and what came is safe meanwhile
                    self.writer.flush()
                    self._flushed.set()
            except Exception as error:  # whatever it is, nothing more can be written, and that must be said
                self._drop(item)
                self._break_off(error)

    def _drop(self, item: object) -> None:
        if isinstance(item, _Message):
            with self._lock:
                self.dropped[item.topic] += 1

    def _break_off(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        writer = self.writer
        with self._lock:
            if self.failure is not None:
                return
            self.failure = f"recording {writer.path.name} broke off: {reason}; what it has is in {writer.partial}"
        writer.abandon()
        self._failed(self.failure)
