"""The one place where commands turn errors into a line and an exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from robovlm_ros.errors import UserError

Commands = Any
"""What `argparse.ArgumentParser.add_subparsers` gives; its own class has a private name."""


def run(main: Callable[[], int | None]) -> int:
    """Run a command: 0 when it worked, 1 after one line for bad input, 130 after Ctrl-C or SIGTERM.

    141 where its output was read by a program that has ended.
    """
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """End as if by Ctrl-C, so that the nodes that were started end, too; later SIGTERMs do not disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    late: Callable[[], None] | None = None
    """Adds arguments when it is this parser's turn: for options whose import takes seconds."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        late, self.late = self.late, None
        if late is not None:
            late()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults, where there are any that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False or "(default" in (action.help or "")
        return action.help if says_nothing else super()._get_help_string(action)


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose ``--help`` shows the defaults."""
    return _Parser(prog=name, description=description, formatter_class=HelpFormatter)


def write_json(path: Path | None, values: Mapping[str, Any]) -> None:
    """Write machine-readable results, when a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def print_rows(rows: Sequence[Sequence[str]], left: Collection[int]) -> None:
    """Print a table; columns in ``left`` begin at the left, the others end at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def needs_matplotlib(option: str = "--plot") -> None:
    """UserError where there is nothing to draw with; to be asked before anything is measured."""
    try:
        import matplotlib  # noqa: F401 (only whether it is there)
    except ImportError as error:
        raise UserError(f"{option} needs the package matplotlib: pip install matplotlib") from error
