"""Families of vision-language models that differ from the general case: one file each."""

from __future__ import annotations

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.backbones.idefics3 import Idefics3Backbone

FAMILIES: dict[str, type[Backbone]] = {
    "idefics3": Idefics3Backbone,
    "smolvlm": Idefics3Backbone,
}
"""transformers' ``model_type`` → how the policy talks to that family."""
