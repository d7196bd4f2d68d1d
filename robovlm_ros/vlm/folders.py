"""Checkpoint folders as they are found: on disk or in the hub, and refused in one line before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from robovlm_ros.checkpoints import CONFIG, CONTRACT
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.adapters import NEW_PARTS
from robovlm_ros.vlm.configuration import FORMAT, ActionTokenConfig
from robovlm_ros.weights import check_whole, read_json, weight_files

MEASURED = "measured.json"
"""What a training run wrote down beside what it made."""
_FILES = ("*.json", "*.safetensors", "*.yaml", "*.txt", "*.model", "*.jinja")


def is_local(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether this is meant as a folder here rather than as a hub name (``owner/name``)."""
    text = os.fspath(name_or_path)
    if Path(text).exists() or os.path.isabs(text) or text.startswith((".", "~")):
        return True
    return text.count("/") != 1


def policy_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a policy, fetched from the hub if it is a hub name; UserError for what is no whole policy."""
    path = _folder(name_or_path) if is_local(name_or_path) else from_hub(os.fspath(name_or_path))
    config = read_json(path / CONFIG)
    found, kind = config.get("model_type"), ActionTokenConfig.model_type
    if found != kind:
        raise UserError(f"checkpoint {path} is a '{found}', not a policy ('{kind}'): make one with finetune")
    version = config.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"checkpoint {path} has format {version}, this program knows up to {FORMAT}: update robovlm_ros"
        )
    backbone = config.get("vlm_config")
    check_known(path, backbone.get("model_type") if isinstance(backbone, dict) else None, "its backbone is")
    if not (path / CONTRACT).is_file():
        raise UserError(f"checkpoint {path} is incomplete: {CONTRACT} is missing")
    if config.get("base") is None:
        for file in weight_files(path):
            check_whole(file)
    elif not (path / NEW_PARTS).is_file():
        raise UserError(f"checkpoint {path} is incomplete: {NEW_PARTS} is missing")
    return path


def vlm_folder(path: str | os.PathLike[str]) -> Path:
    """A local folder of a vision-language model; UserError for what is none, or not whole."""
    folder = _folder(path)
    found = read_json(folder / CONFIG).get("model_type")
    if found == ActionTokenConfig.model_type:
        measured = folder / MEASURED
        base = read_json(measured).get("base") if measured.is_file() else None
        where = f"'{base}', as {MEASURED} in it says" if base else "`pretrain` or a hub gave it"
        raise UserError(
            f"{folder} is a policy, not a vision-language model: name what it was made of ({where}; shipped: "
            "checkpoints/tabletop_vlm, checkpoints/tabletop_tasks_vlm)"
        )
    check_known(folder, found, "it is")
    for file in weight_files(folder):
        check_whole(file)
    return folder


def vlm_config(name_or_path: str | os.PathLike[str]) -> Any:
    """The configuration of a vision-language model, from a local folder, which needs no weights, or by a hub name."""
    local = is_local(name_or_path)
    if local:
        folder = _folder(name_or_path)
        check_known(folder, read_json(folder / CONFIG).get("model_type"), "it is")
    try:
        return AutoConfig.from_pretrained(name_or_path, local_files_only=local, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"vision-language model {name_or_path} has no configuration that can be read: {why}") from error


def from_hub(name: str, *, fetch: bool = True) -> Path:
    """The local snapshot of a hub repository; UserError when it is neither here nor to be had.

    With ``fetch`` false nothing is downloaded, and an incomplete snapshot serves.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES), local_files_only=not fetch))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"'{name}' is no folder here, and the hub did not give it: {type(error).__name__}") from error


def _folder(name_or_path: str | os.PathLike[str]) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{path} is a file, not a checkpoint folder: name the folder that holds it")
    raise UserError(f"there is no checkpoint folder {path}")


def check_known(folder: str | os.PathLike[str], model_type: Any, what: str) -> None:
    """UserError unless transformers has a vision-language model of this type."""
    if not isinstance(model_type, str):
        raise UserError(f"checkpoint {folder} is damaged: {CONFIG} names no model_type")
    if model_type not in CONFIG_MAPPING:
        raise UserError(
            f"checkpoint {folder}: {what} a '{model_type}', which transformers {transformers.__version__} does not "
            "know: a newer one may"
        )
    if CONFIG_MAPPING[model_type] not in AutoModelForImageTextToText._model_mapping:
        raise UserError(f"checkpoint {folder}: {what} a '{model_type}', which is no vision-language model")
