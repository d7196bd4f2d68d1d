"""Where policy checkpoints lie, and which robots they may drive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robovlm_ros.compatibility import differences
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.errors import UserError
from robovlm_ros.weights import read_json, weights_sha256

CONFIG = "config.json"
"""File of a checkpoint folder that holds the policy's configuration."""
CONTRACT = "contract.yaml"
"""File of a checkpoint folder that holds the contract it was trained with."""
ADAPTERS = "adapters"
"""Folder of a checkpoint folder that holds adapters."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
"""Types of a backbone's weights; auto: that in which they lie in their folder."""
PRECISIONS = ("auto", "int8", "float8")
"""How a text tower multiplies when it runs; auto: in the type of its weights."""
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2", "flex_attention")
"""Implementations of attention, by transformers' names; auto: the one that it takes for that model by itself."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The vision-language model that a checkpoint of adapters rests on."""

    name: str
    """Its folder, absolute or from the checkpoint's folder; or a hub name."""
    sha256: str
    """Content of its weight files: `robovlm_ros.weights.weights_sha256`."""

    def to_dict(self) -> dict[str, str]:
        """Plain values, the inverse of `from_dict`."""
        return {"name": self.name, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Base:
        """Build from plain values; UserError when they name no base."""
        if not isinstance(values, Mapping) or not all(isinstance(values.get(key), str) for key in ("name", "sha256")):
            raise UserError(f"{where} is damaged: 'base' does not name a model and its sha256")
        return cls(name=values["name"], sha256=values["sha256"])

    def check(self, folder: Path, checkpoint: Path) -> None:
        """UserError unless the folder holds the very weights that the checkpoint was trained on; reads all of them."""
        found = weights_sha256(folder)
        if found != self.sha256:
            raise UserError(
                f"checkpoint {checkpoint} was trained on other weights than those of its base {folder} "
                f"(sha256 {self.sha256[:12]}..., found {found[:12]}...)"
            )


def find_base(checkpoint: Path, given: str | os.PathLike[str] | None = None) -> tuple[Base, Path | None] | None:
    """The base of a checkpoint of adapters and its folder, None when that is no local one; None for a whole checkpoint.

    A relative path is one from the checkpoint's folder, or else from where the program runs. ``given`` wins over the
    name in the checkpoint. Only `Base.check` looks at the weights.
    """
    values = read_json(checkpoint / CONFIG).get("base")
    if values is None:
        return None
    base = Base.from_dict(values, f"checkpoint {checkpoint}")
    name = Path(base.name if given is None else given).expanduser()
    places = [name] if given is not None else [checkpoint / name, name]
    return base, next((place for place in places if place.is_dir()), None)


def find_checkpoint(name_or_folder: str) -> Path:
    """The folder of a policy checkpoint: the one given, or the shipped one of that name.

    A shipped name wins over a folder of the same name; write ``./name`` for the folder.
    """
    shipped = share_directory() / "checkpoints"
    if name_or_folder and Path(name_or_folder).name == name_or_folder and (shipped / name_or_folder).is_dir():
        return shipped / name_or_folder
    folder = Path(name_or_folder).expanduser()
    if not name_or_folder or not folder.is_dir():
        names = ", ".join(sorted(path.parent.name for path in shipped.glob(f"*/{CONTRACT}"))) or "none is shipped"
        raise UserError(f"no checkpoint '{name_or_folder}' (a folder, or one of: {names})")
    return folder


def find_contract(checkpoint: Path, given: str = "") -> Contract:
    """The contract of the robot at hand: the given one (a file or a shipped name), or else the checkpoint's own.

    UserError that says what differs, unless the policy can drive the robot of the given contract.
    """
    if not (checkpoint / CONTRACT).is_file():
        raise UserError(f"{checkpoint} is no policy checkpoint: {CONTRACT} is missing")
    trained = Contract.load(checkpoint / CONTRACT)
    contract = Contract.load(given) if given else trained
    different = differences(trained, contract)
    if different:
        raise UserError(f"contract '{given}' does not fit checkpoint '{checkpoint}': {'; '.join(different)}")
    return contract


def check_computing(dtype: str, attention: str) -> None:
    """UserError unless both are known."""
    for name, value, known in (("dtype", dtype, DTYPES), ("attention", attention, ATTENTIONS)):
        if value not in known:
            raise UserError(f"{name} '{value}' is not one of: {', '.join(known)}")
