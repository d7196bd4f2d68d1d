"""Checkpoint folders: complete, safetensors only, and refused in one line when they are not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils import logging

from robovlm_ros.checkpoints import ADAPTERS, ATTENTIONS, CONTRACT, Base, find_base
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.adapters import NEW_PARTS, adapted, load_adapters, save_adapters
from robovlm_ros.vlm.computing import check_device, check_model, from_pretrained_options
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.folders import from_hub, is_local, policy_folder, vlm_folder
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.weights import INDEX, weights_sha256

_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)


def save_policy(
    folder: str | os.PathLike[str],
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    base: Base | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write everything that is needed to act: weights, configuration, processor, contract, statistics.

    With ``base``, what was learned is written alone, beside the base's name: see `robovlm_ros.vlm.adapters`. A
    relative name is one from where the program runs, and is written as one from the folder. ``weights`` are the
    policy's by name, where its own are spread over processes.
    """
    path = Path(folder)
    for stale in (
        *path.glob("model*.safetensors"),
        path / INDEX,
        path / NEW_PARTS,
        *path.glob(f"{ADAPTERS}/adapter_*"),
    ):
        stale.unlink(missing_ok=True)  # a folder holds one policy, of one kind
    if base is None:
        if adapted(policy):
            raise ValueError("this policy has adapters: merge_adapters first")
        policy.config.base = None
        vlm = policy.vlm.config
        vlm.name_or_path = Path(vlm.name_or_path).name if Path(vlm.name_or_path).exists() else vlm.name_or_path
        save_vlm(path, policy, processor.backbone, weights)
    else:
        save_adapters(path, policy, base)
        with quiet():
            processor.backbone.save_pretrained(path)
        _readable(path)
    text = yaml.safe_dump(processor.contract.to_dict(), sort_keys=False, allow_unicode=True)
    (path / CONTRACT).write_text(text, encoding="utf-8")


def save_vlm(
    folder: str | os.PathLike[str], model: Any, processor: Any, weights: Mapping[str, torch.Tensor] | None = None
) -> Path:
    """Write a transformers checkpoint folder: weights (the model's own by default), configuration and processor."""
    path = Path(folder)
    with quiet():
        model.save_pretrained(path, state_dict=None if weights is None else dict(weights))
        processor.save_pretrained(path)
    _readable(path)
    return path


def _readable(path: Path) -> None:
    for file in path.rglob("*.safetensors"):
        file.chmod(0o644)  # they are written for the owner alone, which would keep an installed policy from others


def load_policy(
    folder: str | os.PathLike[str],
    device: str = "cpu",
    dtype: str = "auto",
    base: str | os.PathLike[str] | None = None,
    attention: str = "auto",
) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """The policy, ready to act, and its processor; UserError for a missing, damaged or foreign folder.

    ``folder`` may be a hub name. A folder of adapters is put on its base and merged; ``base`` names another place of
    that base, whose weights must be the same: each loading reads them twice, once for their SHA-256. ``dtype`` is that
    of the backbone's weights, ``attention`` how it is computed: see `robovlm_ros.checkpoints`.
    """
    path = policy_folder(folder)
    check_device(attention, torch.device(device))
    how = from_pretrained_options(dtype, attention)
    try:
        with quiet():
            found = find_base(path, base)
            policy = _whole_policy(path, how) if found is None else _adapted_policy(path, *found, how)
            words = load_processor(path, policy.vlm.config.model_type, local=True)
            processor = ActionTokenProcessor(policy.config, words)
    except UserError as error:
        named = str(path) in str(error)
        raise UserError(str(error) if named else f"checkpoint {path}: {error}") from error
    except _BROKEN as error:
        raise UserError(f"checkpoint {path} cannot be loaded{_with(attention)}: {_one_line(error)}") from error
    check_model(policy, attention)
    return policy.to(device).eval(), processor


