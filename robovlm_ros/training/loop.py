"""Training of a policy on recordings: everything is put together here, and measured at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robovlm_ros.action import to_relative
from robovlm_ros.checkpoints import Base
from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.augmentation import Augmenter
from robovlm_ros.training.auxiliary import Auxiliary
from robovlm_ros.training.optimisation import build_optimizer
from robovlm_ros.training.reporting import Report, quiet_trainer
from robovlm_ros.training.runs import FOLDER, Checkpoints, Run
from robovlm_ros.training.saving import Evaluate, Saver, fingerprints, of_policy, whole_weights
from robovlm_ros.training.steps import Looks, StepBatches, check_parts, drawn, shuffled
from robovlm_ros.training.switches import trainable
from robovlm_ros.training.windows import Recording, WindowDataset, mixture_weights, split
from robovlm_ros.vlm.backbones import FAMILIES
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.heads import build_head
from robovlm_ros.vlm.normalisation import fit, methods_of, relative_limits
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.resampler import Resampler, read_resampler

if TYPE_CHECKING:
    from robovlm_ros.training.finetuning import FinetuneOptions

_MEASURED = 512
"""Observations that tell the error while training goes on."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a fine-tuning gave."""

    policy: ActionTokenPolicy
    processor: ActionTokenProcessor
    figures: dict[str, Any]
    """What was measured, for the model card."""
    base: Base | None = None
    """The vision-language model below, where its weights are not to be saved with the policy."""
    weights: dict[str, torch.Tensor] | None = None
    """The policy's weights by name, where its own are spread over processes."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run leaves its checkpoints, and what it is made of."""

    folder: Path
    """The policy's folder; checkpoints lie inside."""
    base: str
    """The vision-language model, as it was named."""
    below: Base | None
    """The same with its content; None where nothing is saved."""
    resume: bool = False
    """Go on from the newest checkpoint, if there is one."""
    evaluate: Evaluate | None = None


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
    place: Place | None = None,
) -> Trained:
    """Train the policy in place on recordings; the statistics are those of the training share.

    ``sources`` are the folders that the options' mixture speaks of; without a ``place`` nothing is saved on the way.
    """
    from robovlm_ros.training.trainer import Learner, PolicyTrainer

    together = processes.count()
    check_parts(options.batch_size, options.accumulate, together)
    training, validation = split(recordings, options.validation_share, options.seed)
    processor = set_statistics(options, processor, training)
    initialise(policy, options.seed)
    augmenter = Augmenter(options, len(processor.cameras), options.seed) if options.augments else None
    dataset = WindowDataset(training, processor, augmenter)
    held_out = WindowDataset(validation, processor)
    instructions = list(dict.fromkeys(text for recording in training for text in recording.instructions))
    if options.alignment_weight and len(instructions) < 2:
        raise UserError("alignment_weight: all episodes follow one instruction, nothing to be told apart: leave it off")
    check_learned_types(policy, options.precision)
    if options.gradient_checkpointing:
        checkpoint_activations(policy)
    beside = Auxiliary(policy, processor, options, options.seed, dataset.instruction)
    weights = mixture_weights(training, sources, options.mixture) if options.mixture else None
    order = shuffled(len(dataset), options.seed) if weights is None else drawn(weights, options.seed)
    batches = StepBatches(
        order, len(dataset), options.batch_size,
        accumulate=options.accumulate, rank=processes.rank(), processes=together,
    )  # fmt: skip

    def make_optimizer() -> torch.optim.Optimizer:
        optimizer = build_optimizer(policy, options)
        beside.join(optimizer, options)
        return optimizer

    def decide(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        from robovlm_ros.training.trainer import Part

        decided: torch.Tensor = trainer.model(Part(inputs=inputs))
        return decided

    def measure_error(limit: int | None = _MEASURED) -> dict[str, float]:
        return {"validation_error": validation_error(trainer.model, decide, held_out, limit)} if validation else {}

    saver = _saver(options, policy, processor, report, measure_error, place) if place and options.saves else None
    start = time.monotonic()
    trainer = quiet_trainer(
        PolicyTrainer,
        model=Learner(policy, beside),
        dataset=Looks(dataset),
        collator=processor.collate,
        options=options,
        report=report,
        measure=lambda: {**beside.figures(), **measure_error()},
        device=options.device,
        workers=options.workers,
        parts=options.accumulate * together,
        settings={
            "gradient_accumulation_steps": options.accumulate,
            "bf16": options.precision == "bfloat16",
            # some towers have weights that never get a gradient, which distributed training must look for
            "ddp_find_unused_parameters": options.train_vision or policy.vlm.config.model_type not in FAMILIES,
            "ddp_timeout": round(processes.PATIENCE.total_seconds()),
        },
        batches=batches,
        beside=beside,
        saver=saver,
        make_optimizer=make_optimizer,
    )
    newest = saver.checkpoints.newest() if saver and place and place.resume else None
    beside.begin(saver.done() if saver and newest else 0, instructions)
    if saver is not None and place is not None:
        _begin(options, saver, place, fingerprints([*training, *validation]), sources)
    if saver is not None and newest is not None:
        saver.resume(trainer)
    else:
        trainer.train()
    sharded = trainer.is_fsdp_enabled
    final = measure_error(None)
    policy.eval()
    figures = {
        "episodes": len(training),
        "validation_episodes": len(validation),
        "observations": len(dataset),
        "steps": options.steps,
        "processes": together,
        "train_seconds": round(time.monotonic() - start, 1),
        "train_loss": report.last("loss"),
        **beside.figures(),
        "validation_error": final.get("validation_error"),
        "trainable": [dataclasses.asdict(row) for row in trainable(policy)],
        "options": dataclasses.asdict(options),
    }
    best = saver.checkpoints.best() if saver else None
    if saver is not None and best is not None:
        figures["best"] = {"step": best, **saver.checkpoints.measured(best)}
    return Trained(
        policy=policy,
        processor=processor,
        figures=figures,
        weights=of_policy(whole_weights(trainer)) if sharded else None,
    )


def _saver(
    options: FinetuneOptions,
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    report: Report,
    measure: Callable[[], dict[str, float]],
    place: Place,
) -> Saver:
    # with adapters the weights below them stay as they are: not written again for each checkpoint
    below = place.below if options.lora_rank or options.save == "adapters" else None

    def write(folder: Path, weights: Mapping[str, torch.Tensor] | None) -> None:
        save_policy(folder, policy, processor, below, weights)

    return Saver(
        options=options,
        steps=options.steps,
        checkpoints=Checkpoints(place.folder / FOLDER, options.keep_last),
        write_policy=write,
        report=report,
        measure=measure,
        evaluate=place.evaluate,
    )


def _begin(
    options: FinetuneOptions, saver: Saver, place: Place, episodes: list[list[str]], sources: Sequence[Path]
) -> None:
    """Say what the run begins with; UserError when it is resumed and began with something else."""
    run = Run(
        options=dataclasses.asdict(options),
        sources=[str(Path(source).resolve()) for source in sources],
        base=place.base,
        base_sha256="" if place.below is None else place.below.sha256,
        episodes=episodes,
    )
    folder = saver.checkpoints.folder
    if place.resume and saver.checkpoints.newest() is not None:
        defaults = {field.name: getattr(type(options)(), field.name) for field in dataclasses.fields(options)}
        run.check(Run.read(folder), defaults, saver.done())
    processes.wait()
    if processes.is_first():
        saver.checkpoints.clean()
        run.write(folder)


def check_learned_types(policy: ActionTokenPolicy, precision: str) -> None:
    """UserError for mixed precision without the whole numbers that it rests on."""
    halves = [name for name, p in policy.named_parameters() if p.requires_grad and p.dtype != torch.float32]
    if precision == "bfloat16" and halves:
        raise UserError(
            f"precision bfloat16 is mixed precision, which learns in float32, but {halves[0]} and {len(halves) - 1} "
            "more weights that learn are in half precision: set dtype float32 (or train adapters beside them)"
        )


def checkpoint_activations(policy: ActionTokenPolicy) -> None:
    """Let each layer of the backbone keep what enters it, and compute the rest again on the way back.

    UserError for a backbone whose layers cannot.
    """
    if not policy.vlm.supports_gradient_checkpointing:
        kind = policy.vlm.config.model_type
        raise UserError(f"gradient_checkpointing: the layers of '{kind}' cannot be computed again: leave it off")
    how = {"use_reentrant": False}
    if hasattr(policy, "activation_checkpointing_enable"):  # its newer name in transformers
        policy.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


def initialise(policy: ActionTokenPolicy, seed: int) -> None:
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
def validation_error(
    model: torch.nn.Module,
    decide: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    dataset: WindowDataset,
    limit: int | None = None,
) -> float:
    """Mean absolute error of continuous actions over valid steps, in the contract's units, on evenly spread items.

    ``decide`` asks the model for the actions of a batch.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    processor = dataset.processor
    continuous = ~processor.contract.binary
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round().astype(int))
    total, count = 0.0, 0.0
    for start in range(0, len(chosen), 64):
        batch = processor.collate([dataset[int(item)] for item in chosen[start : start + 64]])
        batch = {key: value.to(device) for key, value in batch.items() if key != "item"}
        targets, valid = batch.pop("actions"), batch.pop("valid")
        decided = decide(batch)
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
    model.train(training)
    return total / max(count, 1.0)
