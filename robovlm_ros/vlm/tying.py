"""Word embeddings that share their weight with the language model's head, and how the two are parted."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.policy import ActionTokenPolicy


def untie(policy: ActionTokenPolicy) -> None:
    """Give the language model's head a weight of its own, equal to the word embedding's, if they share one.

    The configurations say so from then on: a saved folder holds both weights, and is loaded with both. The policy
    never computes the head, so that none of its numbers change; but the model grows by the size of its word
    embedding. UserError for a model that cannot be parted.
    """
    backbone = policy.backbone
    head = backbone.head
    if head is None or not backbone.head_is_tied:
        return
    prefix = next(name for name, part in policy.vlm.named_modules() if part is head) + "."
    before = _tied(policy.vlm)
    owners = [
        part
        for name, part in policy.vlm.named_modules()
        if isinstance(part, PreTrainedModel)
        and any(f"{name}.{tied}".lstrip(".").startswith(prefix) for tied in part.get_expanded_tied_weights_keys())
    ]
    for part in owners:
        part.config.tie_word_embeddings = False
    # one flag of a configuration may tie more than the head, and those must stay one weight when a folder is loaded
    if _tied(policy.vlm) != {name for name in before if not name.startswith(prefix)} or not owners:
        for part in owners:
            part.config.tie_word_embeddings = True
        raise UserError(
            f"train_text_embedding: the word embedding of '{policy.vlm.config.model_type}' shares its weight with the "
            "language model's head and cannot be parted from it: leave it off"
        )
    shared = {id(parameter) for parameter in backbone.text_embedding.parameters()}
    for part in head.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) in shared:
                setattr(part, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    policy.config.vlm_config = policy.vlm.config
    for part in policy.modules():
        if isinstance(part, PreTrainedModel):
            part.all_tied_weights_keys = part.get_expanded_tied_weights_keys(all_submodels=True)


def _tied(model: PreTrainedModel) -> set[str]:
    """Names of the parameters that are made the same as others when the model is loaded."""
    return set(model.get_expanded_tied_weights_keys(all_submodels=True))
