"""Training the plain way: what fine-tuning is measured against.

It prepares each image whenever it is looked at, sends it through the whole vision-language model with attention written
out, keeps all hidden states and computes scores of all words, in the weights' own type, and lets AdamW move one weight
matrix after the other. Its loss is that of fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from robovlm_ros.runtime.plain import PlainForward
from robovlm_ros.training.finetuning import FinetuneOptions, set_statistics
from robovlm_ros.training.optimisation import build_optimizer
from robovlm_ros.training.steps import Looks, StepBatches, shuffled
from robovlm_ros.training.windows import Recording, WindowDataset
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor


class PlainTraining:
    """The same steps on the same recordings, which must hold images."""

    def __init__(
        self,
        options: FinetuneOptions,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        recordings: Sequence[Recording],
    ) -> None:
        """Trains the weights of that policy, to which the switches were applied."""
        self._policy, self._module = policy, PlainForward(policy).train()
        self._options, self._device = options, policy.device
        processor = set_statistics(options, processor, recordings)
        dataset = WindowDataset(recordings, processor)
        self._batches = StepBatches(shuffled(len(dataset), options.seed), len(dataset), options.batch_size)
        self._loader: Any = torch.utils.data.DataLoader(
            Looks(dataset), batch_sampler=self._batches, collate_fn=processor.collate
        )
        groups = build_optimizer(policy, options).param_groups
        self._optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, foreach=False, fused=False)
        self._endless = self._epochs()

    def run(self, steps: int) -> float:
        """So many steps on; the loss of the last one."""
        loss = torch.zeros(())
        for _ in range(steps):
            batch = next(self._endless)
            inputs = {key: value.to(self._device) for key, value in batch.items() if key != "item"}
            loss = self._module(inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._options.clip)
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._module.states = self._module.scores = None
        return float(loss.detach())

    def _epochs(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self._loader
            self._batches.epoch += 1
