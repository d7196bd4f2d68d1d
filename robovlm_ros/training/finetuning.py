"""Stage two: from recorded episodes to a policy. Plain behaviour cloning, no simulator truth.

The action tokens start at zero; with the head they learn what they mean, while the switches say how much
of the vision-language model may change.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robovlm_ros.checkpoints import check_computing
from robovlm_ros.contract import NORMALISATIONS
from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.augmentation import Augmentation
from robovlm_ros.training.auxiliary import AuxiliaryOptions
from robovlm_ros.training.cache import open_cache
from robovlm_ros.training.cotraining import check_learns, read_exchanges
from robovlm_ros.training.features import FeatureEncoder
from robovlm_ros.training.loop import Place, Trained, check_learned_types, set_statistics, train
from robovlm_ros.training.optimisation import PolicyOptimisation
from robovlm_ros.training.reporting import Report, say
from robovlm_ros.training.runs import SavingOptions
from robovlm_ros.training.saving import Evaluate
from robovlm_ros.training.steps import check_parts
from robovlm_ros.training.switches import Switches, apply_switches
from robovlm_ros.training.windows import open_episodes, read_recordings
from robovlm_ros.vlm.adapters import merge_adapters
from robovlm_ros.vlm.agreement import check_family
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.checkpoint import load_vlm, name_base, resolve_device
from robovlm_ros.vlm.computing import check_device, check_trained_types
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads import head_options
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.prompts import PLAIN
from robovlm_ros.vlm.resampler import resampler_options

__all__ = ["FinetuneOptions", "Trained", "configure", "feature_encoder", "finetune", "set_statistics", "train"]


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(Switches, PolicyOptimisation, Augmentation, AuxiliaryOptions, SavingOptions):
    """How a policy is made from episodes."""

    cameras: tuple[str, ...] = ()
    """Cameras that the policy looks at; empty: the contract's first one."""
    state: tuple[str, ...] | None = None
    """State dimensions of the state token; empty: no state token; None: all of the contract."""
    chunk_size: int = 8
    """Actions of one chunk [steps of the contract's rate]."""
    latent_num: int = 1
    """Action latents of an observation: action tokens, or means where there are none."""
    latents: str = "action_token"
    """Where action latents come from: action_token (learned tokens) or down_sample (means of the prompt's states)."""
    pooled: str = "all"
    """What latents down_sample are means of: text, vision or all tokens."""
    shared_action_token: bool = False
    """One learned vector for all action tokens, as in RoboVLMs; else one each."""
    resampler: dict[str, Any] | None = None
    """Resampler of image features: perceiver, in YAML a mapping of type, queries, depth, heads and head_width."""
    history: str = "one_step"
    """What a decision rests on: one_step (the newest observation), policy_head (a window, joined by the head) or
    interleaved (a window, read by the VLM as one sequence)."""
    window: int = 1
    """Observations that a decision rests on, one per frame of the first camera; 1 for one_step."""
    prompt: str | None = None
    """Prompt template with {instruction} and {images}, or {image} for each camera; None: the backbone's own, which is
    that of its chat template if it has one."""
    head: dict[str, Any] = field(default_factory=lambda: {"type": "mlp"})
    """Policy head: mlp, lstm, gpt, flow, diffusion or discrete; in YAML a mapping of type and that head's options."""
    state_normalisation: str = "quantile"
    """quantile, min_max, mean_std, mu_law or identity, for dimensions of which the contract says nothing."""
    action_normalisation: str = "quantile"
    """quantile, min_max, mean_std, mu_law, limits or identity, for dimensions of which the contract says nothing."""
    batch_size: int = 64
    """Observations per step, of all processes and accumulated parts together."""
    mixture: tuple[float, ...] = ()
    """Share of each folder of episodes among what is trained on, in their order, say 0.7, 0.3; empty: all observations
    count the same."""
    validation_share: float = 0.05
    """Share of the episodes that is kept aside to measure the error."""
    cache_features: bool = True
    """Compute image features once, where the vision tower is not trained."""
    cache: str = "auto"
    """Where what is decoded from episodes is kept for later runs: a folder; auto: the user's cache folder, or what
    ROBOVLM_ROS_CACHE names; off: in memory, and decoded anew by each run."""
    workers: int = 0
    """Processes that prepare batches while the model trains; 0: it waits for each batch."""
    seed: int = 0
    """Seed of the new weights, the split and the order."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """Type of the backbone's weights: auto (as in its folder), float32, bfloat16 or float16. What is new, and adapters,
    learn in float32."""
    attention: str = "auto"
    """How attention is computed: auto, eager, sdpa, flash_attention_2 or flex_attention, as transformers names them."""
    save: str = "merged"
    """merged: a complete policy. adapters: only what was learned; the base stays where it is and must not change."""

    def __post_init__(self) -> None:
        Switches.__post_init__(self)
        PolicyOptimisation.__post_init__(self)
        Augmentation.__post_init__(self)
        AuxiliaryOptions.__post_init__(self)
        SavingOptions.__post_init__(self)
        if self.workers < 0:
            raise UserError(f"workers must be at least 0, not {self.workers}")
        for name in ("chunk_size", "latent_num", "window"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.validation_share < 1:
            raise UserError(f"validation_share must be at least 0 and less than 1, not {self.validation_share}")
        if not all(math.isfinite(share) and share > 0 for share in self.mixture):
            raise UserError(f"mixture must be shares above 0, not {', '.join(map(str, self.mixture))}")
        for name in ("state_normalisation", "action_normalisation"):
            valid = [word for word in NORMALISATIONS if word != "limits" or name != "state_normalisation"]
            if getattr(self, name) not in valid:
                raise UserError(f"{name} '{getattr(self, name)}' is not one of: {', '.join(valid)}")
        if self.augments and self.cache_features and not self.train_vision:
            raise UserError("augment_* needs images, but image features are computed once: set cache_features false")
        head_options(self.head)
        check_computing(self.dtype, self.attention)
        if self.cotrain_weight:
            check_learns(self)
        if self.save not in ("merged", "adapters"):
            raise UserError(f"save '{self.save}' is not one of: merged, adapters")
        if self.save == "adapters" and not (self.lora_rank or self.freeze_backbone):
            raise UserError(
                "save 'adapters' needs lora_rank > 0 or freeze_backbone: otherwise the whole backbone learns"
            )

    def told(self) -> dict[str, Any]:
        """The options as the policy's folder tells them: without the cache, which decides nothing, and without the
        paths of this machine: of questions the name, as of the base and the episodes."""
        told = {name: value for name, value in dataclasses.asdict(self).items() if name != "cache"}
        if self.cotrain_data is not None:
            told["cotrain_data"] = Path(self.cotrain_data).name
        return told


def finetune(
    options: FinetuneOptions,
    directories: Path | Sequence[Path],
    base: str,
    report: Report,
    output: Path | None = None,
    *,
    resume: bool = False,
    evaluate: Evaluate | None = None,
) -> Trained:
    """Read the episodes in one folder or several and train a policy on the vision-language model ``base``.

    Checkpoints lie in ``output``, from the newest of which ``resume`` goes on; ``evaluate`` measures some of them.
    """
    sources = [directories] if isinstance(directories, Path) else list(directories)
    if options.mixture and len(options.mixture) != len(sources):
        raise UserError(
            f"mixture has {len(options.mixture)} shares for {len(sources)} folders of episodes: give one for each"
        )
    if options.saves and output is None:
        raise ValueError("checkpoints need an output folder")
    processes.join(options.device)
    check_parts(options.batch_size, options.accumulate, processes.count())
    torch.set_num_threads(options.threads)
    device = processes.own_device(resolve_device(options.device))
    check_device(options.attention, device)
    if processes.sharded() and (options.lora_rank or options.save == "adapters"):
        raise UserError("FSDP spreads weights that learn, and with adapters few do: start finetune with DDP instead")
    if options.cotrain_data is not None:
        read_exchanges(options.cotrain_data)  # what is wrong with it is said now, not when all else has been read
    cache = open_cache(options.cache)
    vlm, backbone_processor = load_vlm(base, options.dtype, options.attention)
    below = name_base(base) if options.save == "adapters" or options.saves else None
    vlm.to(device)
    episodes = open_episodes(sources)
    if options.evaluate_every and episodes[0].contract.simulator != "mujoco":
        raise UserError(
            f"evaluate_every: contract '{episodes[0].contract.name}' names no simulator (simulator: mujoco)"
        )
    config = configure(options, vlm.config, episodes[0].contract, backbone_processor)
    say(f"{report.name}: prompt {config.prompt!r}")
    processor = ActionTokenProcessor(config, backbone_processor)
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    check_family(policy, processor)
    apply_switches(policy, options, options.seed)
    check_trained_types(policy)
    check_learned_types(policy, options.precision)

    def progress(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0:
            say(f"{report.name}: read {done}/{total} episodes")

    start = time.monotonic()
    encode = feature_encoder(policy, options, device)
    with processes.first_alone():
        recordings = read_recordings(
            episodes, processor, options.chunk_size, encode, progress, raw=options.augments, cache=cache
        )
    reading = time.monotonic() - start
    place = None
    if output is not None:
        place = Place(folder=output, base=base, below=below, resume=resume, evaluate=evaluate)
    trained = train(options, policy, processor, recordings, report, sources, place)
    if options.save == "merged":
        merge_adapters(policy)
    trained.figures.update(read_seconds=round(reading, 1), base=Path(base).name)
    return dataclasses.replace(trained, base=below if options.save == "adapters" else None)


def configure(
    options: FinetuneOptions, vlm_config: Any, contract: Any, backbone_processor: Any = None
) -> ActionTokenConfig:
    """The policy's configuration, checked against the contract; statistics come later.

    Without the backbone's processor, a prompt that is not given becomes the plain one.
    """
    prompt = options.prompt
    if prompt is None:
        family = family_of(vlm_config.model_type)
        prompt = (
            PLAIN if backbone_processor is None else family.template(backbone_processor, max(1, len(options.cameras)))
        )
    config = ActionTokenConfig(
        vlm_config=vlm_config,
        contract=contract.to_dict(),
        cameras=list(options.cameras) or [contract.cameras[0].name],
        state=list(contract.state_names if options.state is None else options.state),
        latent_num=options.latent_num,
        latents=options.latents,
        pooled=options.pooled,
        shared_action_token=options.shared_action_token,
        resampler=None if options.resampler is None else resampler_options(options.resampler),
        chunk_size=options.chunk_size,
        history=options.history,
        window=options.window,
        prompt=prompt,
        head=head_options(options.head),
    )
    config.check()
    options.shift_of(0, len(config.cameras or ()))
    if options.head.get("type") == "discrete" and options.action_normalisation == "mean_std":
        raise UserError(
            "action_normalisation mean_std leaves a third of all values outside [-1, 1], where head 'discrete' has no "
            "bins: choose quantile, min_max or mu_law"
        )
    return config


def feature_encoder(policy: ActionTokenPolicy, options: FinetuneOptions, device: torch.device) -> FeatureEncoder | None:
    """What turns an episode's images into features once and for all, where features do not change in training."""
    if options.train_vision or not options.cache_features:
        return None
    return FeatureEncoder(policy, options.batch_size, device)
