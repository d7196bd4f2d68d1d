"""One process or several that train one policy together: who this one is, and what all of them must agree on.

Started by ``torchrun`` or ``accelerate launch``, which say in the environment how many there are. Alone, everything
here gives back what it was given.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

PATIENCE = datetime.timedelta(hours=24)
"""How long processes wait for each other: the first may read many episodes, or evaluate, while the others wait."""


def count() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among all; 0 prints, saves and evaluates."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process on its machine, and of the GPU that it takes there."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return rank() == 0


def sharded() -> bool:
    """Whether ``accelerate launch`` asks for weights that are spread over the processes (FSDP)."""
    return count() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def own_device(device: torch.device) -> torch.device:
    """The device of this process, where each on a machine takes a GPU of its own."""
    return torch.device("cuda", local_rank()) if count() > 1 and device.type == "cuda" else device


def join(device: str) -> None:
    """Meet the other processes, if there are any; ``device`` as in the options."""
    if count() == 1 or distributed.is_initialized():
        return
    from accelerate import PartialState

    PartialState(cpu=device == "cpu", timeout=PATIENCE)


def leave() -> None:
    """Part from the other processes, so that none of them warns of it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let one process of each machine go through the block before the others: what it caches, they find."""
    if local_rank() != 0:
        wait()
    yield
    if local_rank() == 0:
        wait()
    wait()


def total(values: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes, as a new tensor; all of them must ask for it."""
    if not distributed.is_initialized():
        return values
    summed = values.clone()
    distributed.all_reduce(summed)
    return summed


def everything(value: Any) -> list[Any]:
    """What each process gave, in their order; all of them must ask for it."""
    if not distributed.is_initialized():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def all_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows (n, ...) of all processes, (sum of n, ...), in their order; gradients find their way back.

    A loss of all rows is computed by each process alike. Its gradient with respect to a row is summed over the
    processes, so that the mean over processes that distributed training takes is the gradient of one such loss.
    """
    if not distributed.is_initialized():
        return rows
    lengths = [int(n) for n in everything(len(rows))]
    most = max(lengths)
    padded = rows if len(rows) == most else torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    gathered: torch.Tensor = _Gather.apply(padded.contiguous())  # type: ignore[no-untyped-call]
    return torch.cat([part[:length] for part, length in zip(gathered, lengths, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        return torch.stack(parts)  # (processes, n, ...)

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> torch.Tensor:
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]
