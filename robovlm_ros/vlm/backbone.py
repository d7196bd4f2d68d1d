"""What the policy needs of a vision-language model, over any `AutoModelForImageTextToText`.

The general class asks transformers' own accessors; a family that differs overrides a method in
``backbones/``. It is no module: the weights stay in the model that it wraps. The class methods speak of the
family's processor and need no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.grid import ImageGrid, seen_box, square_side
from robovlm_ros.vlm.prompts import PLAIN, chat_prompt
from robovlm_ros.vlm.sequence import Tokens, position_ids


class Backbone:
    """Embeddings, image features and hidden states of one vision-language model."""

    text_keys: tuple[str, ...] = ("input_ids", "attention_mask")
    """Of the processor's tensors, those that belong to the prompt; the first two have a batch dimension of 1."""
    image_keys: tuple[str, ...] = ("pixel_values",)
    """Of the image processor's tensors, those that the model takes."""
    images_in_sequence: bool = True
    """Whether image features take places in the sequence, at the image placeholders."""
    not_interleaved: str = ""
    """Why one sequence cannot hold the observations of a whole window; empty: it can."""
    sees_ahead: bool = False
    """Whether tokens of the prompt also see those behind them."""
    images_lead: bool = False
    """Whether the processor puts images before the text wherever the prompt names them."""
    not_pooled: str = ""
    """Why the prompt's hidden states cannot be latents; empty: they can."""
    not_resampled: str = ""
    """Why image features cannot be resampled; empty: they can."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def placeholder(cls, processor: Any) -> str:
        """What stands for one image in a prompt, before the processor makes image tokens of it."""
        return str(processor.image_token)

    @classmethod
    def reserved(cls, processor: Any) -> tuple[str, ...]:
        """Words that mean images to this family, which an instruction therefore must not hold."""
        return (str(processor.image_token),)

    @classmethod
    def template(cls, processor: Any, cameras: int = 1) -> str:
        """The prompt template that this family is asked with about so many images unless told; see `fill_prompt`."""
        placeholder = cls.placeholder(processor)
        chat = chat_prompt(processor, placeholder, cameras) if placeholder else None
        return PLAIN if chat is None else chat

    @classmethod
    def prompt_tensors(cls, processor: Any, text: str, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """`text_keys` for a prompt with one placeholder for each image (H, W, 3): ids and mask (L,)."""
        encoded = processor(text=[text], images=[list(images)], return_tensors="pt")
        return {key: encoded[key][0] if key in Backbone.text_keys else encoded[key] for key in cls.text_keys}

    @classmethod
    def image_tensors(cls, processor: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """`image_keys` for the images (H, W, 3) of one observation, without a batch dimension."""
        encoded = processor.image_processor(list(images), return_tensors="pt")
        return {key: encoded[key] for key in cls.image_keys}

    @property
    def hidden_size(self) -> int:
        """Width of the text tower's hidden states."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that image features replace in the text."""
        return int(self.model.config.image_token_id)

    @property
    def decoder(self) -> nn.Module:
        """The text tower, without the language model's head."""
        decoder: nn.Module = self.model.get_decoder()
        return decoder

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """Layers of the text tower, first to last."""
        layers = getattr(self.decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise UserError(f"the text tower of '{self.model.config.model_type}' has no list of layers")
        return layers

    @property
    def text_embedding(self) -> nn.Module:
        """The word embedding."""
        embedding: nn.Module = self.model.get_input_embeddings()
        return embedding

    @property
    def vision(self) -> nn.Module:
        """The vision tower."""
        encoder = self.model.get_encoder(modality="image")
        if encoder is self.model or encoder is self.model.base_model:
            raise UserError(f"cannot tell the vision tower of '{self.model.config.model_type}' apart")
        tower: nn.Module = encoder
        return tower

    @property
    def connector(self) -> nn.Module | None:
        """What projects image features to the text tower, when it is a part of its own.

        It counts as vision: what makes image tokens is switched, and can be cached, as one.
        """
        for name in ("multi_modal_projector", "connector", "merger", "image_to_text_projection"):
            part = getattr(self.model.base_model, name, None)
            if isinstance(part, nn.Module):
                return part
        return None

    @property
    def image_parameters(self) -> list[nn.Parameter]:
        """Parameters that make image tokens, but belong to no part of their own; they count as vision."""
        return []

    @property
    def head(self) -> nn.Module | None:
        """The language model's head, which the policy never computes."""
        head: nn.Module | None = self.model.get_output_embeddings()
        return head

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., V) scores of all words for last hidden states (..., D), by the language model's head."""
        assert self.head is not None
        scores: torch.Tensor = self.head(hidden)
        return scores

    @property
    def head_is_tied(self) -> bool:
        """Whether the head shares its weight with the word embedding."""
        return self.head is not None and self.head.weight is self.text_embedding.weight

    @property
    def vocabulary(self) -> int:
        """Words that the word embedding has a vector for."""
        embedding: Any = self.text_embedding
        return len(embedding.weight)

    def last_words(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, D) vectors of the vocabulary's last words, in the head and as the text tower gets them."""
        ids = torch.arange(self.vocabulary, device=self.model.device)[-count:]
        outputs: Any = self.text_embedding if self.head is None else self.head
        return outputs.weight[ids], self.text_embedding(ids)

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) image features, ready for the text tower, of the processor's tensors (B, images, 3, H, W).

        All samples of a batch have the same number of image tokens.
        """
        features = self.model.get_image_features(pixel_values.flatten(0, 1), **images).pooler_output
        joined = features if isinstance(features, torch.Tensor) else torch.cat(list(features))
        return joined.reshape(pixel_values.shape[0], -1, joined.shape[-1])  # (B, N, D)

    def steady_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """`image_embeddings` of images that are all real ones, where possible without a look at their values."""
        return self.image_embeddings(pixel_values, **images)

    def embed(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_embeddings: torch.Tensor,
        **layout: torch.Tensor,
    ) -> Tokens:
        """Word embeddings of a prompt (B, L) with the image features (B, N, D) at its image placeholders."""
        is_image = input_ids == self.image_token_id  # (B, L)
        # some families' placeholder lies outside the vocabulary; its embedding is replaced in any case
        embeddings: torch.Tensor = self.text_embedding(input_ids.masked_fill(is_image, 0))  # (B, L, D)
        if int(is_image.sum()) != image_embeddings.shape[0] * image_embeddings.shape[1]:
            raise UserError(
                f"{int(is_image.sum())} image placeholders in the text, but {image_embeddings.shape[1]} image tokens "
                f"for each of {image_embeddings.shape[0]} samples: the prompt and the cameras do not match"
            )
        features = image_embeddings[..., : embeddings.shape[-1]].to(embeddings.dtype)  # (B, N, D)
        embeddings = embeddings.masked_scatter(is_image[..., None], features)
        return Tokens(ids=input_ids, mask=attention_mask, embeddings=embeddings, images=image_embeddings, layout=layout)

    def decode(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D) last hidden states of the text tower; no other layer is kept and no head computed."""
        return self.attend(tokens, self.positions(tokens), tokens.mask, self.blocks(tokens))

    def positions(self, tokens: Tokens) -> torch.Tensor:
        """(B, L) or (coordinates, B, L) position of each token of one frame."""
        return position_ids(tokens.mask)

    def blocks(self, tokens: Tokens) -> torch.Tensor | None:
        """(B, L) number of the block in which a token attends in both directions, -1 for none; None: there are none."""
        return None

    def attend(
        self,
        tokens: Tokens,
        positions: torch.Tensor,
        mask: torch.Tensor,
        blocks: torch.Tensor | None,
        cache: Any = None,
    ) -> torch.Tensor:
        """(B, L, D) last hidden states of the text tower, behind L' tokens whose keys and values are in a cache.

        Args:
            tokens: what is new.
            positions: (B, L) or (coordinates, B, L).
            mask, blocks: (B, L' + L) of what was read and what is new.
            cache: transformers' `Cache`, which the keys and values of what is new are added to; None: nothing was
                read, and nothing is kept.
        """
        known = {} if cache is None else {"past_key_values": cache, "use_cache": True}
        attention = self.attention_mask(tokens, mask, blocks, cache)
        return self.hidden_states(
            self.decoder, tokens, positions, attention_mask=attention, **known, **self.extras(tokens)
        )

    def attention_mask(self, tokens: Tokens, mask: torch.Tensor, blocks: torch.Tensor | None, cache: Any) -> Any:
        """What the text tower takes as its attention mask; arguments as in `attend`."""
        return mask

    def extras(self, tokens: Tokens) -> dict[str, Any]:
        """Further arguments of the text tower."""
        return {}

    def image_grids(
        self, processor: Any, inputs: Mapping[str, torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[ImageGrid]:
        """How the image tokens of each camera lie in its image; UserError where that cannot be known.

        Args:
            processor: the family's own.
            inputs: what it made of one observation, input_ids (L,) among them.
            shapes: of each camera's image, (height, width, 3).
        """
        each = int((inputs["input_ids"] == self.image_token_id).sum()) // len(shapes)
        side = square_side(each, self.model.config.model_type)
        return [
            ImageGrid(first=i * each, rows=side, columns=side, box=seen_box(processor.image_processor, shape))
            for i, shape in enumerate(shapes)
        ]

    @staticmethod
    def hidden_states(model: Any, tokens: Tokens, positions: torch.Tensor, **more: Any) -> torch.Tensor:
        """(B, L, D) last hidden states of a text tower, or of what is around it, for these embeddings."""
        hidden: torch.Tensor = model(
            inputs_embeds=tokens.embeddings,
            position_ids=positions,
            **{"attention_mask": tokens.mask, "use_cache": False, **more},
        ).last_hidden_state
        return hidden


def family_of(model_type: str) -> type[Backbone]:
    """The adapter class of a family, by transformers' ``model_type``; UserError for a family that cannot work."""
    from robovlm_ros.vlm.backbones import FAMILIES, REFUSED

    if model_type in REFUSED:
        raise UserError(f"'{model_type}' cannot be the backbone of an action-token policy: {REFUSED[model_type]}")
    return FAMILIES.get(model_type, Backbone)


def backbone_of(model: Any) -> Backbone:
    """The adapter over a model."""
    return family_of(model.config.model_type)(model)
