"""What a control step must cost at least: operations and bytes counted from its shapes, and the machine's ceilings.

The floor is the roofline of Williams, Waterman and Patterson (2009): max(operations / matrix rate, bytes / bandwidth).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robovlm_ros.runtime.plain import written_out
from robovlm_ros.vlm.policy import ActionTokenPolicy

COPIED_BYTES = 1 << 28
"""Of the copy that measures the bandwidth: more than caches hold."""
SIDES = {"cpu": 1024, "cuda": 8192}
"""Sides of the square matrices whose product measures the matrix rate."""
TRIES = 5
"""The fastest of so many counts: it is a ceiling."""


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What the machine reaches at best, measured."""

    bytes_per_s: float
    """Bytes read and written by a copy, per second."""
    flops_per_s: float
    """Operations of a product of matrices, per second; a product and its sum are two."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a part of a step needs."""

    flops: int
    """Operations of products of matrices, convolutions and attention; a product and its sum are two."""
    bytes: int
    """Weights that are read, once each; of an embedding, the vectors that are looked up."""

    def floor_s(self, ceilings: Ceilings) -> float:
        """No program that computes in this type can be faster on this machine [s]."""
        return max(self.flops / ceilings.flops_per_s, self.bytes / ceilings.bytes_per_s)


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Of this device, with as many threads as torch is told to use."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied_s = _fastest(lambda: target.copy_(source), device)
    side = SIDES.get(device.type, SIDES["cpu"])
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product_s = _fastest(lambda: left @ right, device)
    return Ceilings(bytes_per_s=2 * COPIED_BYTES / copied_s, flops_per_s=2 * side**3 / product_s)


def _fastest(work: Callable[[], Any], device: torch.device) -> float:
    return min([elapsed_s(work, device)[0] for _ in range(TRIES + 1)][1:])


def elapsed_s(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """How long something takes [s], and what it gives: by events of the device where it is a GPU."""
    if device.type != "cuda":
        begin = time.perf_counter()
        result = work()
        return time.perf_counter() - begin, result
    event: Any = torch.cuda.Event  # untyped
    first, last = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize(device)
    first.record()
    result = work()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3, result


@torch.no_grad()
def count(policy: ActionTokenPolicy, inputs: dict[str, torch.Tensor], history: Any = None) -> dict[str, Cost]:
    """Cost of ``vision``, ``language`` and ``head`` of one step, for the batch that the processor makes.

    Counted in the policy's own forward, where no more is computed than an exact step needs: no scores of words, and
    one observation a step. Attention is written out for it, for torch does not count all that its kernels compute.
    """
    policy = written_out(policy)
    family = type(policy.backbone)
    images = {key: inputs[key] for key in family.image_keys if key in inputs}
    known = {*family.text_keys, "state"}
    with _counted(policy) as vision:
        features = policy.image_embeddings(**images)
    rest = {key: value for key, value in inputs.items() if key in known}
    with _counted(policy) as both:
        output = policy(**rest, image_embeds=features, history=history)
    found = {"vision": vision()}
    if getattr(policy.head, "answers", False):  # it decides in the language model, word by word
        return {**found, "language": both(), "head": Cost(flops=0, bytes=0)}
    latents = output.latents[:, None]  # (B, 1, latent_num, D)
    with _counted(policy) as head:
        policy.head(latents)
    whole, own = both(), head()
    found["language"] = Cost(flops=whole.flops - own.flops, bytes=whole.bytes - own.bytes)
    return {**found, "head": own}


def total(costs: dict[str, Cost]) -> Cost:
    """Of all parts."""
    return Cost(flops=sum(cost.flops for cost in costs.values()), bytes=sum(cost.bytes for cost in costs.values()))


@contextmanager
def _counted(model: nn.Module) -> Iterator[Callable[[], Cost]]:
    """What a model computes, and which of its weights it reads."""
    read: dict[int, int] = {}

    def look(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            width = module.weight.shape[1] * module.weight.element_size()
            read[id(module.weight)] = read.get(id(module.weight), 0) + int(arguments[0].numel()) * width
            return
        # the projection behind this attention is read, but never called
        own = module.parameters(recurse=isinstance(module, nn.MultiheadAttention))
        for weight in own:
            read[id(weight)] = weight.numel() * weight.element_size()

    learns = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in learns:  # the counter follows gradients where it finds any, and stumbles over views of weights
        weight.requires_grad_(False)
    hooks = [module.register_forward_pre_hook(look) for module in model.modules()]
    counter = FlopCounterMode(display=False)
    result: list[Cost] = []
    try:
        with counter:
            yield lambda: result[0]
        result.append(Cost(flops=int(counter.get_total_flops()), bytes=sum(read.values())))
    finally:
        for hook in hooks:
            hook.remove()
        for weight in learns:
            weight.requires_grad_(True)
