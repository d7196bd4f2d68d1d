"""Option dataclasses as command lines."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from robovlm_ros.contract import share_directory
from robovlm_ros.errors import UserError
from robovlm_ros.options import build, field_docs, field_types, read_yaml

_T = TypeVar("_T")


def add_options(arguments: argparse.ArgumentParser, cls: type[Any], configs: str, *, config: str = "--config") -> None:
    """One ``--flag`` per field, and ``config`` (a flag, or a position) for a YAML file with the same keys."""
    docs, hints = field_docs(cls), field_types(cls)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    optional: dict[str, Any] = {"metavar": "FILE"} if config.startswith("-") else {"metavar": "CONFIG", "nargs": "?"}
    arguments.add_argument(
        config, **optional, help=f"YAML file with these options, or a name in config/{configs}; flags win"
    )
    for field in dataclasses.fields(cls):
        default = field.default
        if default is dataclasses.MISSING:
            factory = field.default_factory
            default = None if factory is dataclasses.MISSING else factory()
        shown = "required" if default is None and "None" not in str(hints[field.name]) else f"default: {default}"
        arguments.add_argument(
            f"--{field.name.replace('_', '-')}",
            metavar="VALUE",
            default=None,
            help=f"{docs.get(field.name, '')} ({shown})".replace("%", "%%"),
        )


def read_options(parsed: argparse.Namespace, cls: type[_T], configs: str) -> _T:
    """The options: defaults, then the YAML file, then the flags."""
    return build(cls, given_options(parsed, cls, configs), "options")


def given_options(parsed: argparse.Namespace, cls: type[Any], configs: str) -> dict[str, Any]:
    """What a YAML file and flags say, flags winning; as it was written."""
    values: dict[str, Any] = {}
    if parsed.config is not None:
        path = Path(parsed.config)
        if not path.suffix:
            folder = share_directory() / "config" / configs
            path = folder / f"{parsed.config}.yaml"
            if not path.is_file():
                shipped = ", ".join(sorted(item.stem for item in folder.glob("*.yaml"))) or "none"
                raise UserError(f"no configuration '{parsed.config}' (a YAML file, or one of: {shipped})")
        values.update(read_yaml(path))
    names = [field.name for field in dataclasses.fields(cls)]
    values.update({name: value for name in names if (value := getattr(parsed, name)) is not None})
    return values
