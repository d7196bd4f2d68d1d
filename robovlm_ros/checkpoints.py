"""Where policy checkpoints lie."""

from __future__ import annotations

from pathlib import Path

from robovlm_ros.contract import share_directory
from robovlm_ros.errors import UserError


def find_checkpoint(name_or_folder: str) -> Path:
    """The folder of a policy checkpoint: the one given, or the shipped one of that name.

    A shipped name wins over a folder of the same name; write ``./name`` for the folder.
    """
    shipped = share_directory() / "checkpoints"
    if name_or_folder and Path(name_or_folder).name == name_or_folder and (shipped / name_or_folder).is_dir():
        return shipped / name_or_folder
    folder = Path(name_or_folder).expanduser()
    if not name_or_folder or not folder.is_dir():
        names = ", ".join(sorted(path.parent.name for path in shipped.glob("*/contract.yaml"))) or "none is shipped"
        raise UserError(f"no checkpoint '{name_or_folder}' (a folder, or one of: {names})")
    return folder
