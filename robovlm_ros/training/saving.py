"""Writing the checkpoints of a run, each of them whole, and going on from one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.reporting import Report, say
from robovlm_ros.training.runs import EVALUATION, PROGRESS, TRAINING, Checkpoints, SavingOptions, read_json_mapping
from robovlm_ros.training.windows import Recording

WEIGHTS = "weights.safetensors"
"""File of a checkpoint's `training` folder with all that learns, by the names in `Learner`."""
STATE = "trainer_state.json"

Evaluate = Callable[[Path, Path], float]
"""(Folder of a policy, file for the results) → share of episodes that it succeeded in; UserError when it fails."""
WritePolicy = Callable[[Path, Mapping[str, torch.Tensor] | None], None]
"""Writes the policy as it is into a folder; with weights by name where they are spread over processes."""


@dataclasses.dataclass(kw_only=True)
class Saver:
    """Writes a run's checkpoints, keeps the last and the best, and has them evaluated."""

    options: SavingOptions
    steps: int
    """Steps of the whole run."""
    checkpoints: Checkpoints
    write_policy: WritePolicy
    report: Report
    measure: Callable[[], dict[str, float]]
    """`validation_error`, where episodes were kept aside."""
    evaluate: Evaluate | None = None

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due behind a step."""
        return self.options.due(step, self.steps)

    def save(self, trainer: Any) -> None:
        """Write the checkpoint of the present step; every process must come here."""
        step = trainer.state.global_step
        error = self.report.at(step, "validation_error")
        measured = self.measure() if error is None else {"validation_error": error}
        weights = whole_weights(trainer)
        lost = processes.total(trainer.loss_sum) / processes.count()
        if processes.is_first():
            partial = self.checkpoints.begin(step)
            sharded = trainer.is_fsdp_enabled
            self.write_policy(partial, of_policy(weights) if sharded else None)
            learned = {name: value.detach().cpu().contiguous() for name, value in learning(trainer, weights).items()}
            save_file(learned, partial / TRAINING / WEIGHTS, metadata={"format": "pt"})
        processes.wait()
        folder = self.checkpoints.partial(step) / TRAINING
        trainer._save_optimizer_and_scheduler(str(folder))
        trainer._save_rng_state(str(folder))
        if processes.is_first():
            trainer.state.save_to_json(str(folder / STATE))
            progress = {
                "step": step,
                "validation_error": measured.get("validation_error"),
                "loss_sum": lost.item(),
                "logged_step": trainer.logged_step,
                "seconds": self.report.seconds(),
                "log": self.report.log,
            }
            (folder / PROGRESS).write_text(json.dumps(progress) + "\n", encoding="utf-8")
        processes.wait()
        if processes.is_first():
            place = self.checkpoints.finish(step)
            if self.evaluate is not None and self.options.evaluation_due(step, self.steps):
                self._evaluate(step, place)
            self.checkpoints.settle()
        processes.wait()

    def _evaluate(self, step: int, place: Path) -> None:
        assert self.evaluate is not None
        try:
            success = self.evaluate(place, place / EVALUATION)
        except UserError as error:  # hours of training are worth more than one figure
            say(f"{self.report.name}: step {step} could not be evaluated: {error}")
            return
        self.report(step=step, success_rate=success)

    def done(self) -> int:
        """Steps that are behind the newest checkpoint."""
        steps = self.checkpoints.steps()
        return steps[-1] if steps else 0

    def resume(self, trainer: Any) -> None:
        """Train from the newest checkpoint on, if there is any left to do."""
        newest = self.checkpoints.newest()
        assert newest is not None
        folder = newest / TRAINING
        progress = read_json_mapping(folder / PROGRESS)
        self.report.restore(progress["log"], progress["seconds"])
        trainer.loss_sum += progress["loss_sum"]
        trainer.logged_step = progress["logged_step"]
        say(f"{self.report.name}: goes on behind step {progress['step']} of {self.steps}")
        if progress["step"] >= self.steps:
            self.load(trainer, folder)
        else:
            trainer.train(resume_from_checkpoint=str(folder))

    def load(self, trainer: Any, folder: Path) -> None:
        """Give all that learns the weights of a checkpoint; the rest is that of the base."""
        found = load_file(folder / WEIGHTS)
        if is_sharded(trainer.model):
            from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
            own: dict[str, Any] = dict(found) if processes.is_first() else {}
            set_model_state_dict(trainer.model, own, options=options)
            return
        places = learning(trainer, trainer.learner.state_dict(keep_vars=True))
        wrong = sorted(set(found) ^ set(places))
        wrong += sorted(name for name in set(found) & set(places) if found[name].shape != places[name].shape)
        if wrong:
            raise UserError(f"{folder / WEIGHTS} does not fit this policy: {wrong[0]} ({len(wrong)} such weights)")
        with torch.no_grad():
            for name, value in found.items():
                places[name].copy_(value)


def learning(trainer: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of weights by their names in `Learner`, those that learn."""
    names = [name for name, parameter in trainer.learner.named_parameters() if parameter.requires_grad]
    return {name: weights[name] for name in names if name in weights}


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether a model's weights are spread over processes."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def whole_weights(trainer: Any) -> dict[str, torch.Tensor]:
    """All weights by their names in `Learner`; of a model that is spread over processes on the first process alone."""
    if not is_sharded(trainer.model):
        own: dict[str, torch.Tensor] = trainer.learner.state_dict()
        return own
    found: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model)
    return found


def of_policy(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The policy's own among weights by their names in `Learner`."""
    return {name[len("policy.") :]: value for name, value in weights.items() if name.startswith("policy.")}


def fingerprints(recordings: Sequence[Recording]) -> list[list[str]]:
    """(folder and name, SHA-256 of instructions, states and actions) of each episode; images are not read for it."""
    found = []
    for recording in recordings:
        content = hashlib.sha256("\n".join(recording.instructions).encode())
        for values in (recording.states, recording.actions, recording.valid):
            content.update(np.ascontiguousarray(values).tobytes())
        where = recording.name if recording.source is None else f"{recording.source.name}/{recording.name}"
        found.append([where, content.hexdigest()])
    return found
