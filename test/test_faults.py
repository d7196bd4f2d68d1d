"""The table of faults: the real node, broken in every way that the page names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "faults.py"


@pytest.mark.slow
def test_every_fault_reaches_its_safe_state_in_time_with_its_message(domain_id: int, tmp_path: Path) -> None:
    report, page = tmp_path / "faults.json", tmp_path / "page.md"
    page.write_text("before\n<!-- faults: begin (tools/faults.py) -->\n<!-- faults: end -->\nafter\n")
    done = subprocess.run(
        [sys.executable, str(TOOL), "--json", str(report), "--page", str(page)],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == 16
    assert all(row["passed"] and row["said"] for row in rows)
    assert page.read_text().count("| passed |") == len(rows)
