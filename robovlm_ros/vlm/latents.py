"""Where action latents come from: the hidden states of action tokens, or pooled ones of the prompt itself."""

from __future__ import annotations

from typing import Any

import torch

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import Tokens

LATENTS = ("action_token", "down_sample")
"""``action_token``: the last hidden states at learned tokens behind the prompt. ``down_sample``: no token is added; the
last hidden states of the prompt are pooled to ``latent_num`` means."""

POOLED = ("text", "vision", "all")
"""What ``down_sample`` pools: the image places (``vision``), all that is none, the state token among it (``text``), or
both."""


def check_latents(config: Any, family: type[Backbone]) -> None:
    """UserError unless the source of latents that a configuration asks for can know what to do."""
    if config.latents not in LATENTS:
        raise UserError(f"latents '{config.latents}' is not one of: {', '.join(LATENTS)}")
    if config.pooled not in POOLED:
        raise UserError(f"pooled '{config.pooled}' is not one of: {', '.join(POOLED)}")
    if config.latents == "action_token":
        if config.pooled != "all":
            raise UserError(f"pooled '{config.pooled}' is for latents 'down_sample', which are means: choose these too")
        return
    if config.shared_action_token:
        raise UserError("shared_action_token: with latents 'down_sample' there is no action token to share")
    if family.not_pooled:
        raise UserError(f"latents 'down_sample' cannot work with this backbone: {family.not_pooled}")
    if config.pooled != "vision":
        return
    if not family.images_in_sequence:
        raise UserError(
            "pooled 'vision': this backbone's images have no place in the sequence: choose pooled text or all"
        )
    if config.state:
        raise UserError(
            "pooled 'vision': the state token stands behind the images, which therefore never see it: "
            "choose pooled all or text, or no state"
        )
    leads = family.images_lead or config.prompt.find("{image") < config.prompt.find("{instruction}")
    if leads and not family.sees_ahead:
        raise UserError(
            "pooled 'vision': in this causal backbone the images do not see an instruction that follows them: "
            "choose pooled all or text"
            + ("" if family.images_lead else ", or a prompt with {instruction} before {images}")
        )


def pool_latents(
    hidden: torch.Tensor, tokens: Tokens, backbone: Backbone, *, pooled: str, latent_num: int
) -> torch.Tensor:
    """(B, latent_num, D) means of the last hidden states (B, L, D) over the real tokens of a kind in `POOLED`."""
    real = tokens.mask != 0  # (B, L)
    image = tokens.ids == backbone.image_token_id if backbone.images_in_sequence else torch.zeros_like(real)  # (B, L)
    chosen = {"text": real & ~image, "vision": real & image, "all": real}[pooled]  # (B, L)
    return pool(hidden, chosen, latent_num)


def pool(values: torch.Tensor, chosen: torch.Tensor, count: int) -> torch.Tensor:
    """(B, count, D) adaptive means of the chosen ones among values (B, L, D), in their order, wherever they lie.

    Of n chosen values, mean k is that of those from floor(k n / count) to below ceil((k + 1) n / count), as in
    `torch.nn.functional.adaptive_avg_pool1d` on these n alone. Zeros where none is chosen.

    Args:
        values: (B, L, D).
        chosen: (B, L) True where a value counts.
        count: means to make.
    """
    rank = chosen.cumsum(1) - 1  # (B, L) place of each among the chosen
    total = chosen.sum(1)[:, None, None]  # (B, 1, 1)
    slot = torch.arange(count, device=values.device)[:, None]  # (count, 1)
    first, end = slot * total // count, -(-(slot + 1) * total // count)  # (B, count, 1)
    inside = chosen[:, None] & (rank[:, None] >= first) & (rank[:, None] < end)  # (B, count, L)
    weight = inside.float() / inside.sum(2, keepdim=True).clamp(min=1)  # (B, count, L)
    # padding may hold anything, and 0 times not-a-number is none
    return weight @ values.float().masked_fill(~chosen[..., None], 0.0)  # (B, count, D)
