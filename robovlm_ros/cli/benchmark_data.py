"""``benchmark data``: whether reading observations slows training, against one batch that lies in memory."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robovlm_ros.cli.command import Commands, write_json
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.cli.synthetic import sized, write_episodes
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    import torch

    from robovlm_ros.training.finetuning import FinetuneOptions
    from robovlm_ros.training.steps import StepBatches
    from robovlm_ros.vlm.policy import ActionTokenPolicy

BLOCK_S = 3.0
"""How long one of the two is measured before the other has its turn [s]."""
MADE, LENGTH = 6, 128
"""Episodes that are made where none are named, and the observations of each."""
LEAST = 4
"""Pairs of blocks at least."""

Batch = dict[str, Any]


def add_command(commands: Commands) -> None:
    """Add ``data`` to the things that `benchmark` measures."""
    data = commands.add_parser(
        "data",
        help="fine-tuning from episodes against the same training with one batch in memory",
        description="Trains a policy on episodes, as finetune does, in turns with the same training on one batch that\n"
        "lies in memory: ratio is the first's observations per second over the second's, the median of pairs that\n"
        "follow each other, when all episodes have been decoded (from the second epoch on). first_epoch_ratio counts\n"
        "the decoding of the first run in. Takes the options of finetune; without --episodes, some are made in a\n"
        "temporary folder, with the tabletop's contract. Unless --cache names a folder, nothing is kept.",
    )
    data.add_argument("--episodes", type=Path, nargs="+", metavar="FOLDER", help="folders with recorded episodes")
    data.add_argument("--base", help="vision-language model: a folder or a hub name (default: the shipped one)")
    data.add_argument("--width", type=int, default=640, help="of the images of made episodes [px] (default: 640)")
    data.add_argument("--height", type=int, default=480, help="of the images of made episodes [px] (default: 480)")
    data.add_argument("--seconds", type=float, default=60.0, help="duration of the measurement [s] (default: 60)")
    data.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    data.set_defaults(command=_data)
    data.late = lambda: _add_finetune_options(data)  # they need torch, which takes seconds


def _add_finetune_options(arguments: argparse.ArgumentParser) -> None:
    from robovlm_ros.training.finetuning import FinetuneOptions

    add_options(arguments, FinetuneOptions, "training")


def _data(parsed: argparse.Namespace) -> int:
    from robovlm_ros.training.finetuning import FinetuneOptions

    options = read_options(parsed, FinetuneOptions, "training")
    if not parsed.seconds > 0:
        raise UserError(f"--seconds must be above 0, not {parsed.seconds}")
    if min(parsed.width, parsed.height) < 16:
        raise UserError(f"--width and --height must be at least 16, not {parsed.width} and {parsed.height}")
    base = parsed.base or str(share_directory() / "checkpoints" / "tabletop_vlm")
    with tempfile.TemporaryDirectory(prefix="benchmark_data_") as name:
        sources = parsed.episodes
        if not sources:
            print(f"making {MADE} episodes of {LENGTH} observations at {parsed.width}x{parsed.height}", flush=True)
            sources = [Path(name) / "episodes"]
            write_episodes(sources[0], sized(Contract.load("tabletop"), parsed.width, parsed.height), MADE, LENGTH)
        result = _measure(options, sources, base, Path(name) / "cache", parsed.seconds)
    write_json(parsed.json, result)
    return 0


def _measure(options: FinetuneOptions, sources: list[Path], base: str, own: Path, seconds: float) -> dict[str, Any]:
    import torch

    from robovlm_ros.training.augmentation import Augmenter
    from robovlm_ros.training.cache import open_cache
    from robovlm_ros.training.finetuning import configure, feature_encoder, set_statistics
    from robovlm_ros.training.steps import Looks, StepBatches, shuffled
    from robovlm_ros.training.switches import apply_switches
    from robovlm_ros.training.windows import WindowDataset, open_episodes, read_recordings
    from robovlm_ros.vlm.checkpoint import load_vlm, resolve_device
    from robovlm_ros.vlm.policy import ActionTokenPolicy
    from robovlm_ros.vlm.processor import ActionTokenProcessor

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = resolve_device(options.device)
    vlm, words = load_vlm(base, options.dtype, options.attention)
    episodes = open_episodes(sources)
    processor = ActionTokenProcessor(configure(options, vlm.config, episodes[0].contract, words), words)
    policy = ActionTokenPolicy.from_vlm(vlm.to(device), processor.config)
    apply_switches(policy, options, options.seed)
    encode = feature_encoder(policy, options, device)
    cache = open_cache(str(own) if options.cache == "auto" else options.cache)
    read_seconds = []
    for _ in range(2):  # the second finds what the first has kept
        start = time.monotonic()
        raw = options.augments
        recordings = read_recordings(episodes, processor, options.chunk_size, encode, raw=raw, cache=cache)
        read_seconds.append(time.monotonic() - start)
    processor = set_statistics(options, processor, recordings)
    augmenter = Augmenter(options, len(processor.cameras), options.seed) if options.augments else None
    dataset = WindowDataset(recordings, processor, augmenter)
    if len(dataset) < options.batch_size:
        raise UserError(f"{len(dataset)} observations are less than one batch of {options.batch_size}: name more")
    print(
        f"read {len(episodes)} episodes, {len(dataset)} observations, in {read_seconds[0]:.1f} s, and again in "
        f"{read_seconds[1]:.1f} s; {'features' if encode else 'images'}, {options.workers} workers, {device}",
        flush=True,
    )
    whole = len(dataset) // options.batch_size * options.batch_size  # a short batch would count for less
    batches = StepBatches(shuffled(len(dataset), options.seed), whole, options.batch_size)
    loader: Any = torch.utils.data.DataLoader(
        Looks(dataset), batch_sampler=batches, collate_fn=processor.collate, num_workers=options.workers
    )
    step = _Step(policy.to(device).train(), options, device)
    constant, stored = _again(next(iter(loader))), _epochs(loader, batches)
    settle = 1 + 2 * options.workers  # what was prepared while the other one ran does not count
    pairs: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    while len(pairs) < LEAST or time.monotonic() < end:
        rates = [options.batch_size * step.rate(source, settle) for source in (stored, constant)]
        pairs.append((rates[0], rates[1]))
        print(f"{rates[0]:8.1f} from episodes, {rates[1]:8.1f} from memory: {rates[0] / rates[1]:.3f}", flush=True)
    found, memory = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    first = len(dataset) / (read_seconds[0] + len(dataset) / found)
    result = {
        "ratio": round(statistics.median(ratios), 4),
        "ratio_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "observations_per_second": round(found, 1),
        "constant_observations_per_second": round(memory, 1),
        "first_epoch_ratio": round(first / memory, 4),
        "read_seconds": round(read_seconds[0], 2),
        "cached_read_seconds": round(read_seconds[1], 2),
        "observations": len(dataset),
        "kept": "nothing" if cache is None else "frames" if options.augments else "features" if encode else "tensors",
        "workers": options.workers,
        "batch_size": options.batch_size,
        "cores": os.cpu_count(),
        "device": str(device),
    }
    low, high = result["ratio_range"]
    print(
        f"from episodes {found:.1f} observations/s, from memory {memory:.1f}: ratio {result['ratio']:.3f} "
        f"(from {low:.3f} to {high:.3f}), with the first decoding {result['first_epoch_ratio']:.3f}"
    )
    return result


class _Step:
    """One step of training as fine-tuning does it."""

    def __init__(self, policy: ActionTokenPolicy, options: FinetuneOptions, device: torch.device) -> None:
        from robovlm_ros.training.optimisation import build_optimizer

        self.policy, self.options, self.device = policy, options, device
        self.optimizer = build_optimizer(policy, options)

    def __call__(self, batch: Batch) -> None:
        import torch

        inputs = {key: value.to(self.device) for key, value in batch.items() if key != "item"}
        self.policy(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def rate(self, batches: Iterator[Batch], settle: int) -> float:
        """Steps per second over `BLOCK_S`, without the first few."""
        import torch

        for _ in range(settle):
            self(next(batches))
        done, begin = 0, time.monotonic()
        while time.monotonic() - begin < BLOCK_S or done < 3:
            self(next(batches))
            done += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return done / (time.monotonic() - begin)


def _epochs(loader: Any, batches: StepBatches) -> Iterator[Batch]:
    while True:
        yield from loader
        batches.epoch += 1


def _again(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch
