"""Tiny models of the real classes of transformers, one for each family, with processors of the real classes.

Weights are random and sizes small, but classes, attention and positions are those that users load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics.image_processing_pil_idefics import IdeficsImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from robovlm_ros.vlm.checkpoint import image_only
from robovlm_ros.vlm.tiny import word_tokenizer

WIDTH = 32
SIDE = 28
"""Side of the images [px]: two by two patches, or one by one after merging, of 14 px."""

TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
SIGLIP: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 7,
    "initializer_range": 0.2,
}


def tokenizer(named: dict[str, str] | None = None, words: tuple[str, ...] = ()) -> Any:
    """A word-level tokenizer with special words, some of which are attributes (``image_token``, ...)."""
    named = named or {}
    special = (*named.values(), *words)
    return word_tokenizer(special, extra_special_tokens=named or list(words), model_max_length=512)


def square(processor: Any) -> Any:
    """The image processor's class, for images of `SIDE` px."""
    return processor(size={"height": SIDE, "width": SIDE})


def paligemma(text_type: str) -> tuple[Any, Any]:
    words = tokenizer(words=("<image>",))
    processor = square(SiglipImageProcessorPil)
    processor.image_seq_length = 16
    more = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    config = hf.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "vision_use_head": False},
        text_config={
            "model_type": text_type, **TEXT, "vocab_size": len(words), **(more if text_type == "gemma2" else {})
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )  # fmt: skip
    return hf.PaliGemmaForConditionalGeneration(config), hf.PaliGemmaProcessor(processor, words)


def llava() -> tuple[Any, Any]:
    words = tokenizer({"image_token": "<image>"})
    processor = LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    config = hf.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **SIGLIP, "projection_dim": WIDTH},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    return hf.LlavaForConditionalGeneration(config), hf.LlavaProcessor(
        processor, words, patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )


def llava_onevision() -> tuple[Any, Any]:
    words = tokenizer({"image_token": "<image>", "video_token": "<video>"})
    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    config = hf.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "vision_use_head": False},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), image_only(hf.LlavaOnevisionProcessor)(
        processor, words, num_image_tokens=16, vision_feature_select_strategy="full"
    )


def gemma3() -> tuple[Any, Any]:
    words = tokenizer(
        {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    )
    config = hf.Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "vision_use_head": False},
        text_config={
            **TEXT, "vocab_size": len(words), "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16,
        },
        mm_tokens_per_image=4,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        image_token_index=words.image_token_id,
    )  # fmt: skip
    model = hf.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)  # zero in the class
    return model, hf.Gemma3Processor(square(Gemma3ImageProcessorPil), words, image_seq_length=4)


QWEN_WORDS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def qwen(kind: str) -> tuple[Any, Any]:
    words = tokenizer(words=QWEN_WORDS)
    start, end, image, video = words.convert_tokens_to_ids(list(QWEN_WORDS))
    ids = {
        "image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end,
    }  # fmt: skip
    patch = {"patch_size": 7, "temporal_patch_size": 2, "spatial_merge_size": 2}
    text = {
        **TEXT, "vocab_size": len(words),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    if kind == "qwen2_vl":
        vision = {**patch, "embed_dim": WIDTH, "hidden_size": WIDTH, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
        model = hf.Qwen2VLForConditionalGeneration(hf.Qwen2VLConfig(vision_config=vision, text_config=text, **ids))
        made = hf.Qwen2VLProcessor
    elif kind == "qwen2_5_vl":
        vision = {
            **patch, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "depth": 2, "num_heads": 2,
            "intermediate_size": 48, "window_size": 28, "fullatt_block_indexes": [1],
        }  # fmt: skip
        model = hf.Qwen2_5_VLForConditionalGeneration(
            hf.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **ids)
        )
        made = hf.Qwen2_5_VLProcessor
    else:
        vision = {
            **patch, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "depth": 2, "num_heads": 2,
            "intermediate_size": 48, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        }  # fmt: skip
        model = hf.Qwen3VLForConditionalGeneration(hf.Qwen3VLConfig(vision_config=vision, text_config=text, **ids))
        made = hf.Qwen3VLProcessor
    processor = Qwen2VLImageProcessorPil(
        patch_size=7, temporal_patch_size=2, merge_size=2, size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2 * 2}
    )
    return model, image_only(made)(processor, words)


