"""A whole control step as one program over buffers that stay where they are: on CUDA one graph, else the same code.

From the bytes of the images to the chunk nothing is decided on the host. An instruction is a prompt that is copied into
its buffers: text and action tokens are padded to a fixed length and masked, so that the next needs no other program.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from robovlm_ros.observation import Observation
from robovlm_ros.runtime.device_images import DeviceImages
from robovlm_ros.runtime.fast import PARTS, FastStages, Prompt
from robovlm_ros.runtime.tape import NotRecordableError
from robovlm_ros.runtime.text_tower import MakeProjection, Situation
from robovlm_ros.vlm.context import Context
from robovlm_ros.vlm.heads.generative import Guide
from robovlm_ros.vlm.policy import ActionTokenOutput, ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

PADDING = 32
"""A sequence has a multiple of so many tokens."""
_WARM_UPS = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A step for sequences of one length."""

    prompt: Prompt
    """Buffers of the prompt."""
    run: Callable[[], tuple[torch.Tensor, torch.Tensor | None]]
    """Computes what the buffers hold: latents (1, latent_num, D), and actions (1, C, A) of a head that reads one
    observation; the same tensors each time on CUDA."""


class GraphStages(FastStages):
    """All of a step in one program; `NotRecordableError` where a part of it must be the plain one."""

    def __init__(
        self,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        *,
        padding: int = PADDING,
        make: MakeProjection | None = None,
        capture: bool | None = None,
    ) -> None:
        """``capture``: whether to make CUDA graphs; None: on a CUDA device."""
        super().__init__(policy, processor, padding=padding, make=make)
        needed = [part for part in PARTS if part != "head" or policy.head.shape.window == 1]
        missing = [f"{part}: {self.why[part]}" for part in needed if part in self.why]
        if missing or self.fused is None:
            raise NotRecordableError(f"a step is no single program ({'; '.join(missing)})")
        place = policy.device
        self.capture = place.type == "cuda" if capture is None else capture
        self.captures = 0
        """Programs that were made: one for each padded length that was met."""
        self._pixels = DeviceImages(self.fused, place)
        self.raw = [torch.zeros(shape, dtype=torch.uint8, device=place) for shape in self.shapes]
        """Buffers of the cameras' images (H, W, 3)."""
        self.state = torch.zeros(1, len(policy.config.state or ()), device=place)
        """Buffer of the state."""
        pinned = place.type == "cuda"
        self._host = [torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned) for shape in self.shapes]
        self._programs: dict[tuple[int, ...], Program] = {}
        self._instruction: tuple[str, Program] | None = None

    def prepare(self, observation: Observation) -> dict[str, torch.Tensor]:
        images = [observation.images[name] for name in self.processor.cameras if name in observation.images]
        if [image.shape for image in images] != self.shapes:
            return super().prepare(observation)
        self._fits = True
        for image, host, raw in zip(images, self._host, self.raw, strict=True):
            np.copyto(host.numpy(), image)
            raw.copy_(host, non_blocking=True)
        if self.state.shape[1]:
            self.state.copy_(self.processor.state(observation.state)[None])
        return {}

    def see(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Nothing yet, (1, 0, D): image features are computed with all the rest."""
        if not self._fits:
            return super().see(inputs)
        return self.state.new_zeros(1, 0, self.policy.backbone.hidden_size)

    def decide(
        self,
        observation: Observation,
        inputs: dict[str, torch.Tensor],
        features: torch.Tensor,
        history: torch.Tensor | Context | None,
        guide: Guide | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> ActionTokenOutput:
        if not self._fits:
            return super().decide(observation, inputs, features, history, guide, clock)
        self.head_from = None
        latents, actions = self.instruct(observation.instruction).run()
        if actions is None or guide is not None:
            return self.policy.decide(latents.clone(), history=history, guide=guide)
        return ActionTokenOutput(actions=actions, latents=latents)

    def instruct(self, instruction: str) -> Program:
        """The program with the prompt of an instruction in its buffers."""
        if self._instruction is None or self._instruction[0] != instruction:
            prompt = self.prompt(instruction, self._blank())
            buffers = _tensors(prompt)
            key = tuple(item.numel() for item in buffers)
            if key not in self._programs:
                self._programs[key] = self._make_program(prompt)
            for buffer, item in zip(_tensors(self._programs[key].prompt), buffers, strict=True):
                buffer.copy_(item)
            self._instruction = (instruction, self._programs[key])
        return self._instruction[1]

    def step(self, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents and actions of what the buffers hold."""
        assert self.vision is not None
        features = self.vision(self._pixels(self.raw))  # (1, N, D)
        latents = self.read(prompt, features, self.state if self.state.shape[1] else None)
        return latents, None if self.head is None else self.head(latents[:, None])[:, -1]

    def renew(self) -> None:
        self._programs.clear()
        self._instruction = None

    def _blank(self) -> torch.Tensor:
        """(1, N, D) image features, of which the shape counts."""
        if self._features is None:
            assert self.vision is not None
            self._features = self.vision(self._pixels(self.raw))
        return self._features

    def _make_program(self, like: Prompt) -> Program:
        """A program with buffers of its own for prompts of this shape."""
        self.captures += 1
        length = like.tokens.ids.shape[1]
        if self.captures > 1:
            _LOG.warning("a longer instruction: one more program, for sequences of %d tokens", length)
        prompt = _copied(like)
        if not self.capture:
            return Program(prompt=prompt, run=lambda: self.step(prompt))
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self.step(prompt)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = self.step(prompt)

        def run() -> tuple[torch.Tensor, torch.Tensor | None]:
            graph.replay()
            return out

        return Program(prompt=prompt, run=run)


def _tensors(prompt: Prompt) -> list[torch.Tensor]:
    """All tensors of a prompt, always in the same order."""
    rest = [prompt.image_places, prompt.state_place, prompt.rows]
    tokens = [prompt.tokens.ids, prompt.tokens.mask, prompt.tokens.embeddings]
    return [*tokens, *(item for item in rest if item is not None), *prompt.situation.tensors()]


def _copied(prompt: Prompt) -> Prompt:
    """With tensors of its own; what layers share they go on sharing."""
    made = {id(item): item.clone() for item in _tensors(prompt)}
    rest = {
        name: made[id(value)]
        for name in ("image_places", "state_place", "rows")
        if (value := getattr(prompt, name)) is not None
    }
    old = prompt.tokens
    tokens = replace(old, ids=made[id(old.ids)], mask=made[id(old.mask)], embeddings=made[id(old.embeddings)])
    situation = Situation(
        tuple((made[id(cos)], made[id(sin)]) for cos, sin in prompt.situation.rotations),
        tuple(made[id(mask)] for mask in prompt.situation.masks),
    )
    return replace(prompt, tokens=tokens, situation=situation, **rest)
