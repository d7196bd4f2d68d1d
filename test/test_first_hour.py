"""The page of the first hour: its commands run as they stand there, with smaller numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from robovlm_ros.vlm.backbones import FAMILIES
from robovlm_ros.vlm.heads import HEADS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
SMALLER = {
    "--episodes 400": "--episodes 6",
    "--steps 600": "--steps 3",
    "--episodes 20": "--episodes 1",
    "--steps 900 --save-every 100": "--steps 4 --save-every 2",
    "--evaluate-every 300": "--evaluate-every 4 --evaluate-episodes 1",
}


def test_the_page_names_every_family_and_head() -> None:
    named = set(re.findall(r"`([\w-]+)`", PAGE))
    assert set(FAMILIES) <= named
    assert set(HEADS) <= named


@pytest.mark.slow
def test_the_commands_of_the_page_run(domain_id: int, tmp_path: Path) -> None:
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    assert commands.count("\n") >= 7
    for number, smaller in SMALLER.items():
        assert number in commands
        commands = commands.replace(number, smaller)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-exc", commands], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "work" / "policy" / "model.safetensors").is_file()
    assert list((tmp_path / "work" / "token").glob("*.png"))
    longer = tmp_path / "work" / "longer" / "checkpoints"
    assert [path.name for path in sorted(longer.glob("step_*"))] == ["step_2", "step_4"]
    assert (longer / "best" / "evaluation.json").is_file()
    assert (tmp_path / "work" / "together" / "model.safetensors").is_file()
