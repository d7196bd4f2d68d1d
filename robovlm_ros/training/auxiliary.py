"""What is learned beside actions, if asked for: latents like their instruction, and answers to questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from robovlm_ros.training.alignment import Alignment, AlignmentOptions
from robovlm_ros.training.cotraining import Cotraining, CotrainingOptions, read_exchanges
from robovlm_ros.training.optimisation import PolicyOptimisation
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
        self.questions: Callable[[], torch.Tensor] | None = None
        if options.cotrain_data is not None:
            cotraining = Cotraining(policy, processor, read_exchanges(options.cotrain_data), seed)
            batches = cotraining.batches(options.cotrain_batch_size)
            self.questions = lambda: cotraining.loss(next(batches))
        self._seen: dict[str, torch.Tensor] = {}

    def join(self, optimizer: torch.optim.Optimizer, options: PolicyOptimisation) -> None:
        """Let the optimiser move what the losses themselves learn, at the rate of what is new."""
        if self.alignment is not None:
            group = {"params": list(self.alignment.parameters()), "weight_decay": 0.0}
            optimizer.add_param_group({**group, "lr": options.learning_rate * options.new_rate})

    def loss(self, output: ActionTokenOutput, items: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Scalar: the policy head's loss and what comes beside it, for the items (B,) of a batch."""
        assert output.loss is not None
        total = output.loss
        if self.alignment is not None:
            assert output.latents is not None
            self.alignment.to(output.latents.device)
            said = [self.instruction(int(item)) for item in items]
            total = total + self._weigh("alignment", self.alignment(output.latents, said, valid))
        if self.questions is not None:
            total = total + self._weigh("cotrain", self.questions())
        return total

    def _weigh(self, name: str, loss: torch.Tensor) -> torch.Tensor:
        self._seen[f"{name}_loss"] = loss.detach()
        weight: float = getattr(self.options, f"{name}_weight")
        return weight * loss

    def figures(self) -> dict[str, float]:
        """The newest value of each loss, without its weight."""
        return {name: float(value) for name, value in self._seen.items()}
