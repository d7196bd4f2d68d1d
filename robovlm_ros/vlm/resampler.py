"""The Perceiver resampler: any number of image features to a fixed, mostly smaller, number of image tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.options import build
from robovlm_ros.vlm.backbone import Backbone

RESAMPLERS = ("perceiver",)
"""Types of resampler."""


@dataclass(frozen=True, kw_only=True)
class ResamplerOptions:
    """Options of the `perceiver` resampler."""

    queries: int = 64
    """Image tokens that each image becomes."""
    depth: int = 6
    """Layers."""
    heads: int = 8
    """Attention heads of a layer."""
    head_width: int = 64
    """Width of an attention head."""

    def __post_init__(self) -> None:
        for name in ("queries", "depth", "heads", "head_width"):
            if getattr(self, name) < 1:
                raise UserError(f"resampler: {name} must be at least 1, not {getattr(self, name)}")


def resampler_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """``type`` and all options of the resampler, defaults filled in; UserError lists the valid ones."""
    kind = values.get("type", "perceiver")
    if kind not in RESAMPLERS:
        raise UserError(f"resampler '{kind}' is not one of: {', '.join(RESAMPLERS)}")
    return {"type": kind, **vars(read_resampler(values))}


def read_resampler(values: Mapping[str, Any]) -> ResamplerOptions:
    """The options in a configuration's mapping."""
    return build(ResamplerOptions, {key: value for key, value in values.items() if key != "type"}, "resampler")


def check_resampler(values: Mapping[str, Any] | None, family: type[Backbone]) -> None:
    """UserError for options that are none, or a backbone that cannot do with resampled image tokens."""
    if values is None:
        return
    resampler_options(values)
    if family.not_resampled:
        raise UserError(f"this backbone cannot have a resampler: {family.not_resampled}")


def resample_places(
    ids: torch.Tensor, mask: torch.Tensor, image_token_id: int, images: int, queries: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (L',) of one prompt (L,) in which each image has as many places as the resampler has queries."""
    places = (ids == image_token_id).nonzero()[:, 0]  # (images * N,)
    if len(places) == 0 or len(places) % images:
        raise UserError(f"resampler: {len(places)} image tokens cannot be told apart by {images} images")
    runs = places.view(images, -1)  # (images, N)
    if bool((runs.diff(dim=1) != 1).any()):
        raise UserError(
            "resampler: the backbone's processor cuts images into pieces, and marks them in the prompt: turn that off "
            "in its preprocessor_config.json (do_image_splitting: false), or use no resampler"
        )
    times = torch.ones_like(ids)
    times[runs[:, queries:]] = 0
    times[runs[:, -1]] += max(0, queries - runs.shape[1])
    return ids.repeat_interleave(times), mask.repeat_interleave(times)


class _Layer(nn.Module):
    """Cross-attention from the queries to features and queries, then a perceptron; both with a way around."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm_features = nn.LayerNorm(width)
        self.norm_queries = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, features: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """(B, M, D) queries (B, M, D) after they looked at features (B, N, D)."""
        asking = self.norm_queries(queries)
        seen = torch.cat([self.norm_features(features), asking], dim=1)  # (B, N + M, D)
        query, key, value = (
            item.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, M or N + M, head_width)
            for item in (self.query(asking), *self.key_value(seen).chunk(2, dim=2))
        )
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # (B, M, inner)
        queries = queries + self.out(found)
        changed: torch.Tensor = queries + self.perceptron(queries)
        return changed


class Resampler(nn.Module):
    """Learned queries q (M, D) that look at the features x (N, D) of one image, layer by layer.

    q ← q + Attention(q' = LN(q), keys and values = [LN(x); LN(q)]),  q ← q + MLP(LN(q)),  at last LN(q): the Perceiver
    (Jaegle et al. 2021, section 3) as Flamingo's resampler (Alayrac et al. 2022, section 2.1) has it, without its
    embedding of time, for an image is one instant. Where a feature lies, the vision tower has told it already.
    """

    def __init__(self, width: int, options: ResamplerOptions) -> None:
        """``width``: D of the features."""
        super().__init__()
        self.queries = nn.Parameter(torch.randn(options.queries, width))
        self.layers = nn.ModuleList(_Layer(width, options.heads, options.head_width) for _ in range(options.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor, images: int) -> torch.Tensor:
        """(B, images * M, D) image tokens of features (B, images * N, D), each image for itself."""
        batch, count, width = features.shape
        each = features.reshape(batch * images, count // images, width).to(self.queries.dtype)  # (B images, N, D)
        queries = self.queries.expand(len(each), -1, -1)  # (B images, M, D)
        for layer in self.layers:
            queries = layer(each, queries)
        resampled: torch.Tensor = self.norm(queries).reshape(batch, -1, width)  # (B, images M, D)
        return resampled
