"""The one place where commands turn errors into a line and an exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError


def run(main: Callable[[], int | None]) -> int:
    """Run a command: 0 when it worked, 1 after one line for bad input, 130 after Ctrl-C."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose ``--help`` shows the defaults."""
    return argparse.ArgumentParser(
        prog=name, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def write_json(path: Path | None, values: Mapping[str, Any]) -> None:
    """Write machine-readable results, when a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
