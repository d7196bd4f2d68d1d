"""Measure what is learned when actions come from a learnable token: docs/what_is_learned.md, its table and its plot.

``python tools/what_is_learned.py --work DIR`` records demonstrations, then fine-tunes and evaluates each variant with
each seed through the ordinary commands, and looks into the shipped policy; what it measured goes to
docs/what_is_learned/. Runs that are there already are kept, so it can be stopped and goes on. ``--report`` only writes
the page and the plot from the results, and ``--check`` says whether the page is up to date (a test runs this).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pages import ROOT, command, fill

from robovlm_ros.cli.evaluate import wilson

PAGE = ROOT / "docs" / "what_is_learned.md"
FOLDER = ROOT / "docs" / "what_is_learned"
RESULTS, PLOT = FOLDER / "results.json", FOLDER / "results.png"
TOKEN, GAZE = FOLDER / "token.json", FOLDER / "gaze.json"
SHIPPED = ROOT / "checkpoints" / "tabletop"
EPISODES = range(10, 15)
"""Of the recorded episodes, those in which the shipped policy's token is looked at; pictures are of the last one."""
SWAPS = ("go to the red block", "go to the yellow block")
"""Other instructions for the pictured episode."""


@dataclass(frozen=True)
class Variant:
    """One way to fine-tune."""

    title: str
    flags: dict[str, str] = field(default_factory=dict)
    """Options of `finetune` that differ from config/training/tabletop.yaml."""
    pretrained: bool = True
    """Whether the vision-language model has learned to see and to read before."""


VARIANTS = {
    "full": Variant("text tower trains"),
    "full_vision": Variant("text tower and vision tower train", {"train-vision": "true"}),
    "last_2": Variant("last 2 of 3 text layers train", {"train-decoder-layers": "2"}),
    "last_1": Variant("last text layer trains", {"train-decoder-layers": "1"}),
    "lora": Variant("adapters train (LoRA, rank 8)", {"lora-rank": "8"}),
    "frozen": Variant("VLM frozen: token and head train", {"freeze-backbone": "true"}),
    "frozen_zero": Variant(
        "VLM frozen, token frozen at zero: head trains", {"freeze-backbone": "true", "freeze-action-token": "true"}
    ),
    "full_zero": Variant("text tower trains, token frozen at zero", {"freeze-action-token": "true"}),
    "scratch": Variant("no VLM pre-training, everything trains", {"train-vision": "true"}, pretrained=False),
}


def untrained(folder: Path, seed: int) -> Path:
    """A vision-language model of the same size that has learned nothing."""
    from robovlm_ros.vlm.checkpoint import save_vlm
    from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

    processor = build_processor(TinyVLMConfig())
    return save_vlm(folder, build_model(TinyVLMConfig(), processor, seed), processor)


def movement(base: Path, policy: Path) -> dict[str, float]:
    """How far fine-tuning moved things: norm of the action token, and relative change of the two towers' weights."""
    from safetensors.numpy import load_file

    before, after = load_file(base / "model.safetensors"), load_file(policy / "model.safetensors")
    moved = {"token_norm": float(np.linalg.norm(after["action_token"], axis=1).mean())}
    for tower in ("text_model", "vision_model"):
        names = [name for name in before if f"{tower}." in name]
        change = sum(float(np.square(after[f"vlm.{name}"] - before[name]).sum()) for name in names)
        moved[tower] = (change / sum(float(np.square(before[name]).sum()) for name in names)) ** 0.5
    return moved


