"""What is looked at in each step, by which process: one order for all, so that a run does not depend on their number.

A step looks at ``batch_size`` observations, whatever the number of processes and of parts that are accumulated: it is
dealt out to ``processes x accumulate`` parts. Of a step, every process must do as many parts as the others, so that one
which is left without an observation gets one that counts nothing. Losses are means over what counts; `Share` makes the
sum over the parts the mean over the whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from robovlm_ros.errors import UserError
from robovlm_ros.training.windows import WindowDataset


@dataclass(frozen=True)
class Look:
    """One look at one observation."""

    item: int
    """Its number in the data set."""
    number: int
    """How many looks were before it since training began; what varies from look to look follows from it."""
    counts: bool = True
    """False where it only fills a part that is empty."""


@dataclass(frozen=True)
class Share:
    """By what the losses of one part are multiplied, so that the sum of all parts is the mean over the step.

    Distributed training takes the mean of gradients over processes: a loss of this process's own observations is
    multiplied by their number, too; one that every process computes alike is not.
    """

    actions: float = 1.0
    """Of the policy head's loss, a mean over valid steps of chunks."""
    rows: float = 1.0
    """Of a loss that compares the observations of all processes, a mean over them."""
    words: float = 1.0
    """Of the loss on answers, a mean over their words."""


WHOLE = Share()
"""That of a step which is done at once."""


Order = Callable[[int], list[int]]
"""Epoch → numbers of the items in the order in which they are looked at."""


class StepBatches(Sampler[list[Look]]):
    """Batches of one process: ``accumulate`` of them for each step, and all steps of an epoch."""

    def __init__(
        self, order: Order, length: int, batch_size: int, *, accumulate: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        """``length``: items of an epoch; ``batch_size``: of a step of all processes."""
        self.epoch = 0
        """Set before each epoch."""
        self._order, self._length, self._size = order, length, batch_size
        self._accumulate, self._rank, self._processes = accumulate, rank, processes

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last may be a short one."""
        return -(-self._length // self._size)

    def __len__(self) -> int:
        return self.steps * self._accumulate

    def __iter__(self) -> Iterator[list[Look]]:
        order, first = self._order(self.epoch), self.epoch * self._length
        looks = [Look(item, first + place) for place, item in enumerate(order)]
        for start in range(0, self._length, self._size):
            step = looks[start : start + self._size]
            for part in range(self._accumulate):
                yield deal(step, part * self._processes + self._rank, self._accumulate * self._processes)


def deal(step: Sequence[Look], part: int, parts: int) -> list[Look]:
    """Of a step, the looks of one of so many parts; one that counts nothing where there are fewer looks than parts."""
    bounds = np.linspace(0, len(step), parts + 1).round().astype(int)
    own = list(step[bounds[part] : bounds[part + 1]])
    return own or [Look(step[0].item, step[0].number, counts=False)]


def check_parts(batch_size: int, accumulate: int, processes: int) -> None:
    """UserError unless a step can be dealt out evenly."""
    if batch_size % (accumulate * processes):
        raise UserError(
            f"batch_size {batch_size}, the observations of one step of all processes, cannot be dealt out evenly to "
            f"{processes} processes x {accumulate} parts that are accumulated: choose a multiple of "
            f"{processes * accumulate}"
        )


def shuffled(length: int, seed: int) -> Order:
    """All items once in each epoch."""

    def order(epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed + epoch)
        items: list[int] = torch.randperm(length, generator=generator).tolist()
        return items

    return order


def drawn(weights: NDArray[np.float64], seed: int) -> Order:
    """As many items as there are in each epoch, each drawn by its weight."""
    chances = torch.from_numpy(weights)

    def order(epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epoch + 1):  # epochs follow each other in one stream of random numbers
            items = torch.multinomial(chances, len(chances), replacement=True, generator=generator)
        found: list[int] = items.tolist()
        return found

    return order


class Looks(Dataset[dict[str, Any]]):
    """A data set of windows, looked at in the order of `StepBatches`."""

    def __init__(self, windows: WindowDataset) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, look: Look) -> dict[str, Any]:
        if self.windows.augmenter is not None:
            self.windows.augmenter.begin(look.number)
        inputs = self.windows[look.item]
        if not look.counts:
            inputs["valid"] = torch.zeros_like(inputs["valid"])
        return inputs
