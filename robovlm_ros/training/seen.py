"""What one episode showed: its observations as arrays, from the bag or from the cache of an earlier run.

What is kept of the images, and what that costs for an hour of one 640x480 camera at 30 Hz and a 224x224 backbone:

| kept | when | size | read per image |
|---|---|---|---|
| features | the vision tower does not learn | what the backbone makes of it | nothing but reading |
| tensors | the vision tower learns | 16 GB: the processor's numbers, one byte each (`coding`) | 0.25 ms |
| frames | images shall vary (`augmentation`) | 100 GB: RGB at the camera's size | augmentation and processor |

Frames as decoded would serve all three, but are six times as large as what the backbone sees, and the processor would
run again for each look. What is kept instead is what came out of the one way from messages to model input, bit for bit,
so that training from the cache, from the bag and the live policy see the same bytes.

An entry belongs to the bytes of the bag's files, to what the contract says, to the code on that way, and to the
processor (for features, to the weights below them too). It holds all observations and all commands, so that another
chunk size, split or mixture uses it again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robovlm_ros import alignment, images, messages
from robovlm_ros.bags import reader, schema
from robovlm_ros.bags.reader import Commands, Episode, Step, observations
from robovlm_ros.observation import Observation
from robovlm_ros.training import coding
from robovlm_ros.training.cache import Cache, Entry, EntryWriter, Stored
from robovlm_ros.vlm import backbone as adapter
from robovlm_ros.vlm import processor as processing
from robovlm_ros.vlm.processor import ActionTokenProcessor

FORMAT = 1
"""Of what an entry holds; the code itself counts, too (`_code`)."""
_NEEDED_BY_FRAMES = (alignment, images, messages, reader, schema)
_NEEDED_BY_TENSORS = (*_NEEDED_BY_FRAMES, coding, processing, adapter)
_LIBRARIES = ("numpy", "pillow", "torch", "torchvision", "transformers")

Images = dict[str, torch.Tensor]


class Encoder(Protocol):
    """Image features of a batch of image tensors."""

    def __call__(self, images: Images, /) -> Images: ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain values that decide what comes out."""
        ...


@dataclass(kw_only=True)
class Seen:
    """The observations of an episode that have commands."""

    stamps_ns: NDArray[np.int64]
    """(T,) [ns]."""
    instructions: list[str]
    """(T,) instruction at each observation."""
    shapes: list[tuple[int, ...]]
    """Shape of each camera's image."""
    states: NDArray[np.float32]
    """(T, state_dim)."""
    actions: NDArray[np.float64]
    """(T, C, A)."""
    valid: NDArray[np.bool_]
    """(T, C)."""
    images: dict[str, Tensors]
    """Tensors or features, unless frames are kept."""
    frames: list[Stored]
    """(T, H, W, 3) of each camera, where they are kept."""