def run(options: argparse.Namespace, name: str, seed: int, episodes: Path) -> dict[str, Any]:
    """Fine-tune and evaluate one variant."""
    variant = VARIANTS[name]
    folder = options.work / f"{name}_{seed}"
    base = options.base if variant.pretrained else untrained(options.work / f"untrained_{seed}", seed)
    flags = [part for key, value in variant.flags.items() for part in (f"--{key}", value)]
    command(
        "finetune", "--config", "tabletop", "--base", base, "--episodes", episodes, "--output", folder,
        "--steps", options.steps, "--seed", seed, *flags,
    )  # fmt: skip
    result = folder / "evaluation.json"
    command(
        "evaluate", "--checkpoint", folder, "--episodes", options.trials, "--seed", 100 + seed, "--lockstep",
        "--no-control", "--json", result,
    )  # fmt: skip
    measured = json.loads((folder / "measured.json").read_text())
    evaluated = json.loads(result.read_text())
    return {
        "variant": name,
        "seed": seed,
        "steps": options.steps,
        "demonstrations": measured["episodes"],
        "trained": sum(row["trained"] for row in measured["trainable"]),
        "parameters": sum(row["parameters"] for row in measured["trainable"]),
        "error_m": measured["validation_error"],
        "trials": evaluated["episodes"],
        "success_rate": evaluated["success_rate"],
        "wrong_target_rate": evaluated["wrong_target_rate"],
        "train_seconds": measured["train_seconds"],
        **movement(base, folder),
    }


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant, its seeds pooled."""
    rows = []
    for name, variant in VARIANTS.items():
        own = [run for run in runs if run["variant"] == name]
        if not own:
            continue
        successes, trials = sum(round(r["success_rate"] * r["trials"]) for r in own), sum(r["trials"] for r in own)
        rows.append(
            {
                "title": variant.title,
                "runs": own,
                "trained": own[0]["trained"],
                "share": own[0]["trained"] / own[0]["parameters"],
                "success": successes / trials,
                "interval": wilson(successes, trials),
                "trials": trials,
                "wrong": float(np.average([r["wrong_target_rate"] for r in own], weights=[r["trials"] for r in own])),
                "error": [r["error_m"] for r in own],
                **{key: float(np.mean([r[key] for r in own])) for key in ("token_norm", "text_model", "vision_model")},
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| what trains | parameters that train | seeds | success within 4 cm | 95 % interval | wrong block "
        "| error of held-out actions [mm] | norm of the token | change of text / vision tower |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        error = np.array(row["error"]) * 1e3
        lines.append(
            f"| {row['title']} | {row['trained']:,} ({row['share']:.1%}) | {len(row['runs'])} | {row['success']:.0%} "
            f"of {row['trials']} | {low:.0%} to {high:.0%} | {row['wrong']:.0%} "
            f"| {error.mean():.1f} ({error.min():.1f} to {error.max():.1f}) | {row['token_norm']:.2f} "
            f"| {row['text_model']:.1%} / {row['vision_model']:.1%} |"
        )
    return "\n".join(lines)


def look(options: argparse.Namespace, episodes: Path) -> None:
    """What the shipped policy's action token reads, and what its actions depend on."""
    names = [episodes / f"episode_{index:05d}" for index in EPISODES]
    found = options.work / "token.json"
    command("inspect", "token", SHIPPED, "--episode", *names, "--json", found)
    swaps = [part for text in SWAPS for part in ("--swap", text)]
    pictures = ("--frames", 2, "--film", "none", "--occlusion", 8, "--no-ablation", "--output", options.work / "look")
    command("inspect", "token", SHIPPED, "--episode", names[-1], *swaps, *pictures)
    for source, target in (("instructions", "attention"), ("occlusion", "occlusion")):
        shutil.copyfile(options.work / "look" / f"{names[-1].name}_{source}.png", FOLDER / f"{target}.png")
    token = json.loads(found.read_text(encoding="utf-8"))
    token["checkpoint"] = SHIPPED.name
    for one in token["attention"]:  # names, for paths are this machine's; and no more than the page shows
        one["episode"] = Path(one["episode"]).name
        one["views"] = {name: {key: view[key] for key in ("shares", "words")} for name, view in one["views"].items()}
    TOKEN.write_text(json.dumps(token, indent=1) + "\n", encoding="utf-8")
    gaze = [sys.executable, "tools/token_gaze.py", "--checkpoint", SHIPPED.relative_to(ROOT), "--json", GAZE]
    subprocess.run(list(map(str, gaze)), check=True, cwd=ROOT)


