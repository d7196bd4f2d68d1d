"""``inspect episodes``: a table of what was recorded, contact sheets, and the repair of what broke off."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robovlm_ros.bags import OUTCOMES, Episode, list_episodes, list_unfinished, read_episode, recover
from robovlm_ros.cli.command import Commands, HelpFormatter, write_json
from robovlm_ros.errors import UserError

INCIDENTS = 3
"""Of the incidents of an episode, so many are printed."""


def add_command(commands: Commands) -> None:
    """Add ``episodes`` to the things that `inspect` looks at."""
    episodes = commands.add_parser(
        "episodes",
        help="a table of the episodes in a folder",
        description="A table of the episodes in a folder, or of one: instruction, length [s], outcome, messages and "
        "rate [Hz] on each topic, and the largest gap: the longest time between two messages of a camera or state "
        "[s], and how many times that topic's median it is. Every message is read; episodes that cannot be read are "
        "named, and the exit status is then 1.",
        formatter_class=HelpFormatter,
    )
    episodes.add_argument("directory", type=Path, metavar="DIR", help="folder that holds the episodes, or an episode")
    episodes.add_argument("--outcome", choices=OUTCOMES, help="only episodes with this outcome")
    episodes.add_argument("--instruction", metavar="TEXT", help="only episodes whose instruction holds this text")
    episodes.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="PATH",
        help="draw each episode's frames along time: into PATH.png, or a folder with a PNG for each",
    )
    episodes.add_argument(
        "--repair",
        action="store_true",
        help="first make episodes of recordings that broke off; each stays as it was until its episode is complete",
    )
    episodes.add_argument("--json", type=Path, metavar="FILE", help="write the table there too, as JSON")
    episodes.set_defaults(command=_episodes)


def _episodes(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    repaired: list[str] = []
    stuck: list[dict[str, str]] = []
    if options.repair:
        repaired, stuck = _repair(directory)
    unfinished = list_unfinished(directory)
    paths = [directory] if (directory / "metadata.yaml").is_file() else list_episodes(directory)
    if not paths and not options.repair:
        hint = f", but unfinished recordings ({len(unfinished)}): try --repair" if unfinished else ""
        raise UserError(f"folder {directory} holds no episodes{hint}")
    sheets: dict[str, Any] = {}
    found = [_row(path, options, sheets) for path in paths]
    rows = [row for row in found if isinstance(row, dict)]
    damaged = [
        {"name": path.name, "reason": str(row)}
        for path, row in zip(paths, found, strict=True)
        if isinstance(row, UserError)
    ]
    _print(rows)
    for item in [*stuck, *damaged]:
        print(item["reason"], file=sys.stderr)
    if sheets:
        from robovlm_ros.cli.contact_sheet import write_sheets

        written = write_sheets(sheets, options.contact_sheet)
        print(f"contact sheets: {written[0] if len(written) == 1 else options.contact_sheet}")
    if unfinished and not options.repair:
        print(f"unfinished recordings: {len(unfinished)}; --repair makes episodes of them")
    seconds = sum(row["seconds"] for row in rows)
    succeeded = sum(row["outcome"] == "success" for row in rows)
    print(f"{len(rows)} episodes, {seconds:.1f} s, {succeeded} marked as success, {len(damaged)} unreadable")
    report = {"episodes": rows, "unreadable": damaged, "repaired": repaired, "unfinished": [p.name for p in unfinished]}
    write_json(options.json, report)
    return 1 if damaged or stuck else 0


def _repair(directory: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the episodes that were recovered, and what could not be."""
    recovered, stuck = [], []
    for partial in list_unfinished(directory):
        try:
            done = recover(partial)
        except UserError as error:
            stuck.append({"name": partial.name, "reason": str(error)})
            continue
        print(done.sentence)
        if done.path is not None:
            recovered.append(done.name)
    return recovered, stuck


def _wanted(episode: Episode, options: argparse.Namespace) -> bool:
    if options.outcome is not None and episode.outcome != options.outcome:
        return False
    texts = [episode.instruction, *(text for _, text in episode.instructions)]
    return options.instruction is None or any(options.instruction.lower() in text.lower() for text in texts)


def _row(path: Path, options: argparse.Namespace, sheets: dict[str, Any]) -> dict[str, Any] | UserError | None:
    """What is said of one episode (and its contact sheet into `sheets`), None if it is not wanted, or why it cannot
    be read.
    """
    try:
        episode = read_episode(path)
        if not _wanted(episode, options):
            return None
        row = _look(episode)
        if options.contact_sheet is not None:
            from robovlm_ros.cli.contact_sheet import contact_sheet

            sheets[episode.name] = contact_sheet(episode)
    except UserError as error:
        return error
    return row


