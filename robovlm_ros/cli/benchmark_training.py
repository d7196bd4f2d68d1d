"""``benchmark training``: how many images fine-tuning learns from in a second, against a plain loop."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robovlm_ros.cli.command import Commands, print_rows, write_json
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.cli.synthetic import sized, write_episodes
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    import torch

    from robovlm_ros.training.finetuning import FinetuneOptions

MADE, LENGTH = 4, 96
"""Episodes that are made, and the observations of each."""
LEAST = 3
"""Rounds at least."""
VARIANTS: dict[str, dict[str, Any]] = {
    "fused": {"fused": True},
    "bfloat16": {"precision": "bfloat16"},
    "checkpointing": {"gradient_checkpointing": True},
}
"""Name → options of finetune that it changes."""


def add_command(commands: Commands) -> None:
    """Add ``training`` to the things that `benchmark` measures."""
    training = commands.add_parser(
        "training",
        help="fine-tuning against a plain loop without what makes it fast: images per second, memory",
        description="Trains a policy with finetune's own loop, in turns with a plain one (images prepared whenever\n"
        "they are looked at and sent through the whole model, attention written out, all hidden states and scores of\n"
        "all words, AdamW matrix after matrix) and with variants of the first. Images are those that a step looks at;\n"
        "memory is what a few steps hold at most beside what was there before. Takes the options of finetune, on\n"
        "episodes that are made in a temporary folder with the tabletop's contract; steps is the length of a turn.",
    )
    training.add_argument("--base", help="vision-language model: a folder, a hub name or, with random weights, a shape")
    training.add_argument("--seconds", type=float, default=60.0, help="duration of the measurement [s] (default: 60)")
    training.add_argument("--variants", nargs="*", default=list(VARIANTS), help="of " + ", ".join(VARIANTS))
    training.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    training.set_defaults(command=_training)
    training.late = lambda: _add_finetune_options(training)  # they need torch, which takes seconds


def _add_finetune_options(arguments: argparse.ArgumentParser) -> None:
    from robovlm_ros.training.finetuning import FinetuneOptions

    add_options(arguments, FinetuneOptions, "training")


def _training(parsed: argparse.Namespace) -> int:
    from robovlm_ros.training.finetuning import FinetuneOptions

    unknown = [name for name in parsed.variants if name not in VARIANTS]
    if unknown:
        raise UserError(f"--variants: '{unknown[0]}' is not one of: {', '.join(VARIANTS)}")
    if not parsed.seconds > 0:
        raise UserError(f"--seconds must be above 0, not {parsed.seconds:g}")
    if parsed.config is None:
        parsed.config = "tabletop"
    turn = 30 if parsed.steps is None else int(parsed.steps)
    options = read_options(parsed, FinetuneOptions, "training")
    options = dataclasses.replace(
        options, steps=turn, warmup_steps=0, validation_share=0.0, save_every=0, evaluate_every=0, save="merged"
    )
    result = _measure(options, parsed.base, parsed.seconds, parsed.variants)
    rows = [["", "images/s", "of plain", "memory of a turn"]]
    for name, row in result["ways"].items():
        memory = "?" if row["memory_mb"] is None else f"{row['memory_mb']:.0f} MB"
        rows.append([name, f"{row['images_per_second']:.1f}", f"{row['ratio']:.2f}", memory])
    print_rows(rows, left={0})
    write_json(parsed.json, result)
    return 0


def _measure(options: FinetuneOptions, base: str | None, seconds: float, variants: list[str]) -> dict[str, Any]:
    import torch

    from robovlm_ros.cli.machine import Peak
    from robovlm_ros.cli.plain_training import PlainTraining
    from robovlm_ros.runtime.plain import twin
    from robovlm_ros.training.finetuning import configure, feature_encoder, set_statistics, train
    from robovlm_ros.training.reporting import Report
    from robovlm_ros.training.switches import apply_switches
    from robovlm_ros.training.windows import open_episodes, read_recordings
    from robovlm_ros.vlm.checkpoint import resolve_device
    from robovlm_ros.vlm.policy import ActionTokenPolicy
    from robovlm_ros.vlm.processor import ActionTokenProcessor

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = resolve_device(options.device)
    vlm, words, side = _backbone(options, base, device)
    with tempfile.TemporaryDirectory(prefix="benchmark_training_") as name:
        write_episodes(Path(name), sized(Contract.load("tabletop"), *side), MADE, LENGTH)
        episodes = open_episodes([Path(name)])
        processor = ActionTokenProcessor(configure(options, vlm.config, episodes[0].contract, words), words)
        policy = ActionTokenPolicy.from_vlm(vlm.to(device), processor.config)
        apply_switches(policy, options, options.seed)
        raw = read_recordings(episodes, processor, options.chunk_size, None, raw=True)
        encode = feature_encoder(policy, options, device)
        own = raw if options.augments else read_recordings(episodes, processor, options.chunk_size, encode)
    if sum(map(len, raw)) < options.batch_size:
        raise UserError(f"batch_size must be at most {sum(map(len, raw))} here, not {options.batch_size}")
    plain = PlainTraining(options, policy, set_statistics(options, processor, raw), raw)

    def ours(**changes: Any) -> Callable[[], Any]:
        changed = dataclasses.replace(options, device=str(device), **changes)
        learns = twin(policy)  # what one way sets on its modules does not reach the others

        def run() -> Any:
            with contextlib.redirect_stdout(io.StringIO()):
                return train(changed, learns, processor, own, Report("turn", every=options.steps))

        return run

    ways: dict[str, Callable[[], Any]] = {"plain": lambda: plain.run(options.steps), "finetune": ours()}
    ways |= {name: ours(**VARIANTS[name]) for name in variants}
    images = options.steps * options.batch_size * options.window * len(processor.cameras)
    memory: dict[str, float | None] = {}
    for name, run in ways.items():  # once each, before anything counts
        torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None
        peak = Peak()
        run()
        memory[name] = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else peak.megabytes()
    taken: dict[str, list[float]] = {name: [] for name in ways}  # [s]
    end = time.monotonic() + seconds
    while len(taken["plain"]) < LEAST or time.monotonic() < end:
        for name, run in ways.items():
            begin = time.monotonic()
            run()
            _wait(device)
            taken[name].append(time.monotonic() - begin)
    ratios = {name: [a / b for a, b in zip(taken["plain"], own_s, strict=True)] for name, own_s in taken.items()}
    found = {
        name: {
            "images_per_second": round(images / statistics.median(taken[name]), 1),
            "ratio": round(statistics.median(ratios[name]), 3),
            "memory_mb": memory[name],
            "samples_s": [round(value, 4) for value in taken[name]],
        }
        for name in ways
    }
    return {
        "ratio": found["finetune"]["ratio"],
        "images_per_second": found["finetune"]["images_per_second"],
        "plain_images_per_second": found["plain"]["images_per_second"],
        "base": Path(base).name if base else "tabletop_vlm",
        "features_kept": encode is not None,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "image": list(side),
        "threads": options.threads,
        "cores": os.cpu_count(),
        "device": device.type,
        "ways": found,
    }


def _backbone(options: FinetuneOptions, base: str | None, device: torch.device) -> tuple[Any, Any, tuple[int, int]]:
    """Model, processor and the size of the images [px] that it is shown."""
    import torch

    from robovlm_ros.vlm.checkpoint import load_vlm
    from robovlm_ros.vlm.shapes import SHAPES, make_vlm

    if base in SHAPES:
        dtype = torch.float32 if options.dtype == "auto" else getattr(torch, options.dtype)
        return *make_vlm(base, dtype, device, options.seed), (640, 480)
    found = load_vlm(base or str(share_directory() / "checkpoints" / "tabletop_vlm"), options.dtype, options.attention)
    return *found, (96, 96) if base is None else (640, 480)


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
