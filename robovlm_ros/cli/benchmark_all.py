"""``benchmark all``: every benchmark in a short form, one after the other, into one file."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from robovlm_ros.cli.command import Commands, HelpFormatter, write_json
from robovlm_ros.cli.machine import machine, versions
from robovlm_ros.errors import UserError

PARTS: dict[str, tuple[str, ...]] = {
    "forward": ("forward", "--policy", "tabletop", "--seconds", "20"),
    "training": (
        "training",
        "--config",
        "tabletop",
        "--steps",
        "40",
        "--seconds",
        "20",
        "--variants",
        "fused",
        "bfloat16",
    ),
    "transport": ("transport", "--seconds", "5"),
    "control": ("control", "--seconds", "20"),
    "record": ("record", "--seconds", "15", "--search-seconds", "0"),
    "data": ("data", "--config", "tabletop", "--train-vision", "true", "--seconds", "15"),
    "convert": ("convert", "--episodes", "2", "--seconds", "5"),
}
"""Name → the arguments of `benchmark` that it stands for: a few minutes together."""
_COMMAND = "import sys; from robovlm_ros.cli.benchmark import main; sys.exit(main())"


def add_command(commands: Commands) -> None:
    """Add ``all`` to the things that `benchmark` measures."""
    everything = commands.add_parser(
        "all",
        help="every benchmark in a short form, into one file",
        description="Runs the other benchmarks one after the other, each in a process of its own: "
        + "; ".join(" ".join(arguments) for arguments in PARTS.values())
        + ". What fails is named, and the others go on. Programs that run beside make figures worse: the load of the "
        "machine before each part is written down, too.",
        formatter_class=HelpFormatter,
    )
    everything.add_argument("--parts", nargs="+", default=list(PARTS), metavar="PART", help="which of them")
    everything.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and all figures there")
    everything.set_defaults(command=_all)


def _all(options: argparse.Namespace) -> int:
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        raise UserError(f"--parts: '{unknown[0]}' is not one of: {', '.join(PARTS)}")
    begin = time.monotonic()
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "load": {}, "parts": {}, "failed": {}}
    for name in options.parts:
        print(f"== benchmark {' '.join(PARTS[name])}", flush=True)
        result["load"][name] = round(os.getloadavg()[0], 2)
        found, reason = run_part(PARTS[name])
        if found is None:
            result["failed"][name] = reason
            print(f"failed: {reason}", flush=True)
        else:
            result["parts"][name] = found
    result["seconds"] = round(time.monotonic() - begin, 1)
    write_json(options.json, result)
    print(f"{len(result['parts'])} of {len(options.parts)} benchmarks in {result['seconds']:.0f} s")
    return int(bool(result["failed"]))


def run_part(arguments: tuple[str, ...]) -> tuple[dict[str, Any] | None, str]:
    """What a benchmark wrote, or None and its last line."""
    with tempfile.TemporaryDirectory(prefix="benchmark_all_") as name:
        path = Path(name) / "result.json"
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, *arguments, "--json", str(path)], stderr=subprocess.PIPE, text=True
        )
        if done.returncode or not path.is_file():
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return None, said[-1]
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found, ""
