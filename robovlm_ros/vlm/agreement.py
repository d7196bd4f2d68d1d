"""A family that nobody tested here may work with the general adapter; whether it does is found out, not assumed."""

from __future__ import annotations

import numpy as np
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.vlm.backbones import FAMILIES
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

_WHOLE, _HALF = 1e-3, 5e-2
"""Largest difference of hidden states in their standard deviations; a wrong mask or position gives more than 0.1."""


def check_family(policy: ActionTokenPolicy, processor: ActionTokenProcessor) -> None:
    """UserError unless the backbone's family is a tested one, or its hidden states are those of its own forward."""
    model_type = policy.vlm.config.model_type
    if model_type in FAMILIES:
        return
    if policy.resampler is not None:  # its positions may follow the grid of patches, as Qwen's do
        raise UserError(
            f"a resampler needs a tested family, which '{model_type}' is not: leave it out "
            f"(tested families: {', '.join(sorted(FAMILIES))})"
        )
    try:
        error = disagreement(policy, processor)
    except Exception as cause:  # whatever an unknown class raises means the same: the general adapter does not fit
        raise UserError(
            f"'{model_type}' does not work as a backbone: {type(cause).__name__}: {' '.join(str(cause).split())[:200]} "
            f"(tested families: {', '.join(sorted(FAMILIES))})"
        ) from cause
    if not error <= (_WHOLE if policy.dtype == torch.float32 else _HALF):
        raise UserError(
            f"'{model_type}' does not work as a backbone: its own forward gives other hidden states (they differ by "
            f"{error:.2g} standard deviations): it needs an adapter in vlm/backbones "
            f"(tested families: {', '.join(sorted(FAMILIES))})"
        )


@torch.inference_mode()
def disagreement(policy: ActionTokenPolicy, processor: ActionTokenProcessor) -> float:
    """Largest difference between our hidden states and the class's own, for noise as images [standard deviations].

    Of the prompt alone, and of the prompt with vectors inserted behind it, which must change nothing in front of
    them: so it is in all these models for the words of an answer.
    """
    policy.eval()
    rng = np.random.default_rng(0)
    contract, words, device = processor.contract, "go", policy.vlm.device
    images = {
        name: rng.integers(0, 256, (contract.camera(name).height, contract.camera(name).width, 3), dtype=np.uint8)
        for name in processor.cameras
    }
    state = np.zeros(len(contract.state_names), np.float32)
    seen = Observation(stamp_ns=0, images=images, state=state, instruction=words)
    ours = {key: value.to(device) for key, value in processor.collate([processor(seen)]).items()}
    backbone, family = policy.backbone, processor.family
    features = policy.image_embeddings(**{key: ours[key] for key in family.image_keys if key in ours})
    layout = {key: ours[key] for key in family.text_keys[2:]}
    tokens = backbone.embed(ours["input_ids"], ours["attention_mask"], features, **layout)
    longer, _ = tokens.insert(torch.ones_like(tokens.embeddings[:, :2]))
    theirs = processor.backbone(
        text=[processor.text(words, len(images))], images=[list(images.values())], return_tensors="pt"
    )
    own = policy.vlm.base_model(**theirs.to(device)).last_hidden_state.float()  # (1, L, D)
    found = torch.cat([backbone.decode(item).float()[:, : own.shape[1]] for item in (tokens, longer)])  # (2, L, D)
    return float((found - own).abs().max() / own.std())
