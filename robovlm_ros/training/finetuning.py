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

import numpy as np
import torch
from torch.utils.data import WeightedRandomSampler

from robovlm_ros.action import to_relative
from robovlm_ros.checkpoints import Base, check_computing
from robovlm_ros.contract import NORMALISATIONS
from robovlm_ros.errors import UserError
from robovlm_ros.training.augmentation import Augmentation, Augmenter
from robovlm_ros.training.auxiliary import Auxiliary, AuxiliaryOptions
from robovlm_ros.training.cache import open_cache
from robovlm_ros.training.cotraining import check_learns, read_exchanges
from robovlm_ros.training.features import FeatureEncoder
from robovlm_ros.training.optimisation import PolicyOptimisation, build_optimizer
from robovlm_ros.training.reporting import Report, quiet_trainer
from robovlm_ros.training.switches import Switches, apply_switches, trainable
from robovlm_ros.training.windows import (
    Recording,
    WindowDataset,
    mixture_weights,
    open_episodes,
    read_recordings,
    split,
)
from robovlm_ros.vlm.adapters import merge_adapters
from robovlm_ros.vlm.agreement import check_family
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.checkpoint import load_vlm, name_base, resolve_device
from robovlm_ros.vlm.computing import check_device, check_trained_types
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads import build_head, head_options
from robovlm_ros.vlm.normalisation import fit, methods_of, relative_limits
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.prompts import PLAIN
from robovlm_ros.vlm.resampler import Resampler, read_resampler, resampler_options


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(Switches, PolicyOptimisation, Augmentation, AuxiliaryOptions):
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
    """Observations per step."""
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


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a fine-tuning gave."""

    policy: ActionTokenPolicy
    processor: ActionTokenProcessor
    figures: dict[str, Any]
    """What was measured, for the model card."""
    base: Base | None = None
    """The vision-language model below, where its weights are not to be saved with the policy."""


def finetune(options: FinetuneOptions, directories: Path | Sequence[Path], base: str, report: Report) -> Trained:
    """Read the episodes in one folder or several and train a policy on the vision-language model ``base``."""
    sources = [directories] if isinstance(directories, Path) else list(directories)
    if options.mixture and len(options.mixture) != len(sources):
        raise UserError(
            f"mixture has {len(options.mixture)} shares for {len(sources)} folders of episodes: give one for each"
        )
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    check_device(options.attention, device)
    if options.cotrain_data is not None:
        read_exchanges(options.cotrain_data)  # what is wrong with it is said now, not when all else has been read
    cache = open_cache(options.cache)
    vlm, backbone_processor = load_vlm(base, options.dtype, options.attention)
    below = name_base(base) if options.save == "adapters" else None
    vlm.to(device)
    episodes = open_episodes(sources)
    config = configure(options, vlm.config, episodes[0].contract, backbone_processor)
    print(f"{report.name}: prompt {config.prompt!r}", flush=True)
    processor = ActionTokenProcessor(config, backbone_processor)
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    check_family(policy, processor)
    apply_switches(policy, options, options.seed)
    check_trained_types(policy)

    def progress(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0:
            print(f"{report.name}: read {done}/{total} episodes", flush=True)

    start = time.monotonic()
    encode = feature_encoder(policy, options, device)
    recordings = read_recordings(
        episodes, processor, options.chunk_size, encode, progress, raw=options.augments, cache=cache
    )
    reading = time.monotonic() - start
    trained = train(options, policy, processor, recordings, report, sources)
    if below is None:
        merge_adapters(policy)
    trained.figures.update(read_seconds=round(reading, 1), base=Path(base).name)
    return dataclasses.replace(trained, base=below)


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


def set_statistics(
    options: FinetuneOptions, processor: ActionTokenProcessor, recordings: Sequence[Recording]
) -> ActionTokenProcessor:
    """A processor with the statistics of these recordings' states and (relative) actions."""
    config, contract = processor.config, processor.contract
    states = np.concatenate([recording.states for recording in recordings])[:, processor.state_index]
    relative = []
    for recording in recordings:
        state = np.broadcast_to(recording.states[:, None], (*recording.actions.shape[:2], recording.states.shape[1]))
        relative.append(to_relative(contract, recording.actions, state)[recording.valid])  # (valid steps, A)
    if len(processor.state_index):
        said = [contract.state_normalisations[index] for index in processor.state_index]
        config.state_statistics = fit(methods_of(said, options.state_normalisation), states).to_dict()
    methods = methods_of([dim.normalise for dim in contract.action_dims], options.action_normalisation)
    actions = fit(methods, np.concatenate(relative), contract.binary, relative_limits(contract))
    config.action_statistics = actions.to_dict()
    return ActionTokenProcessor(config, processor.backbone)


