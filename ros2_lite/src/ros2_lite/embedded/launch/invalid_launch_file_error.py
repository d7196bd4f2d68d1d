"""The error for a launch file that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence


class InvalidLaunchFileError(Exception):
    """The file is not a launch file that can be loaded; the message says what is wrong with it."""

    def __init__(self, extension: str = "", *, likely_errors: Sequence[BaseException] | None = None) -> None:
        self._extension = extension
        self._likely_errors = list(likely_errors or [])
        super().__init__(str(self))

    def __str__(self) -> str:
        if self._likely_errors:
            reasons = "; ".join(f"{type(e).__name__}: {e}" for e in self._likely_errors)
            return f"Caught exception when trying to load file of format [{self._extension}]: {reasons}"
        if not self._extension:
            return "The launch file may have a syntax error, or its format is unknown"
        return f"The file of format '{self._extension}' could not be loaded as a launch file"
