"""A running recording: messages are handed over at once and written by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from robovlm_ros.bags.writer import EpisodeWriter
from robovlm_ros.errors import UserError

CAPACITY_BYTES = 256 * 2**20
"""Messages may wait for the disk up to this size [bytes]; more are dropped, and counted."""

_Flush, _End = object(), object()
_Item = tuple[str, bytes, int] | object


class Recording:
    """Hands raw messages to an `EpisodeWriter`; any thread may call `put`.

    After an error of the disk the recording takes nothing more, says why through ``failed`` (from its own thread),
    and leaves what it wrote.
    """

    def __init__(self, writer: EpisodeWriter, failed: Callable[[str], object]) -> None:
        """The writer's topics are announced already."""
        self.writer = writer
        self.received: Counter[str] = Counter()
        """Messages handed over, by topic."""
        self.dropped: Counter[str] = Counter()
        """Messages among them that will never be written, by topic."""
        self.failure: str | None = None
        """Why the recording broke off."""
        self._failed = failed
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
        self._thread.start()

    def put(self, topic: str, data: bytes, receive_ns: int) -> None:
        """Take one message and when it was received [ns]; topics that were not announced are ignored."""
        if topic not in self.writer.counts:
            return
        with self._lock:
            self.received[topic] += 1
            if self.failure is not None or self._waiting_bytes + len(data) > CAPACITY_BYTES:
                self.dropped[topic] += 1
                return
            self._waiting_bytes += len(data)
        self._queue.put((topic, data, receive_ns))

    def flush(self) -> None:
        """Have what was taken until now handed to the operating system."""
        self._queue.put(_Flush)

    def finish(self) -> Path:
        """Write what waits and complete the episode; UserError with the reason if that fails."""
        self._join()
        if self.failure is None:
            try:
                return self.writer.finish()
            except OSError as error:
                self._break_off(error)
        raise UserError(self.failure or "the recording broke off")

    def discard(self) -> None:
        """Remove the episode."""
        self._join()
        self.writer.discard()

    def _join(self) -> None:
        self._queue.put(_End)
        self._thread.join()

    def _write(self) -> None:
        while (item := self._queue.get()) is not _End:
            if self.failure is not None:
                if isinstance(item, tuple):
                    self.dropped[item[0]] += 1
                continue
            try:
                if isinstance(item, tuple):
                    with self._lock:
                        self._waiting_bytes -= len(item[1])
                    self.writer.write(*item)
                else:
                    self.writer.flush()
            except Exception as error:  # whatever it is, nothing more can be written, and that must be said
                if isinstance(item, tuple):
                    self.dropped[item[0]] += 1
                self._break_off(error)

    def _break_off(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        writer = self.writer
        with self._lock:
            self.failure = f"recording {writer.path.name} broke off: {reason}; what it has is in {writer.partial}"
        writer.abandon()
        self._failed(self.failure)
