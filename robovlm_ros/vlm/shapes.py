"""Vision-language models of the true size of published ones, with random weights made on the spot.

What a forward costs does not depend on what the weights say: these serve to measure it without a download. Sizes are
those of the published configurations; the vocabulary has the true size, but only the words of `tiny` have a spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from transformers.initialization import no_init_weights
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads import head_options
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor, word_tokenizer

_BLOCK = 1 << 20
"""Random numbers that are drawn; all weights are made of them, one block behind the other."""
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


@dataclass(frozen=True)
class Shape:
    """A vision-language model that can be made."""

    parameters: float
    """Published number of parameters, in millions."""
    about: str
    """What is seen of an image."""
    make: Callable[[], tuple[Any, Any]]
    """Configuration and processor."""


def _words(*special: str) -> Any:
    """A word-level tokenizer in place of the published one: as many tokens for a short instruction, or fewer."""
    return word_tokenizer(special, extra_special_tokens=list(special))


def _tabletop() -> tuple[Any, Any]:
    size = TinyVLMConfig()
    processor = build_processor(size)
    return build_model(size, processor).config, processor


def _smolvlm2(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int) -> tuple[Any, Any]:
    words = _words("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>")
    config = hf.SmolVLMConfig(
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=4,
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 512, "patch_size": 16,
        },
        text_config={
            "model_type": "llama", "vocab_size": 49280, "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": 64,
            "max_position_embeddings": 8192, "tie_word_embeddings": False, **_IDS,
        },
        tie_word_embeddings=False,
        pad_token_id=0,
    )  # fmt: skip
    size = {"longest_edge": 512}
    image = SmolVLMImageProcessorPil(do_image_splitting=False, size=size, max_image_size=size)
    return config, hf.Idefics3Processor(image, words, image_seq_len=64)


def _paligemma(side: int) -> tuple[Any, Any]:
    words = _words("<image>")
    tokens = (side // 14) ** 2
    image = SiglipImageProcessorPil(size={"height": side, "width": side})
    image.image_seq_length = tokens
    config = hf.PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": side, "patch_size": 14,
            "projection_dim": 2048, "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma", "vocab_size": 257216, "hidden_size": 2048, "intermediate_size": 16384,
            "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
            "num_image_tokens": tokens, **_IDS,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=2048,
        hidden_size=2048,
    )  # fmt: skip
    return config, hf.PaliGemmaProcessor(image, words)


def _kosmos2() -> tuple[Any, Any]:
    size = {"height": 224, "width": 224}
    processor = hf.Kosmos2Processor(CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size=size), _words())
    config = hf.Kosmos2Config(
        vision_config={
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 224, "patch_size": 14,
        },
        text_config={
            "vocab_size": 65037, "embed_dim": 2048, "layers": 24, "ffn_dim": 8192, "attention_heads": 32,
            "max_position_embeddings": 2048, **_IDS,
        },
        latent_query_num=64,
    )  # fmt: skip
    return config, processor


SHAPES: dict[str, Shape] = {
    "tabletop": Shape(1.1, "96 px, 16 tokens an image: the shipped policy's", _tabletop),
    "smolvlm2-256m": Shape(256.0, "512 px as one tile, 64 tokens", lambda: _smolvlm2(576, 30, 9, 3, 1536)),
    "smolvlm2-500m": Shape(507.0, "512 px as one tile, 64 tokens", lambda: _smolvlm2(960, 32, 15, 5, 2560)),
    "kosmos-2": Shape(1664.0, "224 px, 64 tokens", _kosmos2),
    "paligemma-3b-224": Shape(2923.0, "224 px, 256 tokens", lambda: _paligemma(224)),
}
"""Name → what can be made."""


def make_vlm(
    name: str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[Any, Any]:
    """A vision-language model of that shape and its processor; UserError lists the shapes.

    Its weights are random and reproducible, but cheap: one block of random numbers repeated, scaled to the width that
    each is summed over; vectors are 1, biases 0. On the ``meta`` device it has none.
    """
    if name not in SHAPES:
        raise UserError(f"backbone shape '{name}' is not one of: {', '.join(SHAPES)}")
    config, processor = SHAPES[name].make()
    with no_init_weights(), torch.device(device):
        model = hf.AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.tie_weights()
    if torch.device(device).type != "meta":
        _fill(model, seed)
    return model.eval(), processor


@torch.no_grad()
def _fill(model: torch.nn.Module, seed: int) -> None:
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(seed))
    blocks: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        key = (weight.dtype, weight.device)
        source = blocks.setdefault(key, block.to(weight.device, weight.dtype))
        flat = weight.view(-1)
        for start in range(0, len(flat), _BLOCK):
            part = flat[start : start + _BLOCK]
            part.copy_(source[: len(part)])
        words = "embed" in name
        flat.mul_(0.02 if words else (weight[0].numel()) ** -0.5)


def make_policy(
    name: str,
    contract: Contract,
    *,
    head: str = "mlp",
    history: str = "one_step",
    window: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """A policy on a backbone of that shape, with one image of each of the contract's cameras and a state token.

    UserError for a combination that cannot work.
    """
    vlm, words = make_vlm(name, dtype, device, seed)
    family = family_of(vlm.config.model_type)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        cameras=[camera.name for camera in contract.cameras],
        state=list(contract.state_names),
        prompt=family.template(words, len(contract.cameras)),
        head=head_options({"type": head}),
        history=history,
        window=window,
    )
    config.check()
    processor = ActionTokenProcessor(config, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = ActionTokenPolicy.from_vlm(vlm, config)
    if policy.action_token is not None:
        torch.nn.init.normal_(policy.action_token, std=0.02)
    return policy.to(device).eval(), processor
