"""`ros2 interface packages`."""

from __future__ import annotations

import argparse

from ros2_lite.messages import registry

_KINDS = {"only_msgs": "msg", "only_srvs": "srv", "only_actions": "action"}


def add_kind_arguments(parser: argparse.ArgumentParser, text: str) -> None:
    """``-m``, ``-s`` and ``-a``; `text` with a place for what they are about."""
    parser.add_argument("-m", "--only-msgs", action="store_true", help=text.format("message"))
    parser.add_argument("-s", "--only-srvs", action="store_true", help=text.format("service"))
    parser.add_argument("-a", "--only-actions", action="store_true", help=text.format("action"))


def kinds(args: argparse.Namespace) -> list[str]:
    """The kinds that were asked for: all where none was."""
    return [kind for name, kind in _KINDS.items() if getattr(args, name)] or list(_KINDS.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kind_arguments(parser, "Only list packages that generate {} types")


def main(args: argparse.Namespace) -> None:
    for package in registry.packages():
        if any(registry.names(package, kind) for kind in kinds(args)):
            print(package)