def smolvlm() -> tuple[Any, Any]:
    words = tokenizer(words=("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"))
    side = 32  # transformers 5.20 wants image tokens in multiples of the patch's side, as all published sizes have
    config = hf.SmolVLMConfig(
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        vision_config={**SIGLIP, "image_size": side, "patch_size": 4},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        pad_token_id=0,
    )
    processor = SmolVLMImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": side}, max_image_size={"longest_edge": side}
    )
    return hf.SmolVLMForConditionalGeneration(config), hf.Idefics3Processor(processor, words, image_seq_len=16)


def internvl() -> tuple[Any, Any]:
    words = tokenizer(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
    )
    config = hf.InternVLConfig(
        vision_config={**SIGLIP, "image_size": [SIDE, SIDE], "patch_size": [7, 7]},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
    )
    return hf.InternVLForConditionalGeneration(config), image_only(hf.InternVLProcessor)(
        square(GotOcr2ImageProcessorPil), words, image_seq_length=4
    )


def kosmos2() -> tuple[Any, Any]:
    words = tokenizer()
    processor = hf.Kosmos2Processor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        words,
        num_patch_index_tokens=4,
    )
    config = hf.Kosmos2Config(
        vision_config={**SIGLIP, "initializer_range": 0.02, "hidden_act": "gelu"},
        text_config={
            "vocab_size": len(words), "embed_dim": WIDTH, "layers": 2, "ffn_dim": 48, "attention_heads": 2,
            "max_position_embeddings": 256, "dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.2,
            "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        },
        latent_query_num=64,
    )  # fmt: skip
    return hf.Kosmos2ForConditionalGeneration(config), processor


def idefics() -> tuple[Any, Any]:
    words = tokenizer(words=("<fake_token_around_image>", "<image>"))
    config = hf.IdeficsConfig(
        vision_config={
            "embed_dim": WIDTH, "image_size": SIDE, "patch_size": 14, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "initializer_range": 0.2,
        },
        perceiver_config={
            "use_resampler": True, "resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 2,
            "resampler_head_dim": 16,
        },
        use_resampler=True,
        alpha_initializer="ones",  # zero in the class: images then change nothing before it is trained
        vocab_size=len(words) - 2,
        additional_vocab_size=2,
        **{key: TEXT[key] for key in (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
            "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id",
        )},
    )  # fmt: skip
    return hf.IdeficsForVisionText2Text(config), hf.IdeficsProcessor(IdeficsImageProcessorPil(image_size=SIDE), words)


def florence2() -> tuple[Any, Any]:
    words = tokenizer({"image_token": "<image>"})
    processor = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    processor.image_seq_length = 5
    config = hf.Florence2Config(
        vision_config={
            "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [7, 2], "patch_padding": [3, 1],
            "patch_prenorm": [False, True], "embed_dim": [16, WIDTH], "num_heads": [2, 2], "num_groups": [2, 2],
            "window_size": 2, "projection_dim": WIDTH, "max_position_embeddings": 8, "max_temporal_embeddings": 4,
        },
        text_config={
            "model_type": "bart", "vocab_size": len(words), "d_model": WIDTH, "encoder_layers": 1, "decoder_layers": 2,
            "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "max_position_embeddings": 64, "dropout": 0.0, "init_std": 0.2, "pad_token_id": 0, "bos_token_id": 2,
            "eos_token_id": 3, "decoder_start_token_id": 3,
        },
        image_token_id=words.image_token_id,
    )  # fmt: skip
    return hf.Florence2ForConditionalGeneration(config), hf.Florence2Processor(processor, words)


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of a family, and what it has."""

    make: Callable[[], tuple[Any, Any]]
    tied: bool
    """Whether the word embedding is tied to the head."""
    connector: bool = True
    """Whether the projection of image features is a part beside the vision tower."""


FAMILIES = {
    "paligemma": Family(lambda: paligemma("gemma"), tied=True),
    "paligemma2": Family(lambda: paligemma("gemma2"), tied=True),
    "llava": Family(llava, tied=False),
    "llava_onevision": Family(llava_onevision, tied=False),
    "gemma3": Family(gemma3, tied=True),
    "qwen2_vl": Family(lambda: qwen("qwen2_vl"), tied=False, connector=False),
    "qwen2_5_vl": Family(lambda: qwen("qwen2_5_vl"), tied=False, connector=False),
    "qwen3_vl": Family(lambda: qwen("qwen3_vl"), tied=False, connector=False),
    "smolvlm": Family(smolvlm, tied=False),
    "internvl": Family(internvl, tied=True),
    "kosmos-2": Family(kosmos2, tied=True),
    "idefics": Family(idefics, tied=False),
    "florence2": Family(florence2, tied=True),
}


def save_family(name: str, folder: Path) -> None:
    """A folder as a user of that family would have it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[name].make()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
