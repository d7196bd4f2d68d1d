"""What the scripts share that measure something and write it into a page: commands, and the marked parts of a page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(sys.argv[0]).name
"""The script that runs; its name stands in the marks and in messages."""
_COMMAND = "import sys; from robovlm_ros.cli.{0} import main; sys.exit(main())"


def command(name: str, *arguments: object) -> None:
    """Run a command of this package; its failure ends the script."""
    print(f"{Path(SCRIPT).stem}:", name, *arguments, flush=True)
    subprocess.run([sys.executable, "-c", _COMMAND.format(name), *map(str, arguments)], check=True, cwd=ROOT)


def fill(page: Path, parts: Mapping[str, str], check: bool) -> int:
    """Put each text between the marks of its name in a page.

    With ``check`` nothing is written; 1 if the page is out of date, and a line says so.
    """
    before = fresh = page.read_text(encoding="utf-8")
    for name, text in parts.items():
        begin, end = f"<!-- {name}: begin (tools/{SCRIPT}) -->", f"<!-- {name}: end -->"
        if begin not in fresh:
            raise SystemExit(f"error: {page.name} has no mark {begin}")
        head, _, rest = fresh.partition(begin)
        fresh = f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    if check:
        if fresh != before:
            print(f"error: {page.name} is out of date: python tools/{SCRIPT} --report", file=sys.stderr)
        return int(fresh != before)
    page.write_text(fresh, encoding="utf-8")
    return 0
