"""A full-size model on an ordinary machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "benchmark_memory.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_policy_of_3_billion_parameters_is_made_loaded_and_acts_within_16_gb(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 15e9:
        pytest.skip("needs 15 GB of disk")
    command = [sys.executable, str(TOOL), "--directory", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    assert subprocess.run(command, check=False).returncode == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["write"]["parameters"] > 2.9e9
    assert figures["act"]["dtype"] == "torch.bfloat16"
    assert 1 < figures["peak_gb"] < 16
