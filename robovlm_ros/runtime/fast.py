"""The fast forward of a policy: the same numbers as the plain one to a stated tolerance, with less to do.

Each stage of a control step is made fast where the policy's parts allow, and is the plain one elsewhere; `why` says
of each other why. Nothing here is trusted: `robovlm_ros.runtime.starting` compares with the plain forward first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros.observation import Observation
from robovlm_ros.runtime.preprocessing import FusedImages, NotFusedError
from robovlm_ros.runtime.tape import NotRecordableError, Tape, record
from robovlm_ros.runtime.text_tower import MakeProjection, Situation, TextTower, UnknownTowerError
from robovlm_ros.vlm.context import Context
from robovlm_ros.vlm.heads.generative import Guide
from robovlm_ros.vlm.latents import pool_latents
from robovlm_ros.vlm.policy import ActionTokenOutput, ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.sequence import Tokens

PARTS = ("images", "vision", "text", "head")
"""What can be fast: image preparation, image features, text tower, policy head."""
_PROMPTS = 64


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """All that follows from an instruction, before any image is seen."""

    tokens: Tokens
    """(1, L) with what the policy adds, zeros where images and state come."""
    image_places: torch.Tensor
    """(N,) of image tokens."""
    state_place: torch.Tensor | None
    """(1,) of the state token, if there is one."""
    rows: torch.Tensor | None
    """(latent_num,) of the action tokens; None: latents are pooled from all."""
    situation: Situation


class PlainStages:
    """The stages of a control step as training computes them."""

    def __init__(self, policy: ActionTokenPolicy, processor: ActionTokenProcessor) -> None:
        self.policy, self.processor = policy, processor
        self.head_from: float | None = None
        """When the head began in the newest `decide`; None: not known."""

    def prepare(self, observation: Observation) -> dict[str, torch.Tensor]:
        """The inputs (1, ...) of the policy, on its device."""
        inputs = self.processor.collate([self.processor(observation)])
        return {key: value.to(self.policy.device) for key, value in inputs.items()}

    def see(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(1, N, D) image features."""
        keys = self.processor.family.image_keys
        return self.policy.image_embeddings(**{key: inputs[key] for key in keys if key in inputs})

    def decide(
        self,
        observation: Observation,
        inputs: dict[str, torch.Tensor],
        features: torch.Tensor,
        history: torch.Tensor | Context | None,
        guide: Guide | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> ActionTokenOutput:
        """Actions (1, C, A), latents and history."""
        self.head_from = None
        known = {*self.processor.family.text_keys, "state"}
        given = {key: value for key, value in inputs.items() if key in known}
        guided = {} if guide is None else {"guide": guide}
        output: ActionTokenOutput = self.policy(**given, image_embeds=features, history=history, **guided)
        return output


class FastStages(PlainStages):
    """The stages, each as fast as its parts allow, for images of the contract's sizes; plain for others."""

    def __init__(
        self,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        *,
        parts: Sequence[str] = PARTS,
        padding: int = 1,
        make: MakeProjection | None = None,
    ) -> None:
        """``parts``: of `PARTS`, what to make fast. ``padding``: a sequence is padded to a multiple of so many tokens.

        ``make`` makes the projections of the text tower; None: in the type of their weights.
        """
        super().__init__(policy, processor)
        self.padding = padding
        self.why: dict[str, str] = {part: "not asked for" for part in PARTS if part not in parts}
        """Part → why it is not fast."""
        self.errors: dict[str, float] = {}
        """Part → how far it is from the plain forward [share of a deviation], where that was looked at."""
        sizes = [processor.contract.camera(name) for name in processor.cameras]
        self.shapes = [(camera.height, camera.width, 3) for camera in sizes]
        """Of the images that this is for."""
        self.fused: FusedImages | None = None
        self.vision: Tape | None = None
        self.tower: TextTower | None = None
        self.head: Tape | None = None
        self.make = make
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()
        self._seen: list[NDArray[np.uint8]] = []
        self._features: torch.Tensor | None = None
        self._fits = False
        with torch.no_grad():
            self._images = self._image_tensors([np.zeros(shape, np.uint8) for shape in self.shapes])
            for part in parts:
                self._try(part)

    @property
    def parts(self) -> list[str]:
        """Those of `PARTS` that are fast."""
        return [part for part in PARTS if part not in self.why]

    def drop(self, part: str, why: str) -> None:
        """Let a part be the plain one."""
        self.why[part] = why
        setattr(self, {"images": "fused", "text": "tower"}.get(part, part), None)

    def _try(self, part: str) -> None:
        try:
            getattr(self, f"_make_{part}")()
        except (NotFusedError, NotRecordableError, UnknownTowerError) as error:
            self.why[part] = str(error)

    def _make_images(self) -> None:
        self.fused = FusedImages(self.processor)

    def _make_vision(self) -> None:
        rest = {key: value for key, value in self._images.items() if key != "pixel_values"}
        see = self.policy.backbone.steady_embeddings
        self.vision = record(lambda pixels: see(pixels, **rest), self._images["pixel_values"])

    def _make_text(self) -> None:
        config = self.policy.config
        if not self.policy.backbone.images_in_sequence:
            raise UnknownTowerError("its images have no place in the sequence")
        if self.policy.head.answers:
            raise UnknownTowerError("its head decides value behind value")
        if config.history == "interleaved" and config.window > 1:
            raise UnknownTowerError("it reads on behind earlier observations")
        self.tower = TextTower(self.policy.backbone, self.make)

    def _make_head(self) -> None:
        head, config = self.policy.head, self.policy.config
        if head.answers or head.shape.window > 1:
            raise NotRecordableError("how much it reads changes from step to step")
        shape = (1, 1, config.latent_num, head.shape.hidden_size)
        self.head = record(head, torch.zeros(shape, dtype=self.policy.new_dtype, device=self.policy.device))

    def _image_tensors(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """The family's `image_keys` (1, ...) of the images of all cameras."""
        keys, found = self.processor.family.image_keys, self.processor.images(images)
        return {key: found[key][None].to(self.policy.device) for key in keys if key in found}

    def prepare(self, observation: Observation) -> dict[str, torch.Tensor]:
        images = [observation.images[name] for name in self.processor.cameras if name in observation.images]
        self._fits = [image.shape for image in images] == self.shapes
        if not self._fits:
            self._features = None
            return super().prepare(observation)
        place = self.policy.device
        inputs: dict[str, torch.Tensor] = {}
        if len(self.processor.state_index):
            inputs["state"] = self.processor.state(observation.state)[None].to(place)
        if self.tower is None:
            prompt = self.processor.prompt(observation.instruction, self.shapes)
            inputs.update({key: value[None].to(place) for key, value in prompt.items()})
        if self._features is not None and all(map(np.array_equal, images, self._seen)):
            return inputs  # nothing moved, or the cameras are slower than the control rate
        self._features = None
        self._seen = [image.copy() for image in images]
        if self.fused is None:
            return {**inputs, **self._image_tensors(images)}
        return {**inputs, **self._images, "pixel_values": self.fused(images)[None].to(place)}

    def see(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self._fits:
            return super().see(inputs)
        if self._features is None:
            self._features = super().see(inputs) if self.vision is None else self.vision(inputs["pixel_values"])
        return self._features

    def decide(
        self,
        observation: Observation,
        inputs: dict[str, torch.Tensor],
        features: torch.Tensor,
        history: torch.Tensor | Context | None,
        guide: Guide | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> ActionTokenOutput:
        if self.tower is None or not self._fits:
            return super().decide(observation, inputs, features, history, guide, clock)
        latents = self.latents(observation.instruction, features, inputs.get("state"))
        self.head_from = clock()
        if self.head is None or guide is not None:
            return self.policy.decide(latents, history=history, guide=guide)
        return ActionTokenOutput(actions=self.head(latents[:, None])[:, -1], latents=latents)

    def latents(self, instruction: str, features: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """(1, latent_num, D) action latents of image features (1, N, D) and a state (1, S)."""
        return self.read(self.prompt(instruction, features), features, state)

    def read(self, prompt: Prompt, features: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """`latents` behind a prompt."""
        assert self.tower is not None
        policy, config = self.policy, self.policy.config
        if policy.resampler is not None:
            features = policy.resampler(features, len(config.cameras))  # (1, N, D)
        base, width = prompt.tokens.embeddings, prompt.tokens.embeddings.shape[-1]
        seen, *early = torch.split(features.to(base.dtype), width, dim=-1)  # (1, N, D) each
        x = base.index_copy(1, prompt.image_places, seen)  # (1, L, D)
        if prompt.state_place is not None:
            assert policy.state_token is not None
            assert state is not None
            said = policy.state_token(state.to(policy.new_dtype))[:, None]  # (1, 1, D)
            x.index_copy_(1, prompt.state_place, said.to(x.dtype))
        hidden = self.tower(x, prompt.situation, prompt.rows, early, prompt.image_places)
        if prompt.rows is None:
            hidden = pool_latents(
                hidden, prompt.tokens, policy.backbone, pooled=config.pooled, latent_num=config.latent_num
            )
        return hidden.to(policy.new_dtype)  # (1, latent_num, D)

    def look(self, observation: Observation) -> torch.Tensor:
        """(1, latent_num, D) action latents of an observation, whatever else happens to a step."""
        inputs = PlainStages.prepare(self, observation)
        return self.latents(observation.instruction, PlainStages.see(self, inputs), inputs.get("state"))

    def renew(self) -> None:
        """Forget programs that hold what was changed in the projections; here there are none."""

    def prompt(self, instruction: str, features: torch.Tensor) -> Prompt:
        """What an instruction makes, kept for the next time; of the features only the shape counts."""
        if instruction not in self._prompts:
            self._prompts[instruction] = self._new_prompt(instruction, features)
            if len(self._prompts) > _PROMPTS:
                self._prompts.popitem(last=False)
        return self._prompts[instruction]

    def _new_prompt(self, instruction: str, features: torch.Tensor) -> Prompt:
        assert self.tower is not None
        policy, backbone, config = self.policy, self.policy.backbone, self.policy.config
        made = self.processor.prompt(instruction, self.shapes)
        made = {key: value[None].to(policy.device) for key, value in made.items()}
        ids, mask = made.pop("input_ids"), made.pop("attention_mask")  # (1, L)
        state = None if policy.state_token is None else torch.zeros(1, len(config.state), device=policy.device)
        added = policy.added(1, state)  # (1, K, D)
        missing = -(ids.shape[1] + added.shape[1]) % self.padding
        ids, mask = (torch.nn.functional.pad(item, (0, missing)) for item in (ids, mask))
        if policy.resampler is not None:
            features = policy.resampler(features, len(config.cameras))  # (1, N, D)
        tokens, places = backbone.embed(ids, mask, torch.zeros_like(features), **made).insert(added)
        count = 0 if policy.action_token is None else config.latent_num
        return Prompt(
            tokens=tokens,
            image_places=(tokens.ids[0] == backbone.image_token_id).nonzero()[:, 0],
            state_place=places[0, :1] if policy.state_token is not None else None,
            rows=places[0, -count:] if count else None,
            situation=self.tower.situation(tokens),
        )
