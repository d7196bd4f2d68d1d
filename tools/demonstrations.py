"""Measure how many demonstrations a new task takes: docs/demonstrations.md, its table and its plot.

``python tools/demonstrations.py --work DIR`` records demonstrations of each task, then fine-tunes the shipped
vision-language model on the first 50, 100, 200 and 400 of each task alone, and evaluates what came out, all through
the ordinary commands; what it measured goes to docs/demonstrations/. Runs that are there already are kept, so it can
be stopped and goes on. ``--report`` only writes the page and the plot from the results, and ``--check`` says whether
the page is up to date (a test runs this).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import ROOT, command, fill

from robovlm_ros.bags.reader import list_episodes, read_episode
from robovlm_ros.cli.evaluate import wilson
from robovlm_ros.sim.tasks import choose_tasks

PAGE = ROOT / "docs" / "demonstrations.md"
RESULTS, PLOT = ROOT / "docs" / "demonstrations" / "results.json", ROOT / "docs" / "demonstrations" / "results.png"
TASKS = {
    "reach": ("reach the block", "#4477aa"),
    "push": ("push the block left or right", "#228833"),
    "lift": ("lift the block", "#cc6677"),
    "put": ("put the block on the pad", "#aa7722"),
}
"""What is studied: task → (what the page calls it, its colour in the plot)."""
CONFIG = "tabletop_tasks"
NOISE_M = 0.006
"""Noise on the expert's commands, which shows how to recover [m]."""
RECOVERIES = {"push": 0.4, "lift": 0.4, "put": 0.4}
"""Share of a task's demonstrations that begin after a miss; none of reaching, which has no way to miss for good."""
SPARE = 1.03
"""So many times as many demonstrations are recorded: the expert fails now and then when it begins after a miss."""
LEAST_STEPS, STEPS_EACH = 500, 5
"""Optimiser steps of a run: so many for each demonstration, and never fewer than these."""
SCENES = 200
"""Evaluation seed of training seed 0: scenes that nothing else of this project has seen."""


def demonstrations(options: argparse.Namespace, task: str, count: int) -> Path:
    """A folder with the first ``count`` demonstrations of a task that succeeded: no other is learned from."""
    whole = options.episodes / task if options.episodes else options.work / "episodes" / task
    if not whole.is_dir():
        command(
            "collect", "--task", task, "--output", whole, "--noise", NOISE_M, "--recoveries", RECOVERIES.get(task, 0.0),
            "--episodes", round(SPARE * max(options.sizes)), "--workers", 2,
        )  # fmt: skip
    found = [episode for episode in list_episodes(whole) if read_episode(episode).outcome == "success"]
    if len(found) < count:
        raise SystemExit(f"error: {whole} holds {len(found)} demonstrations that succeeded, not {count}")
    part = options.work / "parts" / f"{task}_{count}"
    part.mkdir(parents=True, exist_ok=True)
    for episode in found[:count]:
        link = part / episode.name
        if not link.exists():
            link.symlink_to(episode.resolve(), target_is_directory=True)
    return part


def run(options: argparse.Namespace, task: str, count: int, seed: int) -> dict[str, Any]:
    """Fine-tune on so many demonstrations of one task, and evaluate."""
    folder = options.work / "policies" / f"{task}_{count}_{seed}"
    command(
        "finetune", "--config", CONFIG, "--base", options.base, "--episodes", demonstrations(options, task, count),
        "--output", folder, "--steps", max(LEAST_STEPS, STEPS_EACH * count), "--seed", seed, "--validation-share", 0,
    )  # fmt: skip
    result = folder / "evaluation.json"
    each = options.trials // len(choose_tasks(task))
    command(
        "evaluate", "--checkpoint", folder, "--task", task, "--episodes", each, "--seed", SCENES + seed,
        "--lockstep", "--no-control", "--json", result,
    )  # fmt: skip
    measured = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    evaluated = json.loads(result.read_text(encoding="utf-8"))
    return {
        "task": task,
        "seed": seed,
        "demonstrations": measured["episodes"],
        "observations": measured["observations"],
        "steps": measured["steps"],
        "train_seconds": measured["train_seconds"],
        "trials": evaluated["episodes"],
        "successes": round(evaluated["success_rate"] * evaluated["episodes"]),
        "wrong_targets": round(evaluated["wrong_target_rate"] * evaluated["episodes"]),
        "tasks": evaluated["tasks"],
    }


