"""Write the measured figures into README.md, docs and the policies' model cards, from the JSON files of `evaluate`.

``python tools/figures.py`` rewrites the text between the figure marks; ``--check`` only says whether
it is up to date (a test runs this, so no figure in the docs is typed by hand).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "checkpoints"
BEGIN, END = "<!-- figures: begin (tools/figures.py) -->", "<!-- figures: end -->"
HEADING = "## How well it does"


def table(results: list[dict[str, Any]]) -> str:
    """A Markdown table with one row per evaluation."""
    rows = [
        "| mode | seed | episodes | within 4 cm | 95 % interval | 3 cm | 2 cm | wrong target | no language "
        "| latency p50 / p99 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: (r["mode"] != "realtime", r["seed"])):
        low, high = r["success_interval_95"]
        control = "" if r["no_language_success_rate"] is None else f"{r['no_language_success_rate']:.0%}"
        latency = r.get("latency_ms") or {}
        times = f"{latency['p50']:.0f} / {latency['p99']:.0f} ms" if latency and r["mode"] == "realtime" else ""
        rows.append(
            f"| {r['mode']} | {r['seed']} | {r['episodes']} | {r['success_rate']:.0%} | {low:.0%} to {high:.0%} "
            f"| {r['success_rate_3cm']:.0%} | {r['success_rate_2cm']:.0%} | {r['wrong_target_rate']:.0%} "
            f"| {control} | {times} |"
        )
    return "\n".join(rows)


def task_table(results: list[dict[str, Any]]) -> str:
    """A Markdown table with one row per task and evaluation."""
    rows = [
        "| task | mode | sentences | seed | episodes | success | 95 % interval | wrong target | no language | stages |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for r in results for name in r["tasks"]):
        for r in sorted(results, key=lambda r: (r["held_out_sentences"], r["mode"] != "realtime", r["seed"])):
            if name not in r["tasks"]:
                continue
            of = r["tasks"][name]
            low, high = of["success_interval_95"]
            control = "" if of["no_language_success_rate"] is None else f"{of['no_language_success_rate']:.0%}"
            stages = ", ".join(f"{stage} {rate:.0%}" for stage, rate in of.get("stages", {}).items())
            rows.append(
                f"| {name} | {r['mode']} | {'held out' if r['held_out_sentences'] else 'as shown'} | {r['seed']} "
                f"| {of['episodes']} | {of['success_rate']:.0%} | {low:.0%} to {high:.0%} "
                f"| {of['wrong_target_rate']:.0%} | {control} | {stages} |"
            )
    return "\n".join(rows)


POLICIES = (
    ("tabletop", table, (ROOT / "README.md", CHECKPOINTS / "tabletop" / "README.md")),
    ("tabletop_tasks", task_table, (ROOT / "docs" / "tasks.md", CHECKPOINTS / "tabletop_tasks" / "README.md")),
)
"""Shipped policy, its table, and the pages that show it."""


def main() -> int:
    """Rewrite the pages, or with ``--check`` return 1 when one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is out of date")
    options = parser.parse_args()
    stale: list[Path] = []
    for name, make, pages in POLICIES:
        files = sorted((CHECKPOINTS / name / "evaluation").glob("*.json"))
        if not files:
            print(f"error: no results of `evaluate --json` in {CHECKPOINTS / name / 'evaluation'}", file=sys.stderr)
            return 1
        figures = make([json.loads(path.read_text()) for path in files])
        stale += [page for page in pages if _write(page, figures, options.check)]
    for page in stale:
        print(f"{'out of date' if options.check else 'updated'}: {page.relative_to(ROOT)}")
    return int(options.check and bool(stale))


def _write(page: Path, figures: str, check: bool) -> bool:
    """Put the figures into a page, or with ``check`` only compare; whether they were others."""
    before = text = page.read_text(encoding="utf-8")
    if BEGIN not in text:  # a new model card
        text = f"{text.rstrip()}\n\n{HEADING}\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    fresh = f"{head}{BEGIN}\n{figures}\n{END}{rest.partition(END)[2]}"
    if fresh != before and not check:
        page.write_text(fresh, encoding="utf-8")
    return fresh != before


if __name__ == "__main__":
    sys.exit(main())
