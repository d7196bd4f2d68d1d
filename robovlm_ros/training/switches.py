"""Which parts of the policy learn. The order below is the order in which the switches apply.

| switch | effect |
|---|---|
| `freeze_backbone` | the whole vision-language model off, else on |
| `train_decoder_layers` = N | only if not frozen and N >= 0: all off, then the last N layers of the text tower on |
| `train_vision` | vision tower and its connector on or off |
| `train_text_embedding` | word embedding on or off |
| always | action tokens, state token and policy head on; the language model's head off, for it is never computed |
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """One row of what learns."""

    part: str
    """Name of the part."""
    parameters: int
    """Parameters of the part."""
    trained: int
    """Of these, how many learn."""


def apply_switches(policy: ActionTokenPolicy, switches: Switches) -> None:
    """Set ``requires_grad`` of every parameter; UserError for a switch that this model cannot have."""
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
    if backbone.head is not None:
        backbone.head.requires_grad_(False)
    backbone.text_embedding.requires_grad_(switches.train_text_embedding)
    for parameter in policy.new_parameters:
        parameter.requires_grad_(True)


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
