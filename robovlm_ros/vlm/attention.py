"""Where action tokens look: the attention weights of the policy's own forward, on the way to its own actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.grid import ImageGrid
from robovlm_ros.vlm.policy import ActionTokenOutput, ActionTokenPolicy
from robovlm_ros.vlm.sequence import NEW, insert_behind

EARLIER = "earlier"
PARTS = ("images", "words", "state token", "action tokens", EARLIER)
"""What a sequence consists of; marks around images count as words, and all of earlier observations as one."""


@dataclass(frozen=True, kw_only=True)
class TokenAttention:
    """What the action tokens attended to in one forward. L counts prompt, state token and action tokens."""

    weights: torch.Tensor
    """(B, layers, heads, K, L) attention from each of K action tokens; rows sum to 1."""
    rollout: torch.Tensor
    """(B, K, L) attention through all layers, see `attend`; rows sum to 1."""
    ids: torch.Tensor
    """(B, L) word ids, `NEW` where the policy put a vector."""
    positions: torch.Tensor
    """(B, K) of the action tokens."""
    is_image: torch.Tensor
    """(B, L) True at image tokens."""
    frames: int
    """Observations in the sequence, the newest of them last."""
    output: ActionTokenOutput
    """What the forward gave."""

    def shares(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Sums (B, ...) of weights (B, ..., L) over each of PARTS."""
        new = self.ids == NEW  # (B, L)
        action = torch.zeros_like(new).scatter(1, self.positions, True)
        newest = torch.arange(new.shape[1], device=new.device) >= new.shape[1] // self.frames * (
            self.frames - 1
        )  # (L,)
        kinds = (self.is_image, ~self.is_image & ~new, new & ~action, action)
        masks = (*(kind & newest for kind in kinds), (~newest).expand_as(new))  # (B, L) each
        middle = (slice(None), *(None,) * (weights.dim() - 2))
        return {part: (weights * mask[middle]).sum(-1) for part, mask in zip(PARTS, masks, strict=True)}

    def maps(self, weights: torch.Tensor, grids: Sequence[ImageGrid], sample: int = 0) -> list[torch.Tensor]:
        """Of weights (..., L) of one sample, the part (..., rows, columns) on each camera's newest image tokens."""
        on_image = weights[..., self.is_image[sample]]  # (..., frames * N)
        on_image = on_image[..., on_image.shape[-1] // self.frames * (self.frames - 1) :]  # (..., N)
        return [on_image[..., grid.tokens].reshape(*weights.shape[:-1], grid.rows, grid.columns) for grid in grids]


@torch.inference_mode()
def attend(policy: ActionTokenPolicy, inputs: Mapping[str, torch.Tensor]) -> TokenAttention:
    """The policy's forward on a batch of inputs (B, ...), with the attention of its action tokens.

    Of a window (1, W, ...) of history ``interleaved`` it is that of the newest observation, over all of them.

    The text tower computes attention step by step ("eager") for this one forward, for fused kernels keep no weights;
    afterwards all is as it was. Beside each layer's weights A_l (L, L), means over heads, their *rollout* is kept:

        R = B_n ... B_2 B_1,  B_l = (A_l + 1) / 2

    of Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020), section 3: what reaches a position over
    all paths through the layers, when attention and residual connection count the same. An action token may read a
    word that has looked at the image before; the rollout sees that, the weights of single layers do not. Neither
    says how much an action depends on a place: for that, cover the place (`robovlm_ros.runtime.occlusion`).

    Raises:
        UserError: the action tokens do not attend to image tokens in one sequence with them; or there is padding, and
            a history or a head for which the VLM reads on behind what it has read, which moves padding.
    """
    backbone = policy.backbone
    apart = UserError(
        f"the action tokens of a policy on '{backbone.model.config.model_type}' are not in one sequence with the image "
        "tokens that they see: there are no attention weights from the one to the other"
    )
    if not backbone.images_in_sequence:
        raise apart
    if policy.action_token is None:
        raise UserError("this policy has no action token to look from: its latents are means of hidden states")
    mask, prompt = inputs["attention_mask"], inputs["input_ids"]
    interleaved, frames = policy.config.history == "interleaved", 1
    if (interleaved or policy.head.answers) and not bool(mask.all()):
        raise UserError("where the VLM reads on, attention is shown without padding: one observation at a time")
    if mask.dim() == 3:
        if not interleaved or len(mask) != 1:
            raise UserError("attention is of single observations, or of one window of history 'interleaved'")
        frames, mask, prompt = mask.shape[1], mask[0], prompt[0]  # (W, L)
    extra = int(policy.config.latent_num) + (policy.state_token is not None)
    new = prompt.new_full((len(prompt), extra, 1), NEW)  # (B, extra, 1)
    ids, _, positions = insert_behind(prompt[..., None], mask, new)  # (B, L, 1), (B, extra)
    positions = positions[:, -int(policy.config.latent_num) :]  # (B, K)
    if frames > 1:
        positions = positions[-1:] + (frames - 1) * ids.shape[1]  # (1, K)
        ids = ids.reshape(1, -1, 1)  # (1, L, 1), L now of all frames
    batch, length, layers = len(ids), ids.shape[1], len(backbone.decoder_layers)
    kept: list[torch.Tensor] = []
    flow = torch.eye(length, device=prompt.device).expand(batch, -1, -1)  # (B, L, L)
    one = torch.eye(length, device=prompt.device)

    def keep(weights: torch.Tensor | None) -> None:
        nonlocal flow
        if len(kept) == layers:
            return  # an answer that is read on, word by word, behind the action tokens
        if weights is None or weights.shape[-2:] != (length, length):
            raise apart
        weights = weights.float()  # (B, heads, L, L)
        place = positions[:, None, :, None].expand(-1, weights.shape[1], -1, length)  # (B, heads, K, L)
        kept.append(weights.gather(2, place))
        flow = (weights.mean(1) + one) / 2 @ flow

    with _eager(backbone), _watched(backbone, keep):
        output = policy(**inputs)
    if len(kept) != layers:
        raise UserError(
            f"only {len(kept)} of {layers} layers of the text tower of "
            f"'{backbone.model.config.model_type}' keep their attention weights"
        )
    rollout = flow.gather(1, positions[..., None].expand(-1, -1, length))  # (B, K, L)
    return TokenAttention(
        weights=torch.stack(kept, dim=1),  # (B, layers, heads, K, L)
        rollout=rollout,
        ids=ids[..., 0],
        positions=positions,
        is_image=ids[..., 0] == backbone.image_token_id,
        frames=frames,
        output=output,
    )


def image_grids(
    policy: ActionTokenPolicy, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
) -> list[ImageGrid]:
    """How each camera's image tokens lie in its image (height, width, 3); UserError where that cannot be known.

    ``inputs`` are those of one observation, without a batch dimension; ``processor`` is the backbone's own.
    """
    if policy.resampler is not None:
        raise UserError("resampled image tokens have no place in the image: learned queries draw each of all")
    return policy.backbone.image_grids(processor, inputs, shapes)


@contextmanager
def _eager(backbone: Backbone) -> Iterator[None]:
    """Attention step by step wherever it is not the vision tower's, and as before afterwards."""
    vision = {id(module.config) for module in backbone.vision.modules() if hasattr(module, "config")}
    configs = {
        id(module.config): module.config
        for module in backbone.model.modules()
        if hasattr(module, "config") and id(module.config) not in vision
    }
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = "eager"  # the property would set the vision tower's, too
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


@contextmanager
def _watched(backbone: Backbone, keep: Callable[[torch.Tensor | None], None]) -> Iterator[None]:
    """Hands the attention weights (B, heads, L, L) of each text layer to ``keep``."""

    def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
        keep(result[1] if isinstance(result, tuple) and len(result) > 1 else None)

    handles = []
    try:
        for layer in backbone.decoder_layers:
            attention = getattr(layer, "self_attn", None)
            if isinstance(attention, nn.Module):
                handles.append(attention.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
