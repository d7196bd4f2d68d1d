"""`benchmark all` gathers what the others write, and goes on behind what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robovlm_ros.cli import benchmark_all
from robovlm_ros.cli.benchmark import PARTS, main


def test_every_benchmark_is_part_of_all() -> None:
    named = {part.__name__.rpartition("_")[2] for part in PARTS} - {"all"}
    assert {arguments[0] for arguments in benchmark_all.PARTS.values()} == named


@pytest.mark.slow  # it starts processes that import torch
def test_what_fails_is_named_and_the_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "broken": ("forward", "--cameras", "0"),
        "forward": ("forward", "--seconds", "0.1", "--no-compile", "--width", "96", "--height", "96"),
    }
    monkeypatch.setattr(benchmark_all, "PARTS", parts)
    result = tmp_path / "all.json"
    assert main(["all", "--parts", "broken", "forward", "--json", str(result)]) == 1
    told = json.loads(result.read_text(encoding="utf-8"))
    assert list(told["parts"]) == ["forward"]
    assert "--cameras at least 1" in told["failed"]["broken"]
    assert told["parts"]["forward"]["speedup"] > 0
    assert told["machine"]["cores"] >= 1
    assert {"python", "torch", "transformers"} <= set(told["versions"])


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--parts", "magic"]) == 1
    assert "--parts: 'magic' is not one of: forward, training" in capsys.readouterr().err
