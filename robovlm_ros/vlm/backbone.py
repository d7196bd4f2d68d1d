"""What the policy needs of a vision-language model, over any `AutoModelForImageTextToText`.

The general class asks transformers' own accessors; a family that differs overrides one method in
``backbones/``. It is no module: the weights stay in the model that it wraps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robovlm_ros.errors import UserError


class Backbone:
    """Embeddings, image features and hidden states of one vision-language model."""

    def __init__(self, model: Any) -> None:
        self.model = model

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
    def head(self) -> nn.Module | None:
        """The language model's head, which the policy never computes."""
        head: nn.Module | None = self.model.get_output_embeddings()
        return head

    @property
    def head_is_tied(self) -> bool:
        """Whether the head shares its weight with the word embedding."""
        return self.head is not None and self.head.weight is self.text_embedding.weight

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) image features, ready for the text tower, of the processor's image tensors.

        All samples of a batch have the same number of image tokens.
        """
        features: torch.Tensor = self.model.get_image_features(pixel_values, **images).pooler_output
        return features.reshape(pixel_values.shape[0], -1, features.shape[-1])  # (B, N, D)

    def embed(self, input_ids: torch.Tensor, image_embeddings: torch.Tensor) -> torch.Tensor:
        """(B, L, D) word embeddings with the image features (B, N, D) at the image placeholders."""
        embeddings: torch.Tensor = self.text_embedding(input_ids)  # (B, L, D)
        is_image = input_ids == self.image_token_id  # (B, L)
        if int(is_image.sum()) != image_embeddings.shape[0] * image_embeddings.shape[1]:
            raise UserError(
                f"{int(is_image.sum())} image placeholders in the text, but {image_embeddings.shape[1]} image tokens "
                f"for each of {image_embeddings.shape[0]} samples: the prompt and the cameras do not match"
            )
        return embeddings.masked_scatter(is_image[..., None], image_embeddings.to(embeddings.dtype))

    def decode(
        self, embeddings: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
    ) -> torch.Tensor:
        """(B, L, D) last hidden states of the text tower; no other layer is kept and no head computed."""
        hidden: torch.Tensor = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        return hidden


def backbone_of(model: Any) -> Backbone:
    """The adapter of a model's family."""
    from robovlm_ros.vlm.backbones import FAMILIES

    return FAMILIES.get(model.config.model_type, Backbone)(model)