def _look(episode: Episode) -> dict[str, Any]:
    times: dict[str, list[int]] = {topic: [] for topic in episode.counts}
    if not episode.counts.get(episode.contract.intervention_topic):
        times.pop(episode.contract.intervention_topic, None)  # nobody ever intervened: not worth a column
    for message in episode.messages():
        times.setdefault(message.topic, []).append(message.receive_ns)
    topics = [camera.topic for camera in episode.contract.cameras]
    topics += [source.topic for source in episode.contract.state]
    gaps = {topic: _gap(times.get(topic, [])) for topic in topics}
    return {
        "name": episode.name,
        "instruction": episode.instruction,
        "instruction_changes": max(0, len(episode.instructions) - 1),
        "seconds": round(episode.duration_s, 3),
        "outcome": episode.outcome,
        "operator": episode.operator,
        "messages": {topic: len(stamps) for topic, stamps in times.items()},
        "intervention_seconds": [round((end - begin) / 1e9, 3) for begin, end in episode.interventions],
        "rates_hz": {topic: round(rate, 3) for topic in times if (rate := _rate(times[topic])) is not None},
        "gaps": {topic: gap for topic, gap in gaps.items() if gap is not None},
        "dropped": dict(episode.dropped),
        "incidents": [{"time_ns": time_ns, "text": text} for time_ns, text in episode.incidents],
        "recovered": episode.recovered,
    }


def _rate(stamps: Sequence[int]) -> float | None:
    """Messages per second between the first and the last [Hz]; None of fewer than two."""
    seconds = (max(stamps) - min(stamps)) / 1e9 if stamps else 0.0
    return (len(stamps) - 1) / seconds if seconds > 0 else None


def _gap(stamps: Sequence[int]) -> dict[str, float] | None:
    """Longest time between two messages that follow each other, and the median [s]; None of fewer than three."""
    if len(stamps) < 3:
        return None
    distances = np.diff(np.sort(np.array(stamps, dtype=np.int64))) / 1e9
    return {"largest_s": round(float(distances.max()), 6), "median_s": round(float(np.median(distances)), 6)}


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """The table; topics are numbered below it, for their names are long."""
    topics = sorted({topic for row in rows for topic in row["messages"]})
    head = ["name", "instruction", "seconds", "outcome", *(f"[{i}]" for i in range(1, len(topics) + 1)), "largest gap"]
    lines = [head]
    for row in rows:
        changes = f" (+{row['instruction_changes']})" if row["instruction_changes"] else ""
        lines.append(
            [
                row["name"],
                row["instruction"] + changes,
                f"{row['seconds']:.1f}",
                row["outcome"],
                *(_messages(row, topic) for topic in topics),
                _largest_gap(row["gaps"], topics),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if i == 2 or i > 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    if topics:
        print("messages on " + ", ".join(f"[{i}] {topic}" for i, topic in enumerate(topics, start=1)))
    for row in rows:
        notes = ["recovered: it broke off, and ends with what had reached the disk"] if row["recovered"] else []
        if spans := row["intervention_seconds"]:
            times = f", in {len(spans)} spans" if len(spans) > 1 else ""
            notes.append(f"a person commanded for {sum(spans):.1f} s{times}")
        notes += [f"{count} messages on {topic} were dropped" for topic, count in row["dropped"].items()]
        incidents = [incident["text"] for incident in row["incidents"]]
        notes += incidents[:INCIDENTS]
        if more := len(incidents[INCIDENTS:]):
            notes.append(f"and {more} more incidents, the last: {incidents[-1]} (--json FILE has them all)")
        for note in notes:
            print(f"{row['name']}: {note}")


def _messages(row: Mapping[str, Any], topic: str) -> str:
    """Number of messages, with the rate where there is one."""
    count, rate = row["messages"].get(topic, 0), row["rates_hz"].get(topic)
    return str(count) if rate is None else f"{count} ({rate:.1f} Hz)"


def _largest_gap(gaps: Mapping[str, Mapping[str, float]], topics: Sequence[str]) -> str:
    """Of the topic that missed most of its messages in a row."""
    if not gaps:
        return ""
    topic = max(gaps, key=lambda name: _times_median(gaps[name]))
    return f"{gaps[topic]['largest_s']:.2f} s on [{topics.index(topic) + 1}] ({_times_median(gaps[topic]):.1f} x)"


def _times_median(gap: Mapping[str, float]) -> float:
    return gap["largest_s"] / max(gap["median_s"], 1e-6)