def train(
    options: FinetuneOptions,
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    recordings: Sequence[Recording],
    report: Report,
    sources: Sequence[Path] = (),
) -> Trained:
    """Train the policy in place on recordings; the statistics are those of the training share.

    ``sources`` are the folders that the options' mixture speaks of.
    """
    from transformers import Trainer

    training, validation = split(recordings, options.validation_share, options.seed)
    processor = set_statistics(options, processor, training)
    _initialise(policy, options.seed)
    augmenter = Augmenter(options, len(processor.cameras), options.seed) if options.augments else None
    dataset = WindowDataset(training, processor, augmenter)
    held_out = WindowDataset(validation, processor)
    if options.alignment_weight and len({text for recording in training for text in recording.instructions}) < 2:
        raise UserError("alignment_weight: all episodes follow one instruction, nothing to be told apart: leave it off")
    beside = Auxiliary(policy, processor, options, options.seed, dataset.instruction)
    optimizer = build_optimizer(policy, options)
    beside.join(optimizer, options)

    weights = mixture_weights(training, sources, options.mixture) if options.mixture else None

    class PolicyTrainer(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if weights is None:
                return super()._get_train_sampler(train_dataset)
            generator = torch.Generator().manual_seed(options.seed)
            return WeightedRandomSampler(weights.tolist(), len(dataset), generator=generator)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            items = inputs.pop("item")
            output = model(**inputs)
            output.loss = beside.loss(output, items, inputs.get("valid"))
            if not bool(torch.isfinite(output.loss)):
                names = ", ".join(dataset.name(int(item)) for item in items[:4])
                raise UserError(
                    f"the loss is {output.loss.item()} at step {self.state.global_step} for {names}, ...: "
                    "look at these observations or lower learning_rate"
                )
            return (output.loss, output) if return_outputs else output.loss

    def measure() -> dict[str, float]:
        error = {"validation_error": validation_error(policy, held_out, limit=512)} if validation else {}
        return {**beside.figures(), **error}

    start = time.monotonic()
    trainer = quiet_trainer(
        PolicyTrainer,
        model=policy,
        dataset=dataset,
        collator=processor.collate,
        options=options,
        report=report,
        measure=measure,
        optimizer=optimizer,
        device=options.device,
        workers=options.workers,
    )
    trainer.train()
    policy.eval()
    figures = {
        "episodes": len(training),
        "validation_episodes": len(validation),
        "observations": len(dataset),
        "steps": options.steps,
        "train_seconds": round(time.monotonic() - start, 1),
        "train_loss": report.last("loss"),
        **beside.figures(),
        "validation_error": validation_error(policy, held_out) if validation else None,
        "trainable": [dataclasses.asdict(row) for row in trainable(policy)],
        "options": dataclasses.asdict(options),
    }
    return Trained(policy=policy, processor=processor, figures=figures)


def _initialise(policy: ActionTokenPolicy, seed: int) -> None:
    """New weights that depend on the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # built anew, for not every part of every head can reset itself
        policy.head.load_state_dict(build_head(policy.head.shape, policy.config.head or {}).state_dict())
        policy.inherit()
        if policy.state_token is not None:
            policy.state_token.reset_parameters()
        if policy.action_token is not None:
            torch.nn.init.zeros_(policy.action_token)
        if policy.resampler is not None:
            fresh = Resampler(policy.backbone.hidden_size, read_resampler(policy.config.resampler))
            policy.resampler.load_state_dict(fresh.state_dict())


@torch.inference_mode()
def validation_error(policy: ActionTokenPolicy, dataset: WindowDataset, limit: int | None = None) -> float:
    """Mean absolute error of continuous actions over valid steps, in the contract's units, on evenly spread items."""
    training = policy.training
    policy.eval()
    processor = dataset.processor
    continuous = ~processor.contract.binary
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round().astype(int))
    total, count = 0.0, 0.0
    for start in range(0, len(chosen), 64):
        batch = processor.collate([dataset[int(item)] for item in chosen[start : start + 64]])
        batch = {key: value.to(policy.device) for key, value in batch.items() if key != "item"}
        targets, valid = batch.pop("actions"), batch.pop("valid")
        decided = policy(**batch).actions
        if processor.config.history == "policy_head" and processor.config.window > 1:
            # (B, W, C, A): of each window, the observation that it was made for; interleaved windows count as a whole,
            # for running decides behind 1 to W observations alike
            last = (valid.amax(-1).sum(-1).long() - 1, torch.arange(len(valid), device=valid.device))
            decided, targets, valid = (value[last[1], last[0]] for value in (decided, targets, valid))
        wanted, given = (
            processor.action_normaliser.restore(value.double().cpu().numpy()) for value in (targets, decided)
        )
        counts = valid.double().cpu().numpy()  # (B, C)
        total += float((np.abs(given - wanted)[..., continuous] * counts[..., None]).sum())
        count += float(counts.sum()) * int(continuous.sum())
    policy.train(training)
    return total / max(count, 1.0)
