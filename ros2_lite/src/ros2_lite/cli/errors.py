"""How commands fail: one clear line, and a non-zero exit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import NoReturn


class CliError(Exception):
    """What the user has to know, in one line.

    :param hint: what would have been valid. A person at a terminal reads it after the message; a program that reads the
        output finds the message as the original words it, and nothing else.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def report(self) -> None:
        """Say it on stderr."""
        words = [str(self), self.hint if sys.stderr.isatty() else ""]
        text = "; ".join(word for word in words if word)
        if text:
            print(text, file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line on stderr."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def choices(names: Iterable[str], limit: int = 30) -> str:
    """The names that would have been valid, for the end of an error."""
    found = sorted(names)
    if not found:
        return "none"
    more = f", and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def positive_float(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def count(text: str) -> int:
    """A whole number of zero or more, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value


def positive_int(text: str) -> int:
    """A whole number above zero, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value
