"""Figures of a running node: how long things take and how often they happen."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Durations in short; NaN where none was measured."""

    count: int
    """Number of durations ever added."""
    p50_ms: float
    """Median [ms]."""
    p99_ms: float
    """99th percentile [ms]."""
    p999_ms: float
    """99.9th percentile [ms]."""
    worst_ms: float
    """Longest [ms]."""

    def __str__(self) -> str:
        if not self.count:
            return "none yet"
        parts = {"p50": self.p50_ms, "p99": self.p99_ms, "p99.9": self.p999_ms, "worst": self.worst_ms}
        return ", ".join(f"{name} {value:.1f} ms" for name, value in parts.items())


class Durations:
    """The newest durations of one kind, in bounded memory."""

    def __init__(self, keep: int = 10_000) -> None:
        """`keep`: number of newest durations that percentiles are taken over."""
        self._newest: deque[int] = deque(maxlen=keep)
        self._count = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration [ns]."""
        self._newest.append(duration_ns)
        self._count += 1

    def summary(self) -> Summary:
        """Percentiles by linear interpolation between the nearest ranks."""
        if not self._newest:
            nothing = float("nan")
            return Summary(count=0, p50_ms=nothing, p99_ms=nothing, p999_ms=nothing, worst_ms=nothing)
        newest = np.fromiter(self._newest.copy(), np.float64)
        p50, p99, p999, worst = (float(found) for found in np.percentile(newest, (50, 99, 99.9, 100)) / 1e6)
        return Summary(count=self._count, p50_ms=p50, p99_ms=p99, p999_ms=p999, worst_ms=worst)


class Shares:
    """The newest of some shares, in bounded memory; those that are no number are left out."""

    def __init__(self, keep: int = 10_000) -> None:
        """`keep`: number of newest shares that percentiles are taken over."""
        self._newest: deque[float] = deque(maxlen=keep)

    def add(self, share: float) -> None:
        """Count one share, 1 for all."""
        if math.isfinite(share):
            self._newest.append(share)

    def __str__(self) -> str:
        if not self._newest:
            return "none yet"
        p50, p99, worst = np.percentile(np.fromiter(self._newest.copy(), np.float64), (50, 99, 100)) * 100.0
        return f"p50 {p50:.2g} %, p99 {p99:.2g} %, worst {worst:.2g} %"


class Rate:
    """How often something happens, between one reading and the next."""

    def __init__(self, now_ns: int) -> None:
        """`now_ns`: time at which counting begins [ns]."""
        self._since_ns = now_ns
        self._before = 0
        self.count = 0
        """Events ever counted."""

    def add(self) -> None:
        """Count one event."""
        self.count += 1

    def read(self, now_ns: int) -> float:
        """Events per second since the last reading [Hz]; 0 when no time has passed."""
        events, elapsed_ns = self.count - self._before, now_ns - self._since_ns
        self._before, self._since_ns = self.count, now_ns
        return events * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0
