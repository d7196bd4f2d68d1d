"""Write the table of measured command streams into docs/control.md: no figure in it is typed by hand.

``python tools/control.py --measure`` runs ``benchmark control`` (a quarter of an hour; nothing else should run) and
keeps what it wrote in docs/control/. Without it the table is written from the files, and ``--check`` says whether the
page is up to date (a test runs this).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pages import ROOT, command, fill

PAGE, FOLDER = ROOT / "docs" / "control.md", ROOT / "docs" / "control"
RUNS: dict[str, tuple[str, ...]] = {
    "quiet": ("--seconds", "600", "--stall-ms", "500"),
    "load": ("--seconds", "120", "--load", "2"),
}
"""Name of the file → arguments of `benchmark control`."""
PLOT = FOLDER / "quiet.png"


def measure() -> None:
    """Run the benchmarks and keep what they wrote."""
    FOLDER.mkdir(exist_ok=True)
    for name, arguments in RUNS.items():
        drawing = ("--plot", PLOT) if name == PLOT.stem else ()
        command("benchmark", "control", *arguments, *drawing, "--json", FOLDER / f"{name}.json")


def rows(found: dict[str, Any]) -> list[str]:
    """Markdown rows of one run."""
    what = f"{found['load']} processes that keep a core busy each" if found["load"] else "nothing else runs"
    latency = f"{found['latency_p50_ms']:.1f} ms | {found['latency_p99_ms']:.1f} ms"
    made = [
        f"| {what}, {found['seconds']:.0f} s | {found['commands']} | {latency} | {_steady(found)} "
        f"| {found['sent_jitter_p99_ms']:.2f} ms | {found['sent_max_gap_ms']:.1f} ms |"
    ]
    if "in_stalls" in found:
        parts = ((f"in stalls of {found['stall_ms']:g} ms", "in_stalls"), ("between them", "between_stalls"))
        made += [f"| … {name} | {found[key]['intervals']} | | | {_steady(found[key])} | | |" for name, key in parts]
    return made


def _steady(found: dict[str, Any]) -> str:
    return f"{found['jitter_p99_ms']:.2f} ms | {found['max_gap_ms']:.1f} ms | {found['missed_periods']}"


def report(check: bool) -> int:
    """The table from the files."""
    lines = [
        "| run | commands | latency p50 | p99 | jitter p99 | longest gap | missed periods "
        "| as stamped: jitter p99 | longest gap |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in RUNS:
        path = FOLDER / f"{name}.json"
        if path.exists():
            lines += rows(json.loads(path.read_text(encoding="utf-8")))
    return fill(PAGE, {"control": "\n".join(lines)}, check)


def main() -> int:
    """Measure if asked for, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the benchmarks before")
    parser.add_argument("--report", action="store_true", help="only write the page (the default)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is out of date")
    options = parser.parse_args()
    if options.measure:
        measure()
    return report(options.check)


if __name__ == "__main__":
    sys.exit(main())
