"""Figures of a running node."""

from __future__ import annotations

import math

from robovlm_ros.statistics import Durations, Rate


def test_percentiles_are_taken_over_the_newest_durations() -> None:
    durations = Durations(keep=101)
    assert math.isnan(durations.summary().p50_ms)
    durations.add(10**12)  # pushed out by the 101 that follow
    for milliseconds in range(101):
        durations.add(milliseconds * 1_000_000)
    summary = durations.summary()
    assert (summary.count, summary.p50_ms, summary.p99_ms, summary.worst_ms) == (102, 50.0, 99.0, 100.0)


def test_a_rate_counts_from_one_reading_to_the_next() -> None:
    rate = Rate(0)
    for _ in range(20):
        rate.add()
    assert rate.read(2_000_000_000) == 10.0
    assert rate.read(2_000_000_000) == 0.0
    rate.add()
    assert rate.read(3_000_000_000) == 1.0
    assert rate.count == 21
