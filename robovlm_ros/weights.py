"""Weight files of a checkpoint folder: which they are, whether they are whole, and what their content is.

safetensors only, read by the standard library: whatever is wrong with a folder can be said before torch is loaded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_BLOCK = 1 << 22


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a transformers folder, in the order of their names; UserError unless all are there.

    One ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise UserError(f"checkpoint {folder} is damaged: {INDEX} has no weight_map")
        files = [folder / name for name in sorted(set(shards.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"checkpoint {folder} is incomplete: {missing[0]} is missing ({len(missing)} of {len(files)} shards)"
            )
        return files
    if any(folder.glob("model-*-of-*.safetensors")):
        raise UserError(f"checkpoint {folder} is incomplete: it has shards, but {INDEX} is missing")
    pickled = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"checkpoint {folder} has its weights as a pickle ({pickled[0]}), which could run any code and is never "
            f"loaded: save it again as {SINGLE}"
        )
    raise UserError(f"checkpoint {folder} is incomplete: it has no {SINGLE}")


def check_whole(file: Path) -> None:
    """UserError unless the header of a safetensors file agrees with its length.

    The format: 8 bytes with the header's length n (little endian), n bytes of JSON that say where each tensor's
    bytes begin and end behind it, then these bytes, without a gap.
    """
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            total = file.stat().st_size
            header = json.loads(opened.read(length) if 8 + length <= total else b"")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = total == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise UserError(f"checkpoint {file.parent} is damaged: {file.name} is no whole safetensors file")


def weights_sha256(folder: Path) -> str:
    """SHA-256 of all weight files one after the other, as hexadecimal digits: of one file, what ``sha256sum`` says.

    Reads every byte: about a second per gigabyte from a cached file.
    """
    found = hashlib.sha256()
    for file in weight_files(folder):
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                found.update(block)
    return found.hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a checkpoint folder; UserError when it is missing or something else."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file.parent} is no checkpoint folder: {file.name} is missing") from error
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"checkpoint {file.parent} is damaged: {file.name} cannot be read ({why})") from error
    if not isinstance(values, dict):
        raise UserError(f"checkpoint {file.parent} is damaged: {file.name} is no JSON mapping")
    return values
