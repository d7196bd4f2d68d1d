"""transformers' Trainer for a policy: what it trains, and what it is told to do otherwise.

Its own: the loop, the optimiser's steps, schedule, clipping, mixed precision, several processes (DDP, FSDP), and the
saving of what optimiser, schedule and random numbers have come to. Ours: which observations a step looks at
(`steps`), what the loss is a mean over, and folders that are whole (`saving`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer import SCHEDULER_NAME

from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.auxiliary import Auxiliary
from robovlm_ros.training.saving import Saver
from robovlm_ros.training.seen import Images
from robovlm_ros.training.steps import WHOLE, Share, StepBatches
from robovlm_ros.vlm.policy import ActionTokenPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What is computed at once of a step: a value that sharding hands on as it is, for it would round tensors."""

    inputs: Images
    """What the policy takes; without targets it decides."""
    items: torch.Tensor | None = None
    """(B,) items of the data set."""
    share: Share = WHOLE
    questions: Images | None = None
    """Questions that are answered beside acting."""


class Learner(nn.Module):
    """The policy and what learns beside it, as one module: what is distributed, clipped and moved together."""

    def __init__(self, policy: ActionTokenPolicy, beside: Auxiliary) -> None:
        super().__init__()
        self.policy = policy
        self.alignment = beside.alignment
        self._beside = [beside]  # in a list: it is no module
        self._no_split_modules = sorted(layer_classes(policy))  # what FSDP shards one by one

    def forward(self, part: Part) -> torch.Tensor:
        """Scalar loss of a part of a step, or the actions that are decided for inputs without targets."""
        output = self.policy(**part.inputs)
        if part.items is None:
            decided: torch.Tensor = output.actions
            return decided
        return self._beside[0].loss(output, part.items, part.inputs.get("valid"), part.share, part.questions)


def layer_classes(policy: ActionTokenPolicy) -> set[str]:
    """Names of the classes of the backbone's layers, which come in lists."""
    lists = [module for module in policy.vlm.modules() if isinstance(module, nn.ModuleList)]
    return {type(layer).__name__ for layers in lists for layer in layers if next(layer.parameters(), None) is not None}


class PolicyTrainer(Trainer):  # type: ignore[misc]
    """Trains a `Learner` on the observations that `StepBatches` deals out."""

    loss_is_scaled_for_ga = True  # a part's loss is already its share of the step's

    def __init__(
        self,
        *,
        model: Learner,
        batches: StepBatches,
        beside: Auxiliary,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        saver: Saver | None = None,
        **more: Any,
    ) -> None:
        """``make_optimizer`` is asked when the Trainer wants one; ``more`` is for transformers' Trainer."""
        self.batches, self.beside, self.saver = batches, beside, saver
        self._make_optimizer = make_optimizer
        super().__init__(model=model, **more)
        self.loss_sum = torch.zeros((), device=self.args.device)
        """Loss of the steps since the last line of the log; the mean over processes is that of what all looked at."""
        self.logged_step = 0
        """Step of the last line of the log."""
        self.add_callback(_Steps(batches, saver))

    @property
    def learner(self) -> Learner:
        """What is trained, with or without the layers that distribution puts around it."""
        found: Learner = self.accelerator.unwrap_model(self.model)
        return found

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )  # fmt: skip

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer | None = self.__dict__.get("optimizer")
        self.optimizer = self._make_optimizer() if made is None else made
        self._first_rate = self.optimizer.param_groups[0]["lr"]
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
        """This process's batches of a step, each with its `Share` and its questions."""
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        parts = num_batches * processes.count()
        asked = self.beside.questions(processes.rank(), parts, num_batches)
        steps = [float(batch["valid"].sum()) for batch in batches]
        rows = [float((batch["valid"].flatten(1).amax(1) > 0).sum()) for batch in batches]
        own = torch.tensor([sum(steps), float(sum(words for _, words in asked)), *rows], dtype=torch.float64)
        whole = processes.total(own.to(device, torch.float32)).tolist()
        for number, batch in enumerate(batches):
            batch["share"] = Share(
                actions=processes.count() * steps[number] / max(whole[0], 1.0),
                rows=whole[2 + number] / max(sum(whole[2:]), 1.0),
                words=processes.count() * asked[number][1] / max(whole[1], 1.0) if asked else 1.0,
            )
            batch["questions"] = asked[number][0] if asked else None
        return batches, None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        items = inputs.pop("item")
        share, questions = inputs.pop("share"), inputs.pop("questions")
        loss = model(Part(inputs=inputs, items=items, share=share, questions=questions))
        self._check(loss, items)
        return (loss, {}) if return_outputs else loss

    def _check(self, loss: torch.Tensor, items: torch.Tensor) -> None:
        """UserError, from all processes alike, when the loss of one of them is no number."""
        wrong = ~torch.isfinite(loss.detach())
        if not bool(processes.total(wrong.float())):
            return
        names = [self.train_dataset.windows.name(int(item)) for item in items[:4]] if bool(wrong) else []
        value = next(found for found in processes.everything(loss.item() if bool(wrong) else None) if found is not None)
        named = ", ".join([name for found in processes.everything(names) for name in found][:4])
        raise UserError(
            f"the loss is {value} at step {self.state.global_step} for {named}, ...: "
            "look at these observations or lower learning_rate"
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.loss_sum += loss
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The same, with a mean loss that goes on where a run that is resumed had been."""
        if "loss" in logs:
            steps = self.state.global_step - self.logged_step
            mean = processes.total(self.loss_sum) / processes.count()
            logs["loss"] = mean.item() / steps
            self.loss_sum.zero_()
            self.logged_step = self.state.global_step
            if "learning_rate" in logs:  # that of the first group, whose multiple may be any
                logs["learning_rate"] *= self.args.learning_rate / self._first_rate
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        if self.saver is not None:
            self.saver.save(self)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # transformers' own would write the weights a second time
        save_fsdp_optimizer(
            self.accelerator.state.fsdp_plugin, self.accelerator, self.optimizer, self.model, output_dir
        )
        if processes.is_first():
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        assert self.saver is not None
        self.saver.load(self, Path(resume_from_checkpoint))


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Tells the order of observations which epoch begins, also in a run that is resumed, and when to save."""

    def __init__(self, batches: StepBatches, saver: Saver | None) -> None:
        self._batches, self._saver = batches, saver

    def on_epoch_begin(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.epoch = state.global_step // self._batches.steps

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = self._saver is not None and self._saver.due(state.global_step)
