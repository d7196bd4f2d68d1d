"""Which parts of the policy learn. The order below is the order in which the switches apply.

| switch | effect |
|---|---|
| `freeze_backbone` | the whole vision-language model off, else on |
| `train_decoder_layers` = N | only if not frozen and N >= 0: all off, then the last N layers of the text tower on |
| `train_vision` | vision tower and its connector on or off |
| `lora_rank` > 0 | linear layers that would train (all or `lora_targets`) get adapters, which train, the rest not |
| `train_text_embedding` | word embedding on or off; one that is tied to the language model's head is parted from it |
| `freeze_resampler` | the resampler, if there is one, off, else on |
| `freeze_action_token` | action tokens off, so that they stay zero: an ablation, to see what they are worth |
| always | state token and policy head on; the language model's head off, for it is never computed |
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.adapters import adaptable, adapted, add_adapters
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.tying import untie


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
    """Train the word embedding; where the language model's head shares its weight, the head keeps a copy as it was."""
    lora_rank: int = 0
    """Rank of adapters (LoRA) beside the linear layers that would train; 0: train the layers themselves."""
    lora_alpha: float = 16.0
    """Scale of the adapters: what they add is multiplied by lora_alpha / lora_rank."""
    lora_dropout: float = 0.05
    """Share of an adapter's inputs that is dropped in training."""
    lora_targets: tuple[str, ...] = ()
    """Which of these layers get adapters, by parts of their names: an end such as q_proj, or what they lie in, such as
    self_attn or mlp; empty: all of them."""
    freeze_resampler: bool = False
    """Keep the resampler, which is random at first, as it is."""
    freeze_action_token: bool = False
    """Keep the action tokens at zero: an ablation."""

    def __post_init__(self) -> None:
        if self.lora_rank < 0 or not 0 <= self.lora_dropout < 1:
            raise UserError(
                f"lora_rank must be at least 0 and lora_dropout in [0, 1), not {self.lora_rank} and {self.lora_dropout}"
            )
        if self.lora_targets and not self.lora_rank:
            raise UserError(f"lora_targets {', '.join(self.lora_targets)} need a lora_rank above 0")


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
    if adapted(policy):
        raise ValueError("this policy has adapters: merge_adapters first")
    if switches.freeze_resampler and policy.resampler is None:
        raise UserError("freeze_resampler: this policy has no resampler: leave it off")
    if switches.freeze_action_token and policy.action_token is None:
        raise UserError("freeze_action_token: with latents 'down_sample' there is no action token: leave it off")
    backbone = policy.backbone
    layers = backbone.decoder_layers
    count = switches.train_decoder_layers
    if not -1 <= count <= len(layers):
        raise UserError(f"train_decoder_layers must be -1 or 0 to {len(layers)} for this model, not {count}")
    if switches.train_text_embedding:
        untie(policy)
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
        adapting = adaptable(policy, switches.lora_targets)
        alpha, dropout = switches.lora_alpha, switches.lora_dropout
        add_adapters(policy, adapting, rank=switches.lora_rank, alpha=alpha, dropout=dropout, seed=seed)
    backbone.text_embedding.requires_grad_(switches.train_text_embedding)
    for parameter in policy.new_parameters:
        parameter.requires_grad_(True)
    if policy.resampler is not None:
        policy.resampler.requires_grad_(not switches.freeze_resampler)
    if policy.action_token is not None:
        policy.action_token.requires_grad_(not switches.freeze_action_token)


def trainable(policy: ActionTokenPolicy) -> list[Trainable]:
    """What learns, part by part; every parameter is counted once."""
    return [
        Trainable(
            part=name,
            parameters=sum(p.numel() for p in own),
            trained=sum(p.numel() for p in own if p.requires_grad),
        )
        for name, (_, own) in parts(policy).items()
    ]


def parts(policy: ActionTokenPolicy) -> dict[str, tuple[nn.Module, list[nn.Parameter]]]:
    """Name of each part → its module and what of it belongs to no part before it; parts without any are left out."""
    backbone = policy.backbone
    modules = {
        "vision tower": backbone.vision,
        "connector": backbone.connector,
        "word embedding": backbone.text_embedding,
        "text tower": backbone.decoder,
        "language model head": backbone.head,
        "resampler": policy.resampler,
        "state token": policy.state_token,
        "policy head": policy.head,
        "backbone, other": policy.vlm,
        "action tokens": policy,
    }
    seen: set[int] = set()
    found = {}
    for name, module in modules.items():
        own = [] if module is None else [p for p in module.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        if module is not None and own:
            found[name] = (module, own)
    return found
