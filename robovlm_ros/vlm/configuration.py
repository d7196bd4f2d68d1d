"""Configuration of an action-token policy: the backbone's own, the contract, the head, the statistics."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.latents import check_latents
from robovlm_ros.vlm.prompts import places_images
from robovlm_ros.vlm.resampler import check_resampler

FORMAT = 1
"""Version of the checkpoint folder; raised when an older program could not act on a newer folder."""

HISTORIES = ("one_step", "policy_head", "interleaved")
"""``one_step``: the newest observation alone. ``policy_head``: each observation goes through the VLM by itself, and the
head joins the latents of a window of them. ``interleaved``: the VLM reads a window of observations as one sequence."""


class ActionTokenConfig(PreTrainedConfig):  # type: ignore[misc]
    """Everything but weights that is needed to act."""

    model_type = "robovlm_action_token"
    sub_configs_defaults = {"vlm_config": SubConfigSpec(config_class=AutoConfig, model_type="idefics3")}  # noqa: RUF012

    vlm_config: dict[str, Any] | PreTrainedConfig | None = None
    """The backbone's configuration."""
    contract: dict[str, Any] | None = None
    """The contract as plain values; see `robovlm_ros.contract`."""
    cameras: list[str] | None = None
    """Cameras that the policy looks at, in the order of its image placeholders."""
    state: list[str] | None = None
    """State dimensions that make up the state token; empty: no state token."""
    latent_num: int = 1
    """Action latents of an observation: action tokens, or means where there are none."""
    latents: str = "action_token"
    """Where action latents come from: one of `vlm.latents.LATENTS`."""
    pooled: str = "all"
    """What latents `down_sample` are means of: one of `vlm.latents.POOLED`."""
    shared_action_token: bool = False
    """One learned vector for all action tokens, which then differ by position alone; else one vector each."""
    resampler: dict[str, Any] | None = None
    """Perceiver resampler of image features: ``type`` and its options; None: none."""
    chunk_size: int = 8
    """Actions of one chunk [steps]."""
    history: str = "one_step"
    """What a decision rests on: one of HISTORIES."""
    window: int = 1
    """Observations that a decision rests on, its own among them; 1 for `one_step`."""
    prompt: str = "{images}{instruction}"
    """Prompt template; {images} becomes the image placeholders of all cameras, or each {image} that of one."""
    head: dict[str, Any] | None = None
    """Policy head: ``type`` and the options of that type."""
    state_statistics: dict[str, Any] | None = None
    """`Normaliser` of the chosen state dimensions."""
    action_statistics: dict[str, Any] | None = None
    """`Normaliser` of the actions (relative ones where the contract has a reference)."""
    base: dict[str, Any] | None = None
    """The backbone's own folder or hub name and the content of its weights, where the policy's folder holds adapters
    and new parts alone; see `robovlm_ros.checkpoints.Base`. None: it holds all weights."""
    format: int = FORMAT
    """Version of the checkpoint folder."""

    @property
    def vlm_type(self) -> str:
        """transformers' ``model_type`` of the backbone."""
        vlm: Any = self.vlm_config
        return str(vlm["model_type"] if isinstance(vlm, dict) else vlm.model_type)

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vlm_config, PreTrainedConfig):
            # the base class would make its own choice for all parts, those of a model that is already there among them
            kwargs.setdefault("attn_implementation", {"vlm_config": _attention(self.vlm_config)})
        super().__post_init__(**kwargs)

    def check(self) -> Contract:
        """The contract, after everything was checked against it; UserError says what does not fit."""
        if self.contract is None or self.vlm_config is None:
            raise UserError("the policy's configuration lacks its contract or its backbone")
        if self.format > FORMAT:
            raise UserError(f"the checkpoint has format {self.format}, this program knows up to {FORMAT}: update it")
        contract = Contract.from_dict(self.contract, "the checkpoint's contract")
        if not self.cameras:
            raise UserError("a policy needs at least one camera")
        for camera in self.cameras:
            contract.camera(camera)
        for name in self.state or []:
            if name not in contract.state_names:
                raise UserError(
                    f"contract '{contract.name}' has no state '{name}' (state: {', '.join(contract.state_names)})"
                )
        for name in ("latent_num", "chunk_size", "window"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.history not in HISTORIES:
            raise UserError(f"history '{self.history}' is not one of: {', '.join(HISTORIES)}")
        if self.history == "one_step" and self.window != 1:
            raise UserError(
                f"history 'one_step' has a window of 1, not {self.window}: choose history policy_head or interleaved"
            )
        if "{instruction}" not in self.prompt or not places_images(self.prompt, len(self.cameras)):
            raise UserError(
                f"prompt '{self.prompt}' must hold {{instruction}}, and {{images}} once or {{image}} for each camera "
                f"({len(self.cameras)})"
            )
        family = family_of(self.vlm_type)
        if self.history == "interleaved" and family.not_interleaved:
            raise UserError(
                f"history 'interleaved' is not for '{self.vlm_type}': {family.not_interleaved}; "
                "choose history one_step or policy_head"
            )
        check_latents(self, family)
        check_resampler(self.resampler, family)
        return contract


def _attention(config: PreTrainedConfig) -> dict[str, Any]:
    """Attention implementations of a configuration and of its parts, as `PreTrainedConfig` takes them."""
    parts = {key: getattr(config, key, None) for key in config.sub_configs}
    return {
        "": config._attn_implementation,
        **{key: _attention(part) for key, part in parts.items() if isinstance(part, PreTrainedConfig)},
    }


AutoConfig.register(ActionTokenConfig.model_type, ActionTokenConfig, exist_ok=True)