def attention_table(token: dict[str, Any], gaze: dict[str, Any]) -> str:
    """Markdown: where the token's attention goes, layer by layer."""
    looks = token["attention"]
    lines = [
        "| view | image | words | state token | itself | words read most | brightest place is the named block |",
        "|---|---|---|---|---|---|---|",
    ]
    for view in looks[0]["views"]:
        shares = {
            part: float(np.mean([look["views"][view]["shares"][part] for look in looks]))
            for part in ("images", "words", "state token", "action tokens")
        }
        words = {word: 0.0 for look in looks for word in look["views"][view]["words"]}
        for word in words:
            words[word] = float(np.mean([look["views"][view]["words"].get(word, 0.0) for look in looks]))
        most = sorted(words.items(), key=lambda item: -item[1])[:2]
        hits = gaze["views"][view]
        lines.append(
            f"| {view} | {' | '.join(f'{share:.0%}' for share in shares.values())} "
            f"| {', '.join(f'`{word}` {share:.0%}' for word, share in most if share >= 0.01)} "
            f"| {hits['rate']:.0%} of {hits['looks']} |"
        )
    return "\n".join(lines)


def ablation_table(token: dict[str, Any]) -> str:
    """Markdown: what the shipped policy's actions depend on."""
    lines = ["| what is changed | mean change of actions | largest | error |", "|---|---|---|---|"]
    lines += [
        f"| {e['name']} | {e['change_share']:.2f} | {e['largest_share']:.2f} | {e['error_share']:.2f} |"
        for e in token["ablation"]["effects"]
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Success with intervals and each seed's rate; error beside it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(10, 0.42 * len(rows) + 1.2), sharey=True, gridspec_kw={"width_ratios": [3, 2]}
    )
    for place, row in enumerate(rows):
        rate, (low, high) = row["success"], row["interval"]
        left.barh(place, 100 * rate, color="#4477aa", height=0.6, alpha=0.6)
        left.errorbar(
            100 * rate,
            place,
            xerr=[[max(0.0, 100 * (rate - low))], [max(0.0, 100 * (high - rate))]],
            color="black",
            capsize=3,
            lw=1,
        )
        seeds = [100 * r["success_rate"] for r in row["runs"]]
        left.plot(seeds, [place + 0.18] * len(seeds), "o", color="#223355", ms=4, clip_on=False)
        error = np.array(row["error"]) * 1e3
        right.barh(place, error.mean(), color="#cc6677", height=0.6, alpha=0.6)
        right.plot(error, [place + 0.18] * len(error), "o", color="#662233", ms=4)
    left.set_yticks(range(len(rows)), [row["title"] for row in rows])
    left.invert_yaxis()
    left.set_xlim(0, 100)
    left.set_xlabel("success within 4 cm [%], 95 % interval; dots: seeds")
    right.set_xlabel("error of held-out actions [mm]")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def report(check: bool) -> int:
    """Write page and plot; with ``check``, 1 when the page is out of date."""
    rows = summarise(json.loads(RESULTS.read_text(encoding="utf-8")))
    token, gaze = (json.loads(path.read_text(encoding="utf-8")) for path in (TOKEN, GAZE))
    parts = {"results": table(rows), "attention": attention_table(token, gaze), "ablation": ablation_table(token)}
    status = fill(PAGE, parts, check)
    if not check:
        plot(rows, PLOT)
    return status


def main() -> int:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "study", help="folder for episodes and policies")
    parser.add_argument("--base", type=Path, default=ROOT / "checkpoints" / "tabletop_vlm", help="pre-trained VLM")
    parser.add_argument("--demonstrations", type=int, default=400, help="episodes to record (default: 400)")
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps of each run (default: 600)")
    parser.add_argument("--trials", type=int, default=50, help="episodes of each evaluation (default: 50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="training seeds (default: 1 2 3)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--report", action="store_true", help="only write the page and the plot")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is out of date")
    options = parser.parse_args()
    if options.report or options.check:
        return report(options.check)
    options.work, options.base = options.work.resolve(), options.base.resolve()
    episodes = options.work / f"episodes_{options.demonstrations}"
    if not episodes.is_dir():
        command("collect", "--output", episodes, "--episodes", options.demonstrations)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    runs = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    for seed in options.seeds:
        for name in options.variants:
            if not any(run["variant"] == name and run["seed"] == seed for run in runs):
                runs.append(run(options, name, seed, episodes))
                RESULTS.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    look(options, episodes)
    return report(False)


if __name__ == "__main__":
    sys.exit(main())
