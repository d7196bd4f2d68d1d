"""Small runs of `finetune` on real bags: what tests of long trainings share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robovlm_ros.options import build
from robovlm_ros.training.finetuning import FinetuneOptions, Trained, finetune
from robovlm_ros.training.reporting import Report

from .makers import small_vlm
from .test_bags import episode_messages, text
from .test_bags import record as record_bag

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, Any] = {
    "cameras": ("static",), "chunk_size": 3, "steps": 7, "batch_size": 4, "warmup_steps": 2, "validation_share": 0.3,
    "state": ("ee.x", "ee.y", "ee.z"), "head": {"type": "mlp", "hidden": [16]}, "device": "cpu",
}  # fmt: skip


def make_base(folder: Path, seed: int = 0) -> Path:
    """A very small vision-language model."""
    model, processor = small_vlm(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_episodes(folder: Path, count: int = 4, steps: int = 4) -> Path:
    """Recorded episodes, of different lengths and instructions."""
    for index in range(count):
        (topic, _, stamp), *rest = episode_messages(steps + index % 2)
        said = text(f"reach the {('red', 'green')[index % 2]} block")
        record_bag(folder / f"episode_{index}", [(topic, said, stamp), *rest])
    return folder


def small_options(**more: Any) -> FinetuneOptions:
    """Options of a run of seconds."""
    return build(FinetuneOptions, {**SMALL, **more}, "options")


def small_run(place: Path, output: str, report: Report | None = None, *, resume: bool = False, **more: Any) -> Trained:
    """Fine-tune the base in ``place`` on its episodes, in this process."""
    evaluate = more.pop("evaluate", None)
    return finetune(
        small_options(**more), place / "episodes", str(place / "vlm"), report or Report("test"), place / output,
        resume=resume, evaluate=evaluate,
    )  # fmt: skip


def weights(trained: Trained) -> dict[str, np.ndarray]:
    """All weights by name."""
    return {name: value.detach().float().numpy().copy() for name, value in trained.policy.state_dict().items()}


def command(*arguments: object, processes: int = 1, **environment: str) -> subprocess.Popen[str]:
    """The command finetune as a process of its own, or as many of torchrun."""
    start = ["-m", "robovlm_ros.cli.finetune"]
    if processes > 1:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *start]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def torchrun(processes: int, program: Path, *arguments: object) -> subprocess.Popen[str]:
    """A program as several processes of this machine."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(program)]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def make_questions(folder: Path) -> Path:
    """Five questions about one image, with answers of different lengths."""
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / "a.png")
    answers = ("yes", "no", "<x03> <y17>", "<x30> <y01>", "yes")
    lines = [
        json.dumps({"image": "a.png", "question": f"is there {n} block ?", "answer": a}) for n, a in enumerate(answers)
    ]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder
