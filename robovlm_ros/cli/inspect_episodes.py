"""``inspect episodes``: a table of what was recorded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robovlm_ros.bags import list_episodes, read_episode
from robovlm_ros.cli.command import Commands, write_json
from robovlm_ros.errors import UserError


def add_command(commands: Commands) -> None:
    """Add ``episodes`` to the things that `inspect` looks at."""
    episodes = commands.add_parser(
        "episodes",
        help="a table of the episodes in a folder",
        description="A table of the episodes in a folder: instruction, length [s], outcome, messages on each topic. "
        "Every message is read; episodes that cannot be read are named, and the exit status is then 1.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    episodes.add_argument("directory", type=Path, metavar="DIR", help="folder that holds the episodes")
    episodes.add_argument("--json", type=Path, metavar="FILE", help="write the table there too, as JSON")
    episodes.set_defaults(command=_episodes)


def _episodes(options: argparse.Namespace) -> int:
    paths = list_episodes(options.directory)
    if not paths:
        raise UserError(f"folder {options.directory} holds no episodes")
    rows: list[dict[str, Any]] = []
    damaged: list[dict[str, str]] = []
    for path in paths:
        row = _row(path)
        if isinstance(row, UserError):
            damaged.append({"name": path.name, "reason": str(row)})
        else:
            rows.append(row)
    _print(rows)
    for item in damaged:
        print(item["reason"], file=sys.stderr)
    seconds = sum(row["seconds"] for row in rows)
    succeeded = sum(row["outcome"] == "success" for row in rows)
    print(f"{len(rows)} episodes, {seconds:.1f} s, {succeeded} marked as success, {len(damaged)} unreadable")
    write_json(options.json, {"episodes": rows, "unreadable": damaged})
    return 1 if damaged else 0


def _row(path: Path) -> dict[str, Any] | UserError:
    """What is said of one episode, or why it cannot be read."""
    try:
        episode = read_episode(path)
        counts = dict.fromkeys(episode.counts, 0)
        for message in episode.messages():
            counts[message.topic] = counts.get(message.topic, 0) + 1
    except UserError as error:
        return error
    return {
        "name": episode.name,
        "instruction": episode.instruction,
        "instruction_changes": max(0, len(episode.instructions) - 1),
        "seconds": round(episode.duration_s, 3),
        "outcome": episode.outcome,
        "operator": episode.operator,
        "messages": counts,
    }


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """The table; topics are numbered below it, for their names are long."""
    topics = sorted({topic for row in rows for topic in row["messages"]})
    head = ["name", "instruction", "seconds", "outcome", *(f"[{i}]" for i in range(1, len(topics) + 1))]
    lines = [head]
    for row in rows:
        changes = f" (+{row['instruction_changes']})" if row["instruction_changes"] else ""
        counts = [str(row["messages"].get(topic, 0)) for topic in topics]
        lines.append([row["name"], row["instruction"] + changes, f"{row['seconds']:.1f}", row["outcome"], *counts])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if i == 2 or i > 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    if topics:
        print("messages on " + ", ".join(f"[{i}] {topic}" for i, topic in enumerate(topics, start=1)))
