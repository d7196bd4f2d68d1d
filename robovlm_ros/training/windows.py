"""Recorded episodes as training windows: one observation and the chunk of actions that followed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from robovlm_ros.bags.reader import Episode, list_episodes, observations, read_episode
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.training.augmentation import Augmenter, Change, change_images
from robovlm_ros.training.cache import Cache, Stored
from robovlm_ros.training.seen import Encoder, Seen, Source, Tensors
from robovlm_ros.vlm.processor import ActionTokenProcessor


@dataclass(kw_only=True)
class Recording:
    """One episode as arrays."""

    name: str
    """Folder of the episode."""
    instructions: list[str]
    """(T,) instruction at each observation."""
    shapes: list[tuple[int, ...]]
    """Shape of each camera's image."""
    states: NDArray[np.float32]
    """(T, state_dim) in the contract's units."""
    actions: NDArray[np.float64]
    """(T, C, A) absolute commands in force at stamp + i x step."""
    valid: NDArray[np.bool_]
    """(T, C) False behind the end of the episode."""
    images: Mapping[str, torch.Tensor | Tensors]
    """The image processor's tensors (T, ...), or features computed from them; in memory or on the disk."""
    pixels: Sequence[NDArray[np.uint8] | Stored] = ()
    """(T, H, W, 3) of each camera, where the images shall vary; then there are no tensors."""
    source: Path | None = None
    """The folder that the episode's folder lies in."""

    def __len__(self) -> int:
        return len(self.states)


Observed = tuple[Observation, NDArray[np.float64], NDArray[np.bool_]]


def record(
    name: str, steps: Iterable[Observed], processor: ActionTokenProcessor, encode: Encoder | None, *, raw: bool = False
) -> Recording | None:
    """Arrays of (observation, actions (C, A), valid (C,)); None if nothing in them is of use.

    ``encode`` turns a batch of image tensors into what shall be kept of them; ``raw`` keeps the images instead.
    """
    kept = [step for step in steps if step[2].any()]
    if not kept:
        return None
    images = [[seen.images[camera] for camera in processor.cameras] for seen, _, _ in kept]
    tensors = [] if raw else [processor.images(item) for item in images]
    stacked = {key: torch.stack([item[key] for item in tensors]) for key in (tensors[0] if tensors else ())}  # (T, ...)
    return Recording(
        name=name,
        instructions=[seen.instruction for seen, _, _ in kept],
        shapes=[image.shape for image in images[0]],
        states=np.stack([seen.state for seen, _, _ in kept]),
        actions=np.stack([actions for _, actions, _ in kept]),
        valid=np.stack([valid for _, _, valid in kept]),
        images=encode(stacked) if encode and not raw else stacked,
        pixels=[np.stack(frames) for frames in zip(*images, strict=True)] if raw else (),
    )


def open_episodes(directories: Sequence[Path]) -> list[Episode]:
    """The episodes of folders that are no failures; UserError if one has none or they do not fit each other."""
    useful: list[Episode] = []
    for directory in directories:
        episodes = [read_episode(path) for path in list_episodes(directory)]
        if not episodes:
            raise UserError(f"there are no episodes in {directory}")
        useful += (kept := [episode for episode in episodes if episode.outcome != "failure"])
        if not kept:
            raise UserError(f"all {len(episodes)} episodes in {directory} are marked as failures")
    first = useful[0]
    for episode in useful:
        if _interface(episode.contract) != _interface(first.contract):
            raise UserError(
                f"episodes {first.path} and {episode.path} were recorded with contracts that differ in cameras, state, "
                "actions or rate: train on one kind at a time"
            )
    return useful


def _interface(contract: Contract) -> tuple[Any, ...]:
    """What must agree between recordings that one policy learns from."""
    cameras = [(camera.name, camera.width, camera.height) for camera in contract.cameras]
    state = contract.state_names, contract.state_normalisations
    return cameras, state, contract.action_dims, contract.step_ns


def read_recordings(
    episodes: Sequence[Episode],
    processor: ActionTokenProcessor,
    chunk_size: int,
    encode: Encoder | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    raw: bool = False,
    cache: Cache | None = None,
) -> list[Recording]:
    """All episodes as arrays, through the same alignment and the same processor as the running policy.

    With a cache, images stay on the disk, and what an earlier run decoded is not decoded again.
    """
    recordings = []
    found: Iterator[Recording | None]
    if cache is None:
        found = (_in_memory(episode, processor, chunk_size, encode, raw=raw) for episode in episodes)
    else:
        seen = Source(cache, processor, chunk_size, encode, raw=raw).read(episodes)
        found = (None if one is None else _on_disk(episode, one) for episode, one in zip(episodes, seen, strict=True))
    for done, (episode, recording) in enumerate(zip(episodes, found, strict=True), start=1):
        if recording is not None:
            recording.source = episode.path.parent
            recordings.append(recording)
        progress(done, len(episodes))
    if not recordings:
        raise UserError("the episodes hold no observation with a command: were cameras, state and commands recorded?")
    return recordings


