"""``inspect trainable``: what learns under the switches of a fine-tuning, and how fast."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robovlm_ros.cli.command import Commands, write_json
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.contract import Contract, share_directory

if TYPE_CHECKING:
    from robovlm_ros.training.preview import Preview

_HEAD = ("part", "module", "parameters", "trained", "share", "learning rate")


def add_command(commands: Commands) -> None:
    """Add ``trainable`` to the things that `inspect` looks at."""
    arguments = commands.add_parser(
        "trainable",
        help="what learns under the switches of a fine-tuning",
        description="What learns under the switches of a fine-tuning: parts, their parameters, how many of them are\n"
        "trained, and the largest learning rate. Takes the options of finetune. Nothing is loaded but the base's\n"
        "configuration, so that a model of any size needs no memory.",
    )
    arguments.add_argument(
        "--base", help="vision-language model: a folder or a hub name (default: the shipped tabletop_vlm)"
    )
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name (tabletop)")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the table there too, as JSON")
    arguments.set_defaults(command=_trainable)
    arguments.late = lambda: _add_finetune_options(arguments)  # they need torch, which takes seconds


def _add_finetune_options(arguments: argparse.ArgumentParser) -> None:
    from robovlm_ros.training.finetuning import FinetuneOptions

    add_options(arguments, FinetuneOptions, "training", config="config")


def _trainable(parsed: argparse.Namespace) -> int:
    from robovlm_ros.training.finetuning import FinetuneOptions
    from robovlm_ros.training.preview import preview

    base = parsed.base or str(share_directory() / "checkpoints" / "tabletop_vlm")
    options = read_options(parsed, FinetuneOptions, "training")
    found = preview(options, base, Contract.load(parsed.contract))
    print(f"what learns on {base}, contract {parsed.contract}, configuration {parsed.config or 'none: the defaults'}")
    _print(found)
    write_json(parsed.json, {"base": base, "contract": parsed.contract, "config": parsed.config, **_plain(found)})
    return 0


def _print(found: Preview) -> None:
    rows = [
        (row.part, found.modules[row.part] or "(policy)", row.parameters, row.trained, found.rates[row.part])
        for row in found.rows
    ]
    total = sum(row.parameters for row in found.rows), sum(row.trained for row in found.rows)
    lines = [_HEAD]
    for part, module, parameters, trained, rates in [*rows, ("all", "", *total, ())]:
        rate = ", ".join(f"{rate:.3g}" for rate in rates)
        lines.append((part, module, f"{parameters:,}", f"{trained:,}", f"{100 * trained / parameters:.2f} %", rate))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    for line in lines:
        padded = zip(line, widths, strict=True)
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(padded)]
        print("  ".join(cells).rstrip())
    if found.adapted:
        ends = sorted({name.rpartition(".")[2] for name in found.adapted})
        print(f"adapters beside {len(found.adapted)} linear layers: {', '.join(ends)}; their own weights do not learn")


def _plain(found: Preview) -> dict[str, Any]:
    parts = [
        {
            "part": row.part,
            "module": found.modules[row.part],
            "parameters": row.parameters,
            "trained": row.trained,
            "share": row.trained / row.parameters,
            "learning_rates": list(found.rates[row.part]),
        }
        for row in found.rows
    ]
    return {
        "parts": parts,
        "parameters": sum(row.parameters for row in found.rows),
        "trained": sum(row.trained for row in found.rows),
        "adapted": found.adapted,
    }
