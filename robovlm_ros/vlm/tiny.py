"""A tiny vision-language model of a real transformers class, and its processor.

It stands in for an internet-scale VLM where there is neither a GPU nor a download: the architecture is
Idefics3 (the class of SmolVLM), only small, with a word-level vocabulary of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from robovlm_ros.grounding import X_WORDS, Y_WORDS

IMAGE_WORDS = ("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>")
BASIC_WORDS = ("<pad>", "<unk>", "<s>", "</s>")
"""What every vocabulary begins with."""
SPECIAL_WORDS = (*BASIC_WORDS, *IMAGE_WORDS, *X_WORDS, *Y_WORDS)
_WORDS_TEXT = """
    . , ? ! : a an the is are there it this that of to in on at from with and or not no yes none i you me my your
    we us do does did can could please now then next here what which where who when how many one two three four five
    color colour colored block blocks cube cubes box object objects thing things arm robot gripper hand tool finger
    fingers table pad pads square target place left right front back behind top bottom middle center centre side
    edge above below under over between near nearest far farthest closer away up down forward backward towards
    toward onto into off beside next red green blue yellow orange purple pink cyan white black grey gray brown
    reach go move bring take touch approach point find look see show tell say give get hover stop hold stay wait
    push slide shove pull lift raise pick grasp grab lower drop put release open close closed turn rotate
    head over tip end drive position location image picture scene seen visible higher lower
"""
WORDS = tuple(_WORDS_TEXT.split())


@dataclass(frozen=True, kw_only=True)
class TinyVLMConfig:
    """Size of the tiny VLM."""

    image_size: int = 96
    """Side of the square input image [px]."""
    patch_size: int = 12
    """Side of a vision patch [px]."""
    scale_factor: int = 2
    """Pixel shuffle: scale_factor² patches become one image token."""
    hidden_size: int = 128
    """Width of the text and of the vision tower."""
    vision_layers: int = 2
    """Layers of the vision tower."""
    text_layers: int = 3
    """Layers of the text tower."""
    heads: int = 4
    """Attention heads of both towers."""

    @property
    def image_tokens(self) -> int:
        """Image tokens of one image."""
        return (self.image_size // self.patch_size // self.scale_factor) ** 2


def word_tokenizer(special: Sequence[str], **options: Any) -> Any:
    """A word-level tokenizer of BASIC_WORDS, these special words and WORDS; options of its class."""
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys((*BASIC_WORDS, *special, *WORDS)))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="right",
        **options,
    )


def build_processor(size: TinyVLMConfig) -> Any:
    """The processor that belongs to the tiny VLM: word-level tokenizer and PIL image preparation."""
    tokenizer = word_tokenizer(
        SPECIAL_WORDS,
        additional_special_tokens=[*IMAGE_WORDS, *X_WORDS, *Y_WORDS],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    image_processor = Idefics3ImageProcessorPil(
        do_image_splitting=False,
        size={"longest_edge": size.image_size},
        max_image_size={"longest_edge": size.image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],  # rendered images then have a deviation near 1, which trains faster
    )
    return Idefics3Processor(image_processor, tokenizer, image_seq_len=size.image_tokens)


def build_model(size: TinyVLMConfig, processor: Any, seed: int = 0) -> Any:
    """A randomly initialised tiny VLM for that processor, reproducible by seed."""
    tokenizer = processor.tokenizer
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    width = size.hidden_size
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=size.scale_factor,
        tie_word_embeddings=False,
        vision_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": size.vision_layers,
            "num_attention_heads": size.heads,
            "image_size": size.image_size,
            "patch_size": size.patch_size,
            "initializer_range": width**-0.5,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": size.text_layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "max_position_embeddings": 512,
            "initializer_range": 0.5 * width**-0.5,
            "tie_word_embeddings": False,
            **special,
        },
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
        _initialise(model, size)
    return model


@torch.no_grad()
def _initialise(model: Any, size: TinyVLMConfig) -> None:
    """Unit-scale inputs, sine-cosine positions, attention that begins as "find what is alike and copy it".

    With these a small model learns to localise in minutes, not hours. The last is mimetic initialisation
    (Trockman and Kolter 2023): queries and keys share a matrix, output and value are each other's transpose.
    """
    vision = model.model.vision_model
    embeddings = vision.embeddings
    side = size.image_size // size.patch_size
    embeddings.position_embedding.weight.copy_(sine_cosine_positions(side, size.hidden_size))
    fan_in = 3 * size.patch_size**2
    nn.init.normal_(embeddings.patch_embedding.weight, std=fan_in**-0.5)
    projection = model.model.connector.modality_projection.proj
    nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
    nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    for layer in model.get_decoder().layers:
        attention = layer.self_attn
        nn.init.normal_(attention.q_proj.weight, std=size.hidden_size**-0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(0.7 * attention.v_proj.weight.T)


def sine_cosine_positions(side: int, width: int) -> torch.Tensor:
    """(side², width) position codes: a quarter each for sine and cosine of row and column.

    The 2-D form of the encoding of "Attention Is All You Need" (2017), section 3.5.
    """
    frequencies = torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))  # (width/4,)
    angles = torch.arange(side)[:, None] * frequencies  # (side, width/4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width/2)
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)  # (side², width)