class Tensors:
    """(T, ...) tensors on the disk."""

    def __init__(self, stored: Stored, dtype: str) -> None:
        self.stored = stored
        self.dtype: torch.dtype = getattr(torch, dtype)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One of them, in memory."""
        found = torch.from_numpy(self.stored[index])
        return found if found.dtype == self.dtype else found.view(self.dtype)


class Source:
    """Episodes as a policy's processor sees them, each decoded once for all runs."""

    def __init__(
        self,
        cache: Cache,
        processor: ActionTokenProcessor,
        chunk_size: int,
        encode: Encoder | None = None,
        *,
        raw: bool = False,
    ) -> None:
        """``encode`` makes features of image tensors, to be kept in their place; ``raw`` keeps frames."""
        self.cache, self.processor, self.chunk_size = cache, processor, chunk_size
        self.encode = None if raw else encode
        self.raw = raw
        self.kept = self._kept()
        self._to_come = 0  # observations that are to be decoded; 0 once they are known to fit

    def read(self, episodes: Sequence[Episode]) -> Iterator[Seen | None]:
        """Each episode in turn, None for one that has no observation with a command.

        UserError if the disk is too small for what is missing: said when the first missing one begins.
        """
        keys = [self._key(episode) for episode in episodes]
        missing = [episode for episode, key in zip(episodes, keys, strict=True) if not self.cache.has(key)]
        self._to_come = sum(_count(episode, self.processor) for episode in missing)
        for episode, key in zip(episodes, keys, strict=True):
            make = functools.partial(self._make, episode)
            entry = self.cache.get(key, make, f"episode {episode.path}")
            yield self._seen(entry, episode)

    def _kept(self) -> dict[str, Any]:
        """What is kept of the images, and what decides about it beside the episode."""
        if self.raw:
            return {"kept": "frames", "code": _code(_NEEDED_BY_FRAMES)}
        family = self.processor.family
        own: dict[str, Any] = {
            "kept": "tensors",
            "code": _code(_NEEDED_BY_TENSORS, (family.__module__,)),
            "family": f"{family.__module__}.{family.__qualname__}",
            "processor": self.processor.backbone.image_processor.to_json_string(),
            "libraries": {name: _version(name) for name in _LIBRARIES},
        }
        if self.encode is None:
            return own
        # features are computed of whole batches of what this chunk size uses: which ones may show in their last bits
        return {**own, "kept": "features", "encoder": dict(self.encode.identity), "chunk_size": self.chunk_size}

    def _key(self, episode: Episode) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "files": [self.cache.digest(path) for path in episode.files],
            "reading": episode.reading,
            "cameras": list(self.processor.cameras),
            **self.kept,
        }

    def _make(self, episode: Episode, writer: EntryWriter) -> None:
        """Decode an episode into a new entry."""
        commands = Commands.of(episode)
        steps: list[Step] = []  # without their images
        features: list[Images] = []
        dtypes: dict[str, str] = {}
        for step in observations(episode, self.processor.cameras, self.chunk_size, commands):
            if self.encode is not None and not step.valid.any():
                continue
            seen = [step.observation.images[camera] for camera in self.processor.cameras]
            if not steps:
                writer.note(shapes=[list(image.shape) for image in seen])
            taken = 0
            if self.raw:
                taken = sum(writer.append(f"frames_{i}", image) for i, image in enumerate(seen))
            elif self.encode is None:
                for name, tensor in self.processor.images(seen).items():
                    taken += writer.append(name, _array(tensor, dtypes, name), coded=True)
            else:
                features.append(self.processor.images(seen))
            if not steps and self.encode is None:
                self._check_room(taken)
            steps.append(step._replace(observation=_blind(step.observation)))
        if self.encode is not None and features:
            self._encode(features, writer, dtypes)
        last_ns = max((step.observation.stamp_ns for step in steps), default=commands.end_ns)
        writer.note(
            dtypes=dtypes,
            instructions=[step.observation.instruction for step in steps],
            end_ns=max(commands.end_ns, last_ns),
        )
        writer.write("stamps_ns", np.array([step.observation.stamp_ns for step in steps], np.int64))
        width = len(episode.contract.state_names)
        states = np.array([step.observation.state for step in steps], np.float32).reshape(len(steps), width)
        writer.write("states", states)
        for i, (stamps, values) in enumerate(commands.tracks):
            writer.write(f"command_{i}_stamps_ns", stamps)
            writer.write(f"command_{i}", values)

    def _check_room(self, size: int) -> None:
        """Once, when the size of an observation [bytes] is known: whether all that are missing will fit."""
        self.cache.room(size * self._to_come)
        self._to_come = 0

    def _encode(self, found: list[Images], writer: EntryWriter, dtypes: dict[str, str]) -> None:
        assert self.encode is not None
        stacked = {key: torch.stack([item[key] for item in found]) for key in found[0]}  # (T, ...)
        features = self.encode(stacked)
        self._check_room(sum(value[0].numel() * value.element_size() for value in features.values()))
        for name, values in features.items():
            for value in values:
                writer.append(name, _array(value, dtypes, name))

    def _seen(self, entry: Entry, episode: Episode) -> Seen | None:
        facts, arrays = entry.facts, entry.arrays
        tracks = [
            (arrays[f"command_{i}_stamps_ns"], arrays[f"command_{i}"]) for i in range(len(episode.contract.commands))
        ]
        commands = Commands(episode.contract, tracks)
        stamps = arrays["stamps_ns"]
        chunks = [commands.chunk(int(stamp), self.chunk_size, int(facts["end_ns"])) for stamp in stamps]
        rows = np.array([row for row, (_, valid) in enumerate(chunks) if valid.any()], np.int64)
        if not len(rows):
            return None
        return Seen(
            stamps_ns=stamps[rows],
            instructions=[facts["instructions"][row] for row in rows],
            shapes=[tuple(shape) for shape in facts["shapes"]],
            states=arrays["states"][rows],
            actions=np.stack([chunks[row][0] for row in rows]),
            valid=np.stack([chunks[row][1] for row in rows]),
            images={name: Tensors(entry.stored(name, rows), dtype) for name, dtype in facts["dtypes"].items()},
            frames=[entry.stored(f"frames_{i}", rows) for i in range(len(self.processor.cameras))] if self.raw else [],
        )


def _count(episode: Episode, processor: ActionTokenProcessor) -> int:
    """About how many observations an episode has: those of the first camera that is used."""
    used = [camera for camera in episode.contract.cameras if camera.name in processor.cameras]
    return int(episode.counts.get(used[0].topic, 0))


def _blind(observation: Observation) -> Observation:
    """An observation without its images, which would stay in memory with it."""
    return dataclasses.replace(observation, images={})


def _array(tensor: torch.Tensor, dtypes: dict[str, str], name: str) -> NDArray[Any]:
    """A tensor as an array; NumPy has no bfloat16, whose bits it takes."""
    dtypes[name] = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().cpu().contiguous()
    return np.asarray((tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:  # PackageNotFoundError: torchvision need not be there
        return ""


@functools.cache
def _code(modules: Sequence[Any], names: Sequence[str] = ()) -> str:
    """Hash of the sources on the way from messages to what is kept: whatever changes there makes entries anew."""
    files = [Path(str(module.__file__)) for module in (*modules, *(sys.modules[name] for name in names))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
