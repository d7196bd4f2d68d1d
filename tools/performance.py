"""Write docs/performance.md from measurements: no figure in it is typed by hand.

``python tools/performance.py --measure`` runs ``benchmark all`` and the control steps of large backbones, one after the
other, and keeps what they wrote in docs/performance/ (half an hour on two cores; nothing else should run). ``--only
all`` or ``--only steps`` runs one of them. Without it page and plot are written from the files, and ``--check`` says
whether the page is up to date (a test runs this).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pages import ROOT, command, fill

from robovlm_ros.cli.forward_report import plot, table

PAGE, FOLDER = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"
PLOT = FOLDER / "steps.png"
STEPS: dict[str, tuple[str, ...]] = {
    "smolvlm2": ("--backbone", "smolvlm2-256m", "smolvlm2-500m", "--seconds", "60"),
    "heads": (
        "--head", "mlp", "flow", "lstm", "--history", "one_step", "policy_head", "interleaved", "--cameras", "1", "2",
        "--seconds", "10", "--no-compile",
    ),
    "large": (
        "--backbone", "kosmos-2", "paligemma-3b-224", "--dtype", "bfloat16", "--cameras", "1", "2", "--seconds", "90",
        "--no-compile",
    ),
}  # fmt: skip
"""Name of the file → arguments of `benchmark forward`."""
MISSING = "Not measured yet."
PICTURE = "![Stages of a step](performance/steps.png)"


def measure(only: str | None) -> None:
    """Run the benchmarks and keep what they wrote."""
    FOLDER.mkdir(exist_ok=True)
    jobs: dict[str, tuple[str, ...]] = {"all": ("all",)} if only != "steps" else {}
    if only != "all":
        jobs |= {name: ("forward", *arguments) for name, arguments in STEPS.items()}
    with tempfile.TemporaryDirectory(prefix="performance_") as name:
        for job, arguments in jobs.items():
            result = Path(name) / f"{job}.json"
            try:
                command("benchmark", *arguments, "--json", result)
            except subprocess.CalledProcessError:
                if not result.exists():  # a part of all may fail: the others count
                    raise
            keep(json.loads(result.read_text(encoding="utf-8")), FOLDER / f"{job}.json")


def keep(values: dict[str, Any], path: Path) -> None:
    """As JSON with a line for each list of numbers: samples are many."""
    text = json.dumps(values, indent=1)
    flat = re.sub(r"\[[-\d.,\se+]*\]", lambda found: " ".join(found[0].split()), text)
    path.write_text(flat + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """What was measured; empty where it was not."""
    path = FOLDER / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def machine(everything: dict[str, Any]) -> str:
    """What `benchmark all` ran on, and how busy that was."""
    found, versions = everything["machine"], everything["versions"]
    gpu = found["gpu"] or "no GPU"
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "robovlm_ros")
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']:g} GB, {gpu}; {named}. `benchmark all` took "
        f"{everything['seconds']:.0f} s; the load of the last minute before a part was "
        f"{max(everything['load'].values()):g} at most."
    )


def steps(names: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The rows of control steps in these files, and their tables."""
    rows = [row for name in names for row in read(name).get("rows", [])]
    return rows, table(rows) if rows else MISSING


def training(found: dict[str, Any]) -> str:
    """Table of fine-tuning's loop and its variants."""
    lines = ["| loop | images per second | times the plain one | memory of a turn |", "|---|---|---|---|"]
    for name, row in found["ways"].items():
        memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f} MB"
        lines.append(f"| {name} | {row['images_per_second']:.0f} | {row['ratio']:.2f} | {memory} |")
    what = f"{found['steps']} steps of {found['batch_size']} images a turn, {found['threads']} thread"
    return "\n".join([*lines, "", f"({found['base']}, {what}, {found['device']})"])


def transport(found: dict[str, Any]) -> str:
    """Table of topics between two processes."""
    lines = ["| type | Hz | sent | received | p50 | p99 | processor | copies, and decoded |", "|---|" + "---|" * 7]
    for row in found["rows"]:
        copies = "" if row["copies"] is None else f"{row['copies']:.2f}, {row['copies_decoded']:.2f}"
        lines.append(
            f"| `{row['type']}` | {row['hz']:g} | {row['sent']} | {row['received']} | {row['p50_ms']:.2f} ms "
            f"| {row['p99_ms']:.2f} ms | {row['cpu_percent']:.0f} % | {copies} |"
        )
    return "\n".join(lines)


def others(parts: dict[str, Any], failed: dict[str, str]) -> str:
    """A line for each of the other benchmarks."""
    lines = ["| benchmark | figure |", "|---|---|"]
    if "control" in parts:
        row = parts["control"]
        lines.append(
            f"| control | camera stamp to command p50 {row['latency_p50_ms']:.1f} ms, p99 {row['latency_p99_ms']:.1f} "
            f"ms; inference p50 {row['inference_p50_ms']:.1f} ms, p99 {row['inference_p99_ms']:.1f} ms; commands "
            f"at {row['rate']:g} Hz: jitter p99 {row['jitter_p99_ms']:.2f} ms, {row['missed_periods']} periods missed |"
        )
    if "record" in parts:
        row = parts["record"]
        lines.append(f"| record | {row['dropped']} of {row['sent']} messages lost at {row['mb_per_s']:.0f} MB/s |")
    if "data" in parts:
        row = parts["data"]
        lines.append(
            f"| data | {row['observations_per_second']:.0f} observations per second from episodes, {row['ratio']:.3f} "
            "of the same from memory |"
        )
    if "convert" in parts:
        times = parts["convert"]["times_real_time"]
        lines.append(f"| convert | {', '.join(f'{way} {value:.0f}' for way, value in times.items())} times real time |")
    lines += [f"| {name} | failed: {reason} |" for name, reason in failed.items()]
    return "\n".join(lines)


def report(check: bool) -> int:
    """Write page and plot; with ``check``, 1 when the page is out of date."""
    everything = read("all")
    parts = everything.get("parts", {})
    shipped = parts.get("forward", {}).get("rows", [])
    large, large_table = steps(["smolvlm2", "large"])
    _, heads_table = steps(["heads"])
    said = {
        "machine": machine(everything) if everything else MISSING,
        "shipped": table(shipped) if shipped else MISSING,
        "large": f"{large_table}\n\n{PICTURE}" if large else large_table,
        "heads": heads_table,
        "training": training(parts["training"]) if "training" in parts else MISSING,
        "transport": transport(parts["transport"]) if "transport" in parts else MISSING,
        "others": others(parts, everything["failed"]) if everything else MISSING,
    }
    status = fill(PAGE, said, check)
    if not check and (shipped or large):
        plot([*shipped, *large], PLOT)
    return status


def main() -> int:
    """Measure if asked for, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the benchmarks before")
    parser.add_argument("--only", choices=("all", "steps"), help="with --measure: one of the two")
    parser.add_argument("--report", action="store_true", help="only write the page and the plot (the default)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is out of date")
    options = parser.parse_args()
    if options.measure:
        measure(options.only)
    return report(options.check)


if __name__ == "__main__":
    sys.exit(main())
