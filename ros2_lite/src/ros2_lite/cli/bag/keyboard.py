"""Keys while a bag plays."""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType
from typing import Any

_KEYS = {b" ": "space", b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right"}


class Keyboard:
    """Reads single keys where there is a terminal; gives it back as it was."""

    def __init__(self, is_disabled: bool = False) -> None:
        self._descriptor: int | None = None
        self._before: Any = None
        if not is_disabled and sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            self._descriptor = sys.stdin.fileno()

    @property
    def help(self) -> list[str]:
        """What the keys do; nothing where there are none."""
        if self._descriptor is None:
            return []
        return [
            "Press SPACE for Pause/Resume",
            "Press CURSOR_RIGHT for Play Next Message",
            "Press CURSOR_UP for Increase Rate 10%",
            "Press CURSOR_DOWN for Decrease Rate 10%",
        ]

    def __enter__(self) -> Keyboard:
        if self._descriptor is not None:
            try:
                import termios
                import tty
            except ImportError:  # not on Windows
                self._descriptor = None
                return self
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def pressed(self) -> list[str]:
        """The keys since the last question: ``space``, ``up``, ``down``, ``right``."""
        if self._descriptor is None or not select.select([self._descriptor], [], [], 0)[0]:
            return []
        read = os.read(self._descriptor, 64)
        keys = []
        while read:
            length, name = next(((len(k), name) for k, name in _KEYS.items() if read.startswith(k)), (1, ""))
            keys += [name] if name else []
            read = read[length:]
        return keys
