"""What is learned beside actions, if asked for: latents like their instruction, and answers to questions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from robovlm_ros.training import processes
from robovlm_ros.training.alignment import Alignment, AlignmentOptions
from robovlm_ros.training.cotraining import Cotraining, CotrainingOptions, read_exchanges
from robovlm_ros.training.optimisation import PolicyOptimisation
from robovlm_ros.training.seen import Images
from robovlm_ros.training.steps import WHOLE, Share
from robovlm_ros.vlm.policy import ActionTokenOutput, ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor


@dataclass(frozen=True, kw_only=True)
class AuxiliaryOptions(AlignmentOptions, CotrainingOptions):
    """Losses beside that of the policy head."""

    def __post_init__(self) -> None:
        AlignmentOptions.__post_init__(self)
        CotrainingOptions.__post_init__(self)


class Auxiliary:
    """Adds weighted losses to that of the policy head; nothing of it is needed to act, and no checkpoint holds it."""

    def __init__(
        self,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        options: AuxiliaryOptions,
        seed: int,
        instruction: Callable[[int], str],
    ) -> None:
        """``instruction`` gives that of an item of the data set."""
        self.options, self.instruction = options, instruction
        self.alignment = Alignment(policy, processor.backbone, seed) if options.alignment_weight else None
        self.cotraining: Cotraining | None = None
        if options.cotrain_data is not None:
            self.cotraining = Cotraining(policy, processor, read_exchanges(options.cotrain_data), seed)
            self._draws = self.cotraining.draws(options.cotrain_batch_size)
        self._seen: dict[str, torch.Tensor] = {}

    def join(self, optimizer: torch.optim.Optimizer, options: PolicyOptimisation) -> None:
        """Let the optimiser move what the losses themselves learn, at the rate of what is new."""
        if self.alignment is not None:
            group = {"params": list(self.alignment.parameters()), "weight_decay": 0.0}
            optimizer.add_param_group({**group, "lr": options.learning_rate * options.new_rate})

    def begin(self, step: int, instructions: Iterable[str]) -> None:
        """Get ready for the steps behind so many: the questions of those before are not asked again.

        Of the training's instructions the words are looked up now, before the word embedding may learn.
        """
        if self.alignment is not None:
            for text in dict.fromkeys(instructions):
                self.alignment.words(text)
        if self.cotraining is not None:
            self._draws = itertools.islice(self.cotraining.draws(self.options.cotrain_batch_size), step, None)

    def questions(self, part: int = 0, parts: int = 1, accumulate: int = 1) -> list[tuple[Images, int]]:
        """Of the next step's questions, batches for this process, and the words of their answers that count.

        Of ``parts`` in all, those that ``accumulate`` gives to this process are every so many from ``part`` on.
        """
        if self.cotraining is None:
            return []
        asked = next(self._draws)
        bounds = np.linspace(0, len(asked), parts + 1).round().astype(int)
        found = []
        for number in range(part, parts, parts // accumulate):
            own = asked[bounds[number] : bounds[number + 1]]
            batch = self.cotraining.collate(own or asked[:1])
            found.append((batch, int(batch["answers"].sum()) if own else 0))
        return found

    def loss(
        self,
        output: ActionTokenOutput,
        items: torch.Tensor,
        valid: torch.Tensor | None,
        share: Share = WHOLE,
        questions: Images | None = None,
    ) -> torch.Tensor:
        """Scalar: the policy head's loss and what comes beside it, for the items (B,) of a batch.

        ``share`` is that of the batch in its step; ``questions`` are those of the batch, by default those of a step.
        """
        assert output.loss is not None
        total = share.actions * output.loss
        if self.alignment is not None:
            assert output.latents is not None
            self.alignment.to(output.latents.device)
            pooled = self.alignment.pool(output.latents, valid)  # (B, D)
            if valid is not None:
                counts = valid.flatten(1).amax(1) > 0  # (B,)
                pooled, items = pooled[counts], items[counts]
            said = [self.instruction(int(item)) for item in processes.all_rows(items)]
            compared = self.alignment.compare(processes.all_rows(pooled), said)
            total = total + share.rows * self._weigh("alignment", compared)
        if self.cotraining is not None:
            asked = self.questions()[0][0] if questions is None else questions
            total = total + share.words * self._weigh("cotrain", self.cotraining.loss(asked))
        return total

    def _weigh(self, name: str, loss: torch.Tensor) -> torch.Tensor:
        self._seen[f"{name}_loss"] = loss.detach()
        weight: float = getattr(self.options, f"{name}_weight")
        return weight * loss

    def figures(self) -> dict[str, float]:
        """The newest value of each loss, without its weight."""
        return {name: float(value) for name, value in self._seen.items()}