def _in_memory(
    episode: Episode, processor: ActionTokenProcessor, chunk_size: int, encode: Encoder | None, *, raw: bool
) -> Recording | None:
    steps = observations(episode, processor.cameras, chunk_size)
    observed = ((step.observation, step.actions, step.valid) for step in steps)
    return record(episode.name, observed, processor, encode, raw=raw)


def _on_disk(episode: Episode, seen: Seen) -> Recording:
    return Recording(
        name=episode.name,
        instructions=seen.instructions,
        shapes=seen.shapes,
        states=seen.states,
        actions=seen.actions,
        valid=seen.valid,
        images=seen.images,
        pixels=seen.frames,
    )


def split(recordings: Sequence[Recording], share: float, seed: int) -> tuple[list[Recording], list[Recording]]:
    """(training, validation) by whole episodes; at least one episode stays on each side if there are two."""
    order = np.random.default_rng(seed).permutation(len(recordings))
    held = min(max(round(share * len(recordings)), 1 if share > 0 else 0), len(recordings) - 1)
    return [recordings[i] for i in order[held:]], [recordings[i] for i in order[:held]]


def mixture_weights(
    recordings: Sequence[Recording], sources: Sequence[Path], shares: Sequence[float]
) -> NDArray[np.float64]:
    """(observations,) chance of each observation to be drawn, so that each source has its share of what is drawn.

    Within a source all observations are alike: w = share of the source / observations of the source.
    """
    lengths = {source: sum(len(r) for r in recordings if r.source == source) for source in sources}
    for source, length in lengths.items():
        if length == 0:
            raise UserError(f"mixture: no observation of {source} is left to train on")
    weight = {source: share / lengths[source] for source, share in zip(sources, shares, strict=True)}
    return np.concatenate([np.full(len(r), weight[r.source]) for r in recordings if r.source is not None])


class WindowDataset(Dataset[dict[str, Any]]):
    """Item: model input, normalised target chunk and its mask, for one observation of one episode.

    With a window W > 1 all of them have it as their first dimension: the observations up to this one that
    follow the same instruction, as the running policy would remember them. Where there are fewer, the last is
    repeated with a mask of 0.
    """

    def __init__(
        self, recordings: Sequence[Recording], processor: ActionTokenProcessor, augmenter: Augmenter | None = None
    ) -> None:
        """``augmenter`` varies the images of recordings that kept them."""
        if augmenter is not None and not all(recording.pixels for recording in recordings):
            raise ValueError("images vary only where the recordings keep them: read them with raw=True")
        self.augmenter = augmenter
        self.recordings = list(recordings)
        self.processor = processor
        self.window = int(processor.config.window)
        self.index = [(e, t) for e, recording in enumerate(self.recordings) for t in range(len(recording))]
        self._numbers = [self._prepared(recording) for recording in self.recordings]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Any]:
        episode, t = self.index[item]
        recording = self.recordings[episode]
        changes = None if self.augmenter is None else self.augmenter.draw()
        if self.window == 1:
            inputs = self._observation(episode, t, changes)
        else:
            said, first = recording.instructions, t
            while first > max(0, t - self.window + 1) and said[first - 1] == said[t]:
                first -= 1
            steps = [self._observation(episode, step, changes) for step in range(first, t + 1)]
            missing = {**steps[-1], "valid": torch.zeros_like(steps[-1]["valid"])}
            inputs = self.processor.collate([*steps, *[missing] * (self.window - len(steps))])  # (W, ...)
        inputs["item"] = torch.tensor(item)
        return inputs

    def _prepared(self, recording: Recording) -> dict[str, torch.Tensor]:
        """What all items of an episode take their numbers from, made at once: it is much faster than one by one."""
        numbers = {"state": self.processor.state(recording.states)} if len(self.processor.state_index) else {}
        numbers["actions"] = self.processor.targets(recording.actions, recording.states)
        numbers["valid"] = torch.from_numpy(recording.valid.astype(np.float32))
        return numbers

    def _observation(self, episode: int, t: int, changes: Sequence[Change] | None) -> dict[str, Any]:
        """Model input (...), target chunk (C, A) and mask (C,) of one observation."""
        recording = self.recordings[episode]
        inputs = self.processor.prompt(recording.instructions[t], recording.shapes)
        if recording.pixels:
            seen = [frames[t] for frames in recording.pixels]  # (H, W, 3) each
            inputs.update(self.processor.images(seen if changes is None else change_images(seen, changes)))
        else:
            inputs.update({key: value[t] for key, value in recording.images.items()})
        inputs.update({key: values[t] for key, values in self._numbers[episode].items()})
        return inputs

    def instruction(self, item: int) -> str:
        """The instruction that an item's last observation follows."""
        episode, t = self.index[item]
        return self.recordings[episode].instructions[t]

    def name(self, item: int) -> str:
        """Where an item comes from, for messages."""
        episode, t = self.index[item]
        return f"{self.recordings[episode].name}[{t}]"
