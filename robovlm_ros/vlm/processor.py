"""Observation → model input, and model output → actions: one way for training and for serving.

Images and text go through the backbone's own processor, which lies in the checkpoint folder; state and
actions through the statistics in its configuration.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros.action import to_absolute, to_relative
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.normalisation import Normaliser
from robovlm_ros.vlm.prompts import fill_prompt
from robovlm_ros.vlm.resampler import read_resampler, resample_places

_CACHED_PROMPTS = 256


class ActionTokenProcessor:
    """What a policy sees of an observation, and what its numbers mean. Deterministic, byte for byte."""

    def __init__(self, config: ActionTokenConfig, backbone: Any) -> None:
        """``backbone`` is the vision-language model's own processor (an `AutoProcessor`)."""
        self.config = config
        self.backbone = backbone
        self.contract = config.check()
        self.cameras: tuple[str, ...] = tuple(config.cameras or ())
        names = self.contract.state_names
        self.state_index = np.array([names.index(name) for name in config.state or ()], dtype=np.int64)
        self.state_normaliser = _normaliser(config.state_statistics, len(self.state_index), "state")
        self.action_normaliser = _normaliser(config.action_statistics, len(self.contract.action_dims), "action")
        self.family = family_of(config.vlm_type)
        self._prompts: OrderedDict[tuple[Any, ...], dict[str, torch.Tensor]] = OrderedDict()
        if config.resampler is not None:  # whether its images can be told apart is known here, not only when it runs
            sizes = [self.contract.camera(name) for name in self.cameras]
            self.prompt("", [(camera.height, camera.width, 3) for camera in sizes])

    def __call__(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Model input for one observation, without a batch dimension.

        Returns input_ids (L,), attention_mask (L,), state (S,) float32 if the policy has a state token, and the
        image processor's tensors, pixel_values (cameras, 3, H, W) float32 among them.
        """
        images = [self._image(observation, camera) for camera in self.cameras]
        inputs = self.prompt(observation.instruction, [image.shape for image in images])
        inputs.update(self.images(images))
        if len(self.state_index):
            inputs["state"] = self.state(observation.state)
        return inputs

    def prompt(self, instruction: str, shapes: Sequence[tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask (L,) for an instruction and images of these (height, width, 3) shapes.

        Some families add where the images' tokens lie, such as image_grid_thw (images, 3) [patches]. Kept from one
        call to the next, for the instruction seldom changes.
        """
        key = (instruction, *shapes)
        if key not in self._prompts:
            text = self.text(instruction, len(shapes))
            blank = [np.zeros(shape, np.uint8) for shape in shapes]
            self._prompts[key] = self._resampled(self.family.prompt_tensors(self.backbone, text, blank), len(shapes))
            if len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return dict(self._prompts[key])

    def _resampled(self, prompt: dict[str, torch.Tensor], images: int) -> dict[str, torch.Tensor]:
        """A prompt with as many places for each image as the policy's resampler gives tokens, if it has one."""
        vlm: Any = self.config.vlm_config
        if self.config.resampler is None:
            return prompt
        ids, mask = resample_places(
            prompt["input_ids"],
            prompt["attention_mask"],
            int(vlm.image_token_id),
            images,
            read_resampler(self.config.resampler).queries,
        )
        return {**prompt, "input_ids": ids, "attention_mask": mask}

    def text(self, instruction: str, images: int) -> str:
        """The prompt for an instruction and that many images, as the backbone's own processor takes it."""
        return fill_prompt(self.family, self.backbone, self.config.prompt, instruction, images)

    def images(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
        """The image processor's tensors for the images (height, width, 3) of all cameras, in their order."""
        return self.family.image_tensors(self.backbone, images)

    def state(self, state: NDArray[np.floating]) -> torch.Tensor:
        """(S,) normalised state token input of the contract's state vector."""
        chosen = self.state_normaliser.normalise(np.asarray(state, np.float64)[..., self.state_index])
        return torch.from_numpy(chosen.astype(np.float32))

    def targets(self, actions: NDArray[np.floating], state: NDArray[np.floating]) -> torch.Tensor:
        """(..., C, A) what the model is to decide, for absolute actions (..., C, A) and the state they follow.

        ``state`` is (..., state_dim), one for each chunk.
        """
        states = np.broadcast_to(state[..., None, :], (*actions.shape[:-1], state.shape[-1]))  # (..., C, state_dim)
        relative = to_relative(self.contract, actions, states)
        return torch.from_numpy(self.action_normaliser.normalise(relative).astype(np.float32))

    def actions(self, decided: torch.Tensor, state: NDArray[np.floating]) -> NDArray[np.float64]:
        """(C, A) absolute actions in the contract's units, 0 or 1 where binary; inverse of `targets`."""
        values = self.action_normaliser.restore(decided.detach().to("cpu", torch.float64).numpy())
        binary = self.contract.binary
        with np.errstate(invalid="ignore"):
            values[..., binary] = np.where(np.isnan(values[..., binary]), np.nan, values[..., binary] > 0.5)
        return to_absolute(self.contract, values, np.broadcast_to(state, (len(values), len(state))))

    def collate(self, items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A batch of inputs; prompts are padded on the right, which changes nothing for a policy."""
        length = max(item["input_ids"].shape[-1] for item in items)
        batch: dict[str, torch.Tensor] = {}
        for key in items[0]:
            values = [item[key] for item in items]
            if key in ("input_ids", "attention_mask"):
                fill = self.backbone.tokenizer.pad_token_id if key == "input_ids" else 0
                values = [_padded(value, length, fill) for value in values]
            batch[key] = torch.stack(values)
        return batch

    def _image(self, observation: Observation, camera: str) -> NDArray[np.uint8]:
        if camera not in observation.images:
            raise UserError(f"the observation lacks camera '{camera}' (it has: {', '.join(observation.images)})")
        return observation.images[camera]


def _padded(value: torch.Tensor, length: int, fill: int) -> torch.Tensor:
    """(..., L) to (..., length); most often they are of one length, and asking is faster than padding by nothing."""
    missing = length - value.shape[-1]
    return torch.nn.functional.pad(value, (0, missing), value=fill) if missing else value


def _normaliser(statistics: dict[str, Any] | None, dims: int, what: str) -> Normaliser:
    if statistics is None:
        return Normaliser.identity(dims)
    normaliser = Normaliser.from_dict(statistics)
    if len(normaliser.scale) != dims:
        raise UserError(f"the {what} statistics have {len(normaliser.scale)} dimensions, the {what} has {dims}")
    return normaliser
