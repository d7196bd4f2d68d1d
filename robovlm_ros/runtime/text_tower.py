"""The text tower of most families as plain functions: projections merged, the last layer only where it is read.

Llama, Qwen and Gemma differ in norms, biases and caps, not in their shape, so one description serves all of them.
What a layer is told beside its input (masks, rotations) is asked of the family's own code: `situation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from robovlm_ros.vlm.backbone import Backbone
from robovlm_ros.vlm.sequence import Tokens

Project = Callable[[torch.Tensor], torch.Tensor]
"""(..., K) → (..., N)."""
MakeProjection = Callable[[torch.Tensor, torch.Tensor | None], Project]
"""Of a weight (N, K) and a bias (N,)."""
_NORMS = {"input_layernorm", "post_attention_layernorm"}
_AROUND = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}


class UnknownTowerError(Exception):
    """Why a text tower is none that these functions know."""


@dataclass(frozen=True)
class Norm:
    """x / sqrt(mean(x^2) + eps) * weight: Zhang and Sennrich 2019, eq. 4."""

    weight: torch.Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """That of a module of transformers, by what it does to ones: some of them add one to their weight."""
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or not isinstance(eps, float) or list(module.children()):
            raise UnknownTowerError(f"{type(module).__name__} is no root mean square norm")
        ones = torch.ones(len(weight), dtype=torch.float32, device=weight.device)
        factor = module(ones).float() * math.sqrt(1 + eps)
        return cls(factor, eps)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


@dataclass(frozen=True)
class Situation:
    """What each layer is told for a prompt, whatever is in the images."""

    rotations: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Of each layer cos and sin (1, 1, L, d), the first half of sin negative."""
    masks: tuple[torch.Tensor, ...]
    """Of each layer (1, 1, L, L), true where a token (row) sees another, or what is added to their score."""

    def tensors(self) -> list[torch.Tensor]:
        """Each of its tensors once."""
        found = {id(item): item for pair in self.rotations for item in pair}
        return list({**found, **{id(item): item for item in self.masks}}.values())


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    heads: tuple[int, int]
    """Heads of queries, and of keys and of values."""
    width: int
    """d, of a head."""
    scale: float
    cap: float | None
    """Bound c of the scores, as c tanh(score / c): Gemma 2."""
    norm: Norm
    qkv: Project
    query: Project
    """The first part of `qkv`, alone."""
    key_value: Project
    """The rest of it."""
    head_norms: tuple[Norm, Norm] | None
    """Of each head's queries and keys: Qwen 3, Gemma 3."""
    out: Project
    after_attention: Norm | None
    mlp_norm: Norm
    gate_up: Project
    activation: Callable[[torch.Tensor], torch.Tensor]
    down: Project
    after_mlp: Norm | None

    def __call__(
        self,
        x: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(1, L, D) → (1, L, D), or with ``rows`` (K,) → (1, K, D): only what comes out there."""
        queries, keys = self.heads
        normed = self.norm(x)
        cos, sin = rotation
        if rows is None:
            states = self._heads(self.qkv(normed))  # (1, queries + 2 keys, L, d)
            together, value = states[:, : queries + keys], states[:, queries + keys :]
            if self.head_norms is None:
                together = _rotated(together, cos, sin)  # queries and keys in one go
                query, key = together[:, :queries], together[:, queries:]
            else:
                query = _rotated(self.head_norms[0](together[:, :queries]), cos, sin)
                key = _rotated(self.head_norms[1](together[:, queries:]), cos, sin)
        else:
            x = x.index_select(1, rows)  # (1, K, D)
            query = self._heads(self.query(normed.index_select(1, rows)))  # (1, queries, K, d)
            key, value = self._heads(self.key_value(normed)).chunk(2, dim=1)  # (1, keys, L, d)
            if self.head_norms is not None:
                query, key = self.head_norms[0](query), self.head_norms[1](key)
            query = _rotated(query, cos.index_select(2, rows), sin.index_select(2, rows))
            key, mask = _rotated(key, cos, sin), mask.index_select(2, rows)
        seen = self.out(self._attend(query, key, value, mask))
        x = x + (seen if self.after_attention is None else self.after_attention(seen))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=2)  # (1, L, I) each
        made = self.down(self.activation(gate) * up)
        return x + (made if self.after_mlp is None else self.after_mlp(made))

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """(1, L, n d) → (1, n, L, d)."""
        return states.view(1, states.shape[1], -1, self.width).transpose(1, 2)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(1, L, queries d) what queries (1, queries, L, d) find in values (1, keys, L', d)."""
        groups = self.heads[0] // self.heads[1]
        if self.cap is None and self.heads[1] == 1:
            k, v = k.expand(-1, groups, -1, -1), v.expand(-1, groups, -1, -1)  # no copy is made
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        elif self.cap is None:
            found = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=groups > 1
            )
        else:
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            scores = torch.tanh(q @ k.transpose(2, 3) * self.scale / self.cap) * self.cap  # (1, queries, L, L')
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            found = scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v
        return found.transpose(1, 2).flatten(2)  # (1, L, queries d)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(1, H, L, d) rotated by the angle of its place: RoPE, Su et al. 2021, eq. 34, halves as in transformers."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class TextTower:
    """Layers and the last norm."""

    def __init__(self, backbone: Backbone, make: MakeProjection | None = None) -> None:
        """UnknownTowerError says why when the backbone's text tower is of another kind.

        Merged weights take the place of the parts in the backbone's own modules, which become views of them: nothing is
        kept twice.
        """
        self.backbone = backbone
        decoder: Any = backbone.decoder
        if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not hasattr(decoder, "norm"):
            raise UnknownTowerError(f"{type(decoder).__name__} is no list of layers and a norm")
        self.norm = Norm.of(decoder.norm)
        merged = [_read_layer(layer) for layer in decoder.layers]  # all of them are known before any is changed
        self.layers = tuple(
            _make_layer(layer, read, make or _dense) for layer, read in zip(decoder.layers, merged, strict=True)
        )

    def __call__(
        self,
        x: torch.Tensor,
        situation: Situation,
        rows: torch.Tensor | None = None,
        early: Sequence[torch.Tensor] = (),
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(1, L, D) last hidden states of embeddings (1, L, D), or those (1, K, D) at ``rows`` (K,) alone.

        ``early``: of each of the first layers what is added behind it at ``places`` (N,), (1, N, D).
        """
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            only = rows if index == last and index >= len(early) else None
            x = layer(x, situation.rotations[index], situation.masks[index], only)
            if index < len(early):
                assert places is not None
                x = x.index_add(1, places, early[index].to(x.dtype))
        if rows is not None and last < len(early):
            x = x.index_select(1, rows)
        return self.norm(x)

    def situation(self, tokens: Tokens) -> Situation:
        """What the family's own code tells its layers about these tokens; UnknownTowerError if that is other things."""
        decoder: Any = self.backbone.decoder
        length = tokens.ids.shape[1]
        with _listening(decoder) as told:
            self.backbone.decode(tokens)
        shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        rotations, masks = [], []
        causal = torch.ones(1, 1, length, length, dtype=torch.bool, device=tokens.ids.device).tril()
        for layer, said in zip(self.layers, told, strict=True):
            pair = said.get("position_embeddings")
            if not isinstance(pair, tuple) or pair[0].shape[-2:] != (length, layer.width):
                raise UnknownTowerError("its layers are not told of rotations of whole heads")
            if id(pair[0]) not in shared:
                cos, sin = (item.reshape(1, 1, length, layer.width).clone() for item in pair)
                sin[..., : layer.width // 2] *= -1
                shared[id(pair[0])] = (cos, sin)
            rotations.append(shared[id(pair[0])])
            mask = said.get("attention_mask")
            mask = causal if mask is None else mask[..., :length]
            if mask.shape != causal.shape:
                raise UnknownTowerError("its layers are told of masks of another shape")
            masks.append(mask)
        return Situation(tuple(rotations), tuple(masks))


class _Listener(nn.Module):
    """In a layer's place: hears what the layer would be told, and lets its input pass."""

    def __init__(self, layer: nn.Module, told: list[dict[str, Any]]) -> None:
        super().__init__()
        self._layer, self.told = [layer], told  # in a list, so that it is not a part of this one

    def __getattr__(self, name: str) -> Any:
        """What is asked of a layer, such as its kind."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"][0], name)

    def forward(self, hidden_states: torch.Tensor, **said: Any) -> torch.Tensor:
        self.told.append(said)
        return hidden_states


@contextmanager
def _listening(decoder: Any) -> Iterator[list[dict[str, Any]]]:
    """What each layer of a text tower is told meanwhile; the layers themselves are not run."""
    layers, told = decoder.layers, list[dict[str, Any]]()
    decoder.layers = nn.ModuleList(_Listener(layer, told) for layer in layers)
    try:
        yield told
    finally:
        decoder.layers = layers


def _read_layer(layer: Any) -> dict[str, Any]:
    """The parts of a layer; UnknownTowerError when it has others, or they are of another kind."""
    names, attention, mlp = {name for name, _ in layer.named_children()}, layer.self_attn, layer.mlp
    if names not in ({"self_attn", "mlp", *_NORMS}, {"self_attn", "mlp", *_NORMS, *_AROUND}):
        raise UnknownTowerError(f"{type(layer).__name__} has other parts: {', '.join(sorted(names))}")
    inside = {name for name, _ in attention.named_children()}
    if inside - {"rotary_emb"} not in (_ATTENTION, {*_ATTENTION, "q_norm", "k_norm"}):
        raise UnknownTowerError(f"{type(attention).__name__} has other parts: {', '.join(sorted(inside))}")
    if {name for name, _ in mlp.named_children()} != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        raise UnknownTowerError(f"{type(mlp).__name__} has other parts")
    linear = [getattr(attention, name) for name in sorted(_ATTENTION)] + [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if any(type(item) is not nn.Linear for item in linear):
        raise UnknownTowerError("its projections are no plain linear ones")
    for group in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        if len({getattr(attention if name[1:] == "_proj" else mlp, name).bias is None for name in group}) > 1:
            raise UnknownTowerError("some projections of one input have a bias and others none")
    return {"attention": attention, "mlp": mlp, "around": names >= _AROUND, "normed": "q_norm" in inside}


def _make_layer(layer: Any, read: dict[str, Any], make: MakeProjection) -> Layer:
    attention, mlp, around = read["attention"], read["mlp"], read["around"]
    width = int(attention.head_dim)
    queries, keys = (len(getattr(attention, name).weight) // width for name in ("q_proj", "k_proj"))
    qkv, bias = _merge(attention.q_proj, attention.k_proj, attention.v_proj)
    first = queries * width
    return Layer(
        heads=(queries, keys),
        width=width,
        scale=float(attention.scaling),
        cap=getattr(attention, "attn_logit_softcapping", None),
        norm=Norm.of(layer.input_layernorm),
        qkv=make(qkv, bias),
        query=make(qkv[:first], None if bias is None else bias[:first]),
        key_value=make(qkv[first:], None if bias is None else bias[first:]),
        head_norms=(Norm.of(attention.q_norm), Norm.of(attention.k_norm)) if read["normed"] else None,
        out=make(attention.o_proj.weight, attention.o_proj.bias),
        after_attention=Norm.of(layer.post_attention_layernorm) if around else None,
        mlp_norm=Norm.of(layer.pre_feedforward_layernorm if around else layer.post_attention_layernorm),
        gate_up=make(*_merge(mlp.gate_proj, mlp.up_proj)),
        activation=mlp.act_fn,
        down=make(mlp.down_proj.weight, mlp.down_proj.bias),
        after_mlp=Norm.of(layer.post_feedforward_layernorm) if around else None,
    )


def _merge(*parts: nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight (N, K) and bias (N,) of several projections of one input, which become views of them."""
    weight = torch.cat([part.weight.detach() for part in parts])
    for part, own in zip(parts, torch.split(weight, [len(part.weight) for part in parts]), strict=True):
        part.weight.data = own
    if parts[0].bias is None:
        return weight, None
    return weight, torch.cat([part.bias.detach() for part in parts])


def _dense(weight: torch.Tensor, bias: torch.Tensor | None) -> Project:
    """The projection in the type of its weight."""
    weight = weight.detach()
    return lambda x: functional.linear(x, weight, bias)
