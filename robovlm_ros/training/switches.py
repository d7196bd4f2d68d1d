"""Which parts of the policy learn. The order below is the order in which the switches apply.

| switch | effect |
|---|---|
| `freeze_backbone` | the whole vision-language model off, else on |
| `train_decoder_layers` = N | only if not frozen and N >= 0: all off, then the last N layers of the text tower on |
| `train_vision` | vision tower and its connector on or off |
| `lora_rank` > 0 | each linear layer that would train gets adapters, which train; all other weights so far do not |
| `train_text_embedding` | word embedding on or off |
| `freeze_action_token` | action tokens off, so that they stay zero: an ablation, to see what they are worth |
| always | state token and policy head on; the language model's head off, for it is never computed |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What of the vision-language model is trained."""

    freeze_backbone: bool = False
    """Keep the whole vision-language model as it is."""
    train_decoder_layers: int = -1
    """Train only the last N layers of the text tower; -1: all."""
    train_vision: bool = False
    """Train the vision tower and its connector."""
    train_text_embedding: bool = False
    """Train the word embedding."""
    lora_rank: int = 0
    """Rank of adapters (LoRA) beside the linear layers that would train; 0: train the layers themselves."""
    lora_alpha: float = 16.0
    """Scale of the adapters: what they add is multiplied by lora_alpha / lora_rank."""
    lora_dropout: float = 0.05
    """Share of an adapter's inputs that is dropped in training."""
    freeze_action_token: bool = False
    """Keep the action tokens at zero: an ablation."""


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """One row of what learns."""

    part: str
    """Name of the part."""
    parameters: int
    """Parameters of the part."""
    trained: int
    """Of these, how many learn."""


def apply_switches(policy: ActionTokenPolicy, switches: Switches, seed: int = 0) -> None:
    """Set ``requires_grad`` of every parameter; UserError for a switch that this model cannot have.

    Adapters are added here, and stay until `merge_adapters`; ``seed`` is that of their first weights.
    """
    if any(hasattr(part, "lora_A") for part in policy.vlm.modules()):
        raise ValueError("this policy has adapters: merge_adapters first")
    backbone = policy.backbone
    layers = backbone.decoder_layers
    count = switches.train_decoder_layers
    if not -1 <= count <= len(layers):
        raise UserError(f"train_decoder_layers must be -1 or 0 to {len(layers)} for this model, not {count}")
    if switches.train_text_embedding and backbone.head_is_tied:
        raise UserError(
            "train_text_embedding: this model's word embedding is tied to its head, which the policy never computes; "
            "training it would silently change the language model: leave it off"
        )
    policy.vlm.requires_grad_(not switches.freeze_backbone)
    if not switches.freeze_backbone and count >= 0:
        policy.vlm.requires_grad_(False)
        for layer in list(layers)[len(layers) - count :]:
            layer.requires_grad_(True)
    for part in (backbone.vision, backbone.connector):
        if part is not None:
            part.requires_grad_(switches.train_vision)
    for parameter in backbone.image_parameters:
        parameter.requires_grad_(switches.train_vision)
    if backbone.head is not None:
        backbone.head.requires_grad_(False)
    backbone.text_embedding.requires_grad_(False)
    if switches.lora_rank != 0:
        _add_adapters(policy, switches, seed)
    backbone.text_embedding.requires_grad_(switches.train_text_embedding)
    for parameter in policy.new_parameters:
        parameter.requires_grad_(True)
    policy.action_token.requires_grad_(not switches.freeze_action_token)


def _add_adapters(policy: ActionTokenPolicy, switches: Switches, seed: int) -> None:
    """Low-rank adapters (Hu et al. 2021, "LoRA") beside every linear layer whose weight would train."""
    rank, dropout = switches.lora_rank, switches.lora_dropout
    if rank < 1 or not 0 <= dropout < 1:
        raise UserError(f"lora_rank must be at least 0 and lora_dropout in [0, 1), not {rank} and {dropout}")
    names = [  # the type itself: parts of multi-head attention are subclasses, whose weights are used without a call
        name for name, part in policy.vlm.named_modules() if type(part) is nn.Linear and part.weight.requires_grad
    ]
    if not names:
        raise UserError("lora_rank: under these switches no linear layer of the backbone trains: nothing to adapt")
    try:
        from peft import LoraConfig, LoraModel
    except ImportError as error:
        raise UserError("lora_rank needs the package peft: install it with pip, or set lora_rank to 0") from error
    config = LoraConfig(r=rank, lora_alpha=switches.lora_alpha, lora_dropout=dropout, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LoraModel(policy.vlm, config, "default")  # changes the model in place, and turns all but adapters off
    for parameter in policy.vlm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # they learn in whole where the backbone computes in halves


def merge_adapters(policy: ActionTokenPolicy) -> None:
    """Add what the adapters learned to the weights that they stand beside, and take them away."""
    adapted = [name for name, part in policy.vlm.named_modules() if hasattr(part, "lora_A")]
    for name in adapted:
        parent, _, child = name.rpartition(".")
        layer: Any = policy.vlm.get_submodule(name)
        layer.merge(safe_merge=True)
        setattr(policy.vlm.get_submodule(parent), child, layer.get_base_layer())
    if adapted:
        del policy.vlm.peft_config


def trainable(policy: ActionTokenPolicy) -> list[Trainable]:
    """What learns, part by part; every parameter is counted once."""
    backbone = policy.backbone
    parts = {
        "vision tower": backbone.vision,
        "connector": backbone.connector,
        "word embedding": backbone.text_embedding,
        "text tower": backbone.decoder,
        "language model head": backbone.head,
        "state token": policy.state_token,
        "policy head": policy.head,
        "backbone, other": policy.vlm,
        "action tokens": policy,
    }
    seen: set[int] = set()
    rows = []
    for name, part in parts.items():
        own = [] if part is None else [p for p in part.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        if own:
            trained = sum(p.numel() for p in own if p.requires_grad)
            rows.append(Trainable(part=name, parameters=sum(p.numel() for p in own), trained=trained))
    return rows
