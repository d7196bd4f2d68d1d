"""Adapters (LoRA) beside a policy's linear layers: put there, merged, saved without the base, and loaded again.

A folder of adapters holds what was learned and nothing else::

    config.json, contract.yaml, processor      as in every policy folder; config.json names the base and its content
    new_parts.safetensors                      action tokens, state token, head, and base weights that trained besides
    adapters/                                  adapter_config.json and adapter_model.safetensors, in peft's own format

so that ``PeftModel.from_pretrained(base, "FOLDER/adapters")`` gives the adapted vision-language model, too.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from robovlm_ros.checkpoints import ADAPTERS, Base
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.tying import untie
from robovlm_ros.weights import check_whole, read_json

NEW_PARTS = "new_parts.safetensors"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""What peft puts before the names of the model that it wraps."""


def adaptable(policy: ActionTokenPolicy, targets: Sequence[str] = ()) -> list[str]:
    """Names of the backbone's linear layers that would train, and of these the ones that ``targets`` name.

    A target is a part of a layer's dotted name: its end (``q_proj``), what it lies in (``self_attn``, ``mlp``), or
    several parts in a row (``self_attn.q_proj``). UserError, with what there is, for a target that names none.
    """
    names = [  # the type itself: parts of multi-head attention are subclasses, whose weights are used without a call
        name for name, part in policy.vlm.named_modules() if type(part) is nn.Linear and part.weight.requires_grad
    ]
    if not names:
        raise UserError("lora_rank: under these switches no linear layer of the backbone trains: nothing to adapt")
    for target in targets:
        if not any(_names(target, name) for name in names):
            ends = sorted({name.rpartition(".")[2] for name in names})
            around = sorted({name.split(".")[-2] for name in names if "." in name} - set(ends))
            around = [name for name in around if not name.isdecimal()]
            raise UserError(
                f"lora_targets: no linear layer that would train is named '{target}' (layers: {', '.join(ends)}"
                + (f"; in: {', '.join(around)})" if around else ")")
            )
    return [name for name in names if not targets or any(_names(target, name) for target in targets)]


def _names(target: str, layer: str) -> bool:
    return f".{target}." in f".{layer}."


def add_adapters(
    policy: ActionTokenPolicy, layers: Sequence[str], *, rank: int, alpha: float, dropout: float, seed: int
) -> None:
    """Low-rank adapters (Hu et al. 2021, "LoRA") beside these layers of the backbone; all else of it stops training.

    A layer W x becomes W x + alpha / rank B A x with A (rank, in) and B (out, rank), which begins as zero.
    """
    config = _peft().LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=sorted(layers))
    _put(policy, config, seed)


def merge_adapters(policy: ActionTokenPolicy) -> None:
    """Add what the adapters learned to the weights that they stand beside, and take them away."""
    for name in adapted(policy):
        parent, _, child = name.rpartition(".")
        layer: Any = policy.vlm.get_submodule(name)
        layer.merge(safe_merge=True)
        setattr(policy.vlm.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(policy.vlm, "peft_config"):
        del policy.vlm.peft_config


def adapted(policy: ActionTokenPolicy) -> list[str]:
    """Names of the backbone's layers that have adapters."""
    return [name for name, part in policy.vlm.named_modules() if hasattr(part, "lora_A")]


def save_adapters(folder: str | os.PathLike[str], policy: ActionTokenPolicy, base: Base) -> None:
    """Write what was learned: all that is new, adapters, and the base's weights that trained besides.

    A relative path to the base is one from where the program runs, and is written as one from the folder: both can
    then be moved together.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if not os.path.isabs(base.name) and Path(base.name).is_dir():
        base = Base(name=os.path.relpath(base.name, path), sha256=base.sha256)
    config = copy.deepcopy(policy.config)
    config.base, config.dtype, config.architectures = base.to_dict(), policy.dtype, [type(policy).__name__]
    config.save_pretrained(path)
    named = policy.state_dict(keep_vars=True)
    once = {id(value): name for name, value in reversed(named.items())}  # one weight may have several names
    kept = {
        name: value.detach().cpu().contiguous()
        for name, value in named.items()
        if once[id(value)] == name and (not name.startswith("vlm.") or (value.requires_grad and ".lora_" not in name))
    }
    save_file(kept, path / NEW_PARTS, metadata={"format": "pt"})
    adapters = path / ADAPTERS
    if not adapted(policy):
        return
    adapters.mkdir(exist_ok=True)
    found = policy.vlm.peft_config["default"]
    values = {**found.to_dict(), "base_model_name_or_path": base.name, "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, (set, frozenset)) else value for key, value in values.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    (adapters / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
    weights = _peft().get_peft_model_state_dict(policy.vlm, save_embedding_layers=False)
    save_file(
        {_PREFIX + name: value.detach().cpu().contiguous() for name, value in weights.items()},
        adapters / ADAPTER_WEIGHTS,
        metadata={"format": "pt"},
    )


def load_adapters(folder: Path, policy: ActionTokenPolicy) -> None:
    """Read what `save_adapters` wrote into a policy on its base, and merge it, so that it costs nothing to run.

    UserError for a weight that is missing, unexpected or of another shape.
    """
    new = _read(folder / NEW_PARTS)
    words = {id(parameter) for parameter in policy.backbone.text_embedding.parameters()}
    if any(id(value) in words for name, value in policy.state_dict(keep_vars=True).items() if name in new):
        untie(policy)  # what the word embedding learned, the base's head did not
    own = policy.state_dict(keep_vars=True)
    wanted = {name: value for name, value in own.items() if not name.startswith("vlm.") or name in new}
    _copy(folder / NEW_PARTS, new, wanted)
    adapters = folder / ADAPTERS
    if not adapters.is_dir():
        return
    if read_json(adapters / ADAPTER_CONFIG).get("peft_type") != "LORA":
        raise UserError(f"checkpoint {folder} is damaged: {ADAPTERS}/{ADAPTER_CONFIG} is not of the type LORA")
    try:
        config = _peft().PeftConfig.from_pretrained(str(adapters))
        _put(policy, config, seed=0)
    except (TypeError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {folder}: its adapters do not fit the base ({why})") from error
    places = {
        _PREFIX + name.replace(".default.", "."): value
        for name, value in policy.vlm.named_parameters()
        if ".lora_" in name
    }
    _copy(adapters / ADAPTER_WEIGHTS, _read(adapters / ADAPTER_WEIGHTS), places)
    merge_adapters(policy)


def _put(policy: ActionTokenPolicy, config: Any, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _peft().LoraModel(policy.vlm, config, "default")  # changes the model in place, and turns all but adapters off
    for name, parameter in policy.vlm.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()  # they learn in whole where the backbone computes in halves


def _read(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise UserError(f"checkpoint {file.parent} is incomplete: {file.name} is missing")
    check_whole(file)
    try:
        found: dict[str, torch.Tensor] = load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {file.parent} is damaged: {file.name} cannot be read") from error
    return found


@torch.no_grad()
def _copy(file: Path, found: Mapping[str, torch.Tensor], places: Mapping[str, nn.Parameter]) -> None:
    wrong = sorted(set(found) ^ set(places))
    wrong += sorted(name for name in set(found) & set(places) if found[name].shape != places[name].shape)
    if wrong:
        raise UserError(
            f"checkpoint {file.parent} does not fit its configuration: {wrong[0]} ({len(wrong)} such weights)"
        )
    for name, value in found.items():
        places[name].copy_(value)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError("adapters (lora_rank) need the package peft: install it with pip") from error
    return peft
