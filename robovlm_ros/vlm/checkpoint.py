"""Checkpoint folders: complete, safetensors only, and refused in one line when they are not."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils import logging

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

CONTRACT = "contract.yaml"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)


def save_policy(folder: str | os.PathLike[str], policy: ActionTokenPolicy, processor: ActionTokenProcessor) -> None:
    """Write everything that is needed to act: weights, configuration, processor, contract, statistics."""
    path = save_vlm(folder, policy, processor.backbone)
    text = yaml.safe_dump(processor.contract.to_dict(), sort_keys=False, allow_unicode=True)
    (path / CONTRACT).write_text(text, encoding="utf-8")


def save_vlm(folder: str | os.PathLike[str], model: Any, processor: Any) -> Path:
    """Write a transformers checkpoint folder: weights, configuration and processor; returns its path."""
    path = Path(folder)
    with quiet():
        model.save_pretrained(path)
        processor.save_pretrained(path)
    for file in path.glob("*.safetensors"):
        file.chmod(0o644)  # they are written for the owner alone, which would keep an installed policy from others
    return path


def load_policy(
    folder: str | os.PathLike[str], device: str = "cpu", dtype: str = "auto"
) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """The policy, ready to act, and its processor; UserError for a missing, damaged or foreign folder."""
    path = _checked(folder, ActionTokenConfig.model_type)
    if not (path / CONTRACT).is_file():
        raise UserError(f"checkpoint {path} is incomplete: {CONTRACT} is missing")
    try:
        with quiet():
            # sizes that do not match are reported in `loading`, and refused below with all that does not fit
            policy, loading = ActionTokenPolicy.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
            processor = load_processor(path, policy.vlm.config.model_type, local=True)
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"checkpoint {path} cannot be loaded: {_one_line(error)}") from error
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = sorted(key if isinstance(key, str) else key[0] for kind in kinds for key in loading.get(kind, ()))
    if wrong:
        raise UserError(f"checkpoint {path} does not fit its configuration: {wrong[0]} ({len(wrong)} such weights)")
    return policy.to(device).eval(), ActionTokenProcessor(policy.config, processor)


def load_vlm(name_or_path: str | os.PathLike[str], dtype: str = "auto") -> tuple[Any, Any]:
    """A vision-language model and its processor, from a local folder or by a hub name."""
    local = Path(name_or_path).exists() or os.path.isabs(name_or_path) or str(name_or_path).startswith(".")
    if local:
        path = _checked(name_or_path, None)
        if json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"] == ActionTokenConfig.model_type:
            raise UserError(f"{path} is a policy, not a vision-language model: name what `pretrain` or a hub gave")
    try:
        with quiet():
            model = AutoModelForImageTextToText.from_pretrained(
                name_or_path, local_files_only=local, trust_remote_code=False, dtype=dtype, use_safetensors=True
            )
            processor = load_processor(name_or_path, model.config.model_type, local=local)
    except _BROKEN as error:
        where = "" if local else " (there is no such folder, and the hub did not give it)"
        raise UserError(f"vision-language model {name_or_path} cannot be loaded{where}: {_one_line(error)}") from error
    return model, processor


def load_processor(name_or_path: str | os.PathLike[str], model_type: str, *, local: bool) -> Any:
    """The processor of a folder or hub name, of the class that the folder names or that the family has.

    Videos are left out where the class knows them: a policy sees images, and video processors need packages that
    a robot has no other use for.
    """
    found, _ = ProcessorMixin.get_processor_dict(name_or_path, local_files_only=local)
    name = found.get("processor_class") or PROCESSOR_MAPPING_NAMES.get(model_type)
    loader: Any = getattr(transformers, str(name), AutoProcessor)
    if loader is not AutoProcessor and "video_processor" in loader.get_attributes():
        loader = image_only(loader)
    return loader.from_pretrained(name_or_path, local_files_only=local, trust_remote_code=False)


def image_only(processor_class: Any) -> Any:
    """A processor class of transformers, less its part for videos; folders that it saves bear the same name."""
    kept = [part for part in processor_class.get_attributes() if part != "video_processor"]
    members = {"__doc__": processor_class.__doc__, "get_attributes": classmethod(lambda _: list(kept))}
    return type(processor_class.__name__, (processor_class,), members)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers' own: what is wrong is said in one line by us."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _checked(folder: str | os.PathLike[str], model_type: str | None) -> Path:
    """The folder, after its files were found whole; transformers' own errors are long and late."""
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no checkpoint folder {path}")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        found = config["model_type"]
    except FileNotFoundError as error:
        raise UserError(f"{path} is no checkpoint folder: config.json is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {path} is damaged: config.json cannot be read ({_one_line(error)})") from error
    if model_type is not None and found != model_type:
        raise UserError(f"checkpoint {path} is a '{found}', not a policy ('{model_type}'): make one with finetune")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise UserError(f"checkpoint {path} is incomplete: it has no .safetensors file")
    for file in weights:
        _check_whole(file)
    return path


def _check_whole(file: Path) -> None:
    """UserError unless the file's header agrees with its length."""
    try:
        with safe_open(file, framework="pt") as opened:
            opened.keys()
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint {file.parent} is damaged: {file.name} is no whole safetensors file") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, ... as a device; UserError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device '{name}' is not one of: auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device '{name}' is asked for, but there is no CUDA device: use cpu")
    return device