def _whole_policy(path: Path, how: Mapping[str, Any]) -> ActionTokenPolicy:
    # sizes that do not match are reported in `loading`, and refused below with all that does not fit
    policy, loading = ActionTokenPolicy.from_pretrained(
        path, local_files_only=True, trust_remote_code=False, use_safetensors=True, **how,
        output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    _check_loaded(path, loading, ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found: ActionTokenPolicy = policy
    return found


def _adapted_policy(path: Path, base: Base, folder: Path | None, how: Mapping[str, Any]) -> ActionTokenPolicy:
    config = ActionTokenConfig.from_pretrained(path)
    if folder is None:
        if is_local(base.name):
            raise UserError(
                f"checkpoint {path} holds adapters for the vision-language model {base.name}, which is not there: "
                "put it there, or name its place as the base (convert merge --base)"
            )
        folder = from_hub(base.name)
    base.check(folder, path)
    if how["dtype"] == "auto":
        how = {**how, "dtype": config.dtype or "auto"}
    vlm = _load_model(vlm_folder(folder), local=True, how=how)
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    load_adapters(path, policy)
    return policy


def _check_loaded(path: Any, loading: Mapping[str, Any], kinds: Sequence[str]) -> None:
    """UserError when weights were missing, had another shape, ...: transformers itself would make them up."""
    wrong = sorted(key if isinstance(key, str) else key[0] for kind in kinds for key in loading.get(kind, ()))
    if wrong:
        raise UserError(f"checkpoint {path} does not fit its configuration: {wrong[0]} ({len(wrong)} such weights)")


def load_vlm(name_or_path: str | os.PathLike[str], dtype: str = "auto", attention: str = "auto") -> tuple[Any, Any]:
    """A vision-language model and its processor, from a local folder or by a hub name.

    UserError for a weight that is missing or of another shape. Weights that the class does not use are left aside,
    for published folders have them (a vision tower's pooling, say), and they change nothing.
    """
    how = from_pretrained_options(dtype, attention)
    local = is_local(name_or_path)
    name_or_path = vlm_folder(name_or_path) if local else name_or_path
    try:
        with quiet():
            model = _load_model(name_or_path, local=local, how=how)
            processor = load_processor(name_or_path, model.config.model_type, local=local)
    except UserError:
        raise
    except _BROKEN as error:
        where = "" if local else " (there is no such folder, and the hub did not give it)"
        raise UserError(
            f"vision-language model {name_or_path} cannot be loaded{where}{_with(attention)}: {_one_line(error)}"
        ) from error
    check_model(model, attention)
    return model, processor


def _load_model(name_or_path: str | os.PathLike[str], *, local: bool, how: Mapping[str, Any]) -> Any:
    model, loading = AutoModelForImageTextToText.from_pretrained(
        name_or_path, local_files_only=local, trust_remote_code=False, use_safetensors=True, **how,
        output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    _check_loaded(name_or_path, loading, ("missing_keys", "mismatched_keys"))
    return model


def name_base(name_or_path: str | os.PathLike[str]) -> Base:
    """What a folder of adapters says of its base: the name as it was given, and the content of its weights."""
    folder = vlm_folder(name_or_path) if is_local(name_or_path) else from_hub(os.fspath(name_or_path), fetch=False)
    return Base(name=os.fspath(name_or_path), sha256=weights_sha256(folder))


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

    def from_args_and_dict(cls: Any, /, args: Any, processor_dict: Any, **more: Any) -> Any:
        # some classes insist on being told, and a folder may hold the settings of the part that is left out
        told = {**processor_dict, "video_processor": None}
        return processor_class.from_args_and_dict.__func__(cls, args, told, **more)

    members = {
        "__doc__": processor_class.__doc__,
        "from_args_and_dict": classmethod(from_args_and_dict),
        "get_attributes": classmethod(lambda _: list(kept)),
    }
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


def _with(attention: str) -> str:
    return (
        "" if attention == "auto" else f" with attention '{attention}' (attention is one of: {', '.join(ATTENTIONS)})"
    )


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
