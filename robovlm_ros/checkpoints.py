"""Where policy checkpoints lie, and which robots they may drive."""

from __future__ import annotations

from pathlib import Path

from robovlm_ros.compatibility import differences
from robovlm_ros.contract import VELOCITY_TYPES, Contract, share_directory
from robovlm_ros.errors import UserError

CONTRACT = "contract.yaml"
"""File of a checkpoint folder that holds the contract it was trained with."""


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
    for command in contract.commands:
        if command.type in VELOCITY_TYPES:  # holding means to send nothing new, which stops no velocity
            raise UserError(
                f"contract '{contract.name}': command '{command.name}' is a velocity ({command.type}), "
                "which the policy cannot hold safely yet; use a position command"
            )
    return contract
