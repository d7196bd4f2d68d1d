"""The table of strategies: its measure of smoothness, and the script itself."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "strategies.py"


def test_jerk_is_that_of_the_path_and_leaves_out_stretches_with_missing_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)  # as for a script
    jerk = runpy.run_path(str(TOOL))["mean_squared_jerk"]
    time_s = np.arange(20) * 0.02
    points = np.stack([2.0 * time_s**3 / 6, 5.0 * time_s**2, 1.0 - time_s], axis=1)  # jerk 2, 0 and 0 m/s^3
    stamps = np.round(time_s * 1e9).astype(np.int64)
    assert jerk(stamps, points, 0.02) == pytest.approx(4.0)
    broken = np.delete(np.arange(20), [9, 10])
    assert jerk(stamps[broken], points[broken], 0.02) == pytest.approx(4.0)
    assert math.isnan(jerk(stamps[:3], points[:3], 0.02))


@pytest.mark.slow
def test_the_table_has_a_row_for_each_strategy_and_delay(domain_id: int, tmp_path: Path) -> None:
    report, page = tmp_path / "rows.json", tmp_path / "page.md"
    page.write_text("<!-- strategies: begin (tools/strategies.py) -->\n<!-- strategies: end -->\n")
    few = ["--episodes", "1", "--reactions", "1", "--delays-ms", "0", "200", "--strategies", "first", "blend"]
    subprocess.run(
        [sys.executable, str(TOOL), *few, "--json", str(report), "--page", str(page)], check=True, timeout=600
    )
    rows = json.loads(report.read_text())["rows"]
    assert [(row["strategy"], row["delay_ms"]) for row in rows] == [
        ("first", 0), ("first", 200), ("blend", 0), ("blend", 200)
    ]  # fmt: skip
    assert all(row["commanded_jerk"] > 0 and row["reactions"] == 1 for row in rows)
    assert page.read_text().count("| first |") == 2
