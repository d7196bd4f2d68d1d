"""Families of vision-language models that differ from the general case, and those that cannot work."""

from __future__ import annotations

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.backbones.florence2 import Florence2Backbone
from robovlm_ros.vlm.backbones.gemma import Gemma3Backbone, PaliGemmaBackbone
from robovlm_ros.vlm.backbones.idefics import IdeficsBackbone
from robovlm_ros.vlm.backbones.idefics3 import Idefics3Backbone
from robovlm_ros.vlm.backbones.internvl import InternVLBackbone
from robovlm_ros.vlm.backbones.kosmos2 import Kosmos2Backbone
from robovlm_ros.vlm.backbones.llava_onevision import LlavaOnevisionBackbone
from robovlm_ros.vlm.backbones.qwen import Qwen3VLBackbone, QwenBackbone

FAMILIES: dict[str, type[Backbone]] = {
    "florence2": Florence2Backbone,
    "gemma3": Gemma3Backbone,
    "idefics": IdeficsBackbone,
    "idefics3": Idefics3Backbone,
    "internvl": InternVLBackbone,
    "kosmos-2": Kosmos2Backbone,
    "llava": Backbone,
    "llava_onevision": LlavaOnevisionBackbone,
    "paligemma": PaliGemmaBackbone,
    "qwen2_5_vl": QwenBackbone,
    "qwen2_vl": QwenBackbone,
    "qwen3_vl": Qwen3VLBackbone,
    "smolvlm": Idefics3Backbone,
}
"""transformers' ``model_type`` → how the policy talks to that family. All of these are tested."""

_CROSS = "its text tower looks at tiles of images by cross-attention, for which there is no adapter"
_ENCODER_DECODER = "it is an encoder-decoder that no adapter gives action tokens to"

REFUSED: dict[str, str] = {
    "mllama": _CROSS,
    "pix2struct": _ENCODER_DECODER,
    "t5gemma2": _ENCODER_DECODER,
    "udop": _ENCODER_DECODER,
}
"""transformers' ``model_type`` → why that family cannot be a backbone."""
