"""``inspect cache``: what is kept on the disk of what was decoded from episodes, and removing it."""

from __future__ import annotations

import argparse
from pathlib import Path

from robovlm_ros.cli.command import Commands, HelpFormatter, write_json


def add_command(commands: Commands) -> None:
    """Add ``cache`` to what can be looked at."""
    cache = commands.add_parser(
        "cache",
        help="what fine-tuning has kept of episodes that it decoded, and clearing it",
        description="Fine-tuning keeps images as the backbone sees them, or the features that it makes of them, so "
        "that the next run on the same episodes need not decode them again. All of it can be removed at any time: what "
        "is needed is decoded again.",
        formatter_class=HelpFormatter,
    )
    cache.add_argument("--cache", default="auto", metavar="FOLDER", help="the folder, as for finetune")
    cache.add_argument("--clear", action="store_true", help="remove all of it")
    cache.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    cache.set_defaults(command=_cache)


def _cache(options: argparse.Namespace) -> int:
    from robovlm_ros.errors import UserError
    from robovlm_ros.training.cache import open_cache

    cache = open_cache(options.cache)
    if cache is None:
        raise UserError("--cache off names no folder")
    entries = cache.entries()
    size = sum(taken for _, taken in entries)
    if options.clear:
        cache.clear()
        print(f"{cache.folder}: removed {len(entries)} entries, {size / 1e6:.1f} MB")
    else:
        print(f"{cache.folder}: {len(entries)} entries, {size / 1e6:.1f} MB")
    write_json(options.json, {"folder": str(cache.folder), "entries": len(entries), "bytes": size})
    return 0