def results() -> list[dict[str, Any]]:
    """What was measured until now."""
    return list(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else []


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and number of demonstrations, its seeds pooled."""
    rows = []
    for task in TASKS:
        for count in sorted({run["demonstrations"] for run in runs if run["task"] == task}):
            own = [run for run in runs if (run["task"], run["demonstrations"]) == (task, count)]
            trials, successes = sum(r["trials"] for r in own), sum(r["successes"] for r in own)
            rows.append(
                {
                    "task": task,
                    "demonstrations": count,
                    "observations": round(float(np.mean([r["observations"] for r in own]))),
                    "seeds": len(own),
                    "trials": trials,
                    "rate": successes / trials,
                    "interval": wilson(successes, trials),
                    "wrong": sum(r["wrong_targets"] for r in own) / trials,
                    "steps": own[0]["steps"],
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| task | demonstrations | observations | steps | success | 95 % interval | wrong target |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        lines.append(
            f"| {TASKS[row['task']][0]} | {row['demonstrations']} | {row['observations']:,} | {row['steps']:,} "
            f"| {row['rate']:.0%} of {row['trials']} | {low:.0%} to {high:.0%} | {row['wrong']:.0%} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Success against the number of demonstrations, with intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4))
    for place, (task, (title, colour)) in enumerate(TASKS.items()):
        own = [row for row in rows if row["task"] == task]
        if not own:
            continue
        count = np.array([row["demonstrations"] for row in own]) * (1 + 0.02 * (place - 1.5))  # (n,) side by side
        rate = 100 * np.array([row["rate"] for row in own])  # (n,)
        bounds = 100 * np.array([row["interval"] for row in own])  # (n, 2)
        spread = np.abs(bounds.T - rate)  # (2, n)
        axis.errorbar(count, rate, yerr=spread, color=colour, marker="o", ms=5, capsize=3, lw=1.5, label=title)
    sizes = sorted({row["demonstrations"] for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_ylim(-3, 103)
    axis.set_xlabel("demonstrations of the task")
    axis.set_ylabel("success [%], 95 % interval")
    axis.axhline(90, color="#999999", lw=0.8, ls=":")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def report(check: bool) -> int:
    """Write page and plot; with ``check``, 1 when the page is out of date."""
    rows = summarise(results())
    status = fill(PAGE, {"results": table(rows)}, check)
    if not check:
        plot(rows, PLOT)
    return status


def main() -> int:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "demonstrations", help="folder for episodes and policies"
    )
    parser.add_argument("--episodes", type=Path, help="folder with a folder of episodes for each task; default: record")
    parser.add_argument("--base", type=Path, default=ROOT / "checkpoints" / "tabletop_tasks_vlm", help="the VLM")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 400], help="default: 50 100 200 400")
    parser.add_argument("--trials", type=int, default=60, help="episodes of each evaluation (default: 60)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="training seeds (default: 0)")
    parser.add_argument("--report", action="store_true", help="only write the page and the plot")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is out of date")
    options = parser.parse_args()
    if options.report or options.check:
        return report(options.check)
    options.work, options.base = options.work.resolve(), options.base.resolve()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for count in sorted(options.sizes, reverse=True):
            for task in options.tasks:
                if not any((r["task"], r["demonstrations"], r["seed"]) == (task, count, seed) for r in results()):
                    found = run(options, task, count, seed)
                    RESULTS.write_text(json.dumps([*results(), found], indent=1) + "\n", encoding="utf-8")
    return report(False)


if __name__ == "__main__":
    sys.exit(main())
