"""CALVIN's data sets: a folder of numbered npz files, one for each step of 30 Hz, with annotated spans.

Reference: ``dataset/README.md`` of the repository ``mees/calvin``.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.frames import COMPRESSED, FrameWriter, even_stamps, with_images
from robovlm_ros.bags.plain_pickle import read_object_npy
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

ANNOTATIONS = "lang_annotations/auto_lang_ann.npy"
RECORDINGS = "ep_start_end_ids.npy"
ACTIONS = ("rel_actions", "actions")
"""What the command of a contract may be called: relative or absolute actions."""
STATE = "robot_obs"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One annotated part of the recordings."""

    first: int
    """Number of its first step."""
    last: int
    """Number of its last step."""
    instruction: str
    task: str
    """CALVIN's name of the task, such as ``push_red_block_left``."""


class CalvinReader:
    """One folder, such as ``training`` or ``validation``."""

    def __init__(self, path: Path, contract: Contract) -> None:
        """UserError naming path and reason if it is no such folder, or the contract is no CALVIN robot's."""
        self.path, self.contract = path, contract
        files = sorted(path.glob("episode_*.npz")) if path.is_dir() else []
        if not files:
            raise UserError(f"{path} is no CALVIN folder: it has no episode_NUMBER.npz (name training or validation)")
        self._digits = len(files[0].stem.removeprefix("episode_"))
        self._check_contract()
        self.spans = self._read_spans()
        """All annotated spans, in the order of the file."""

    def step(self, number: int) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float64], NDArray[np.float64]]:
        """Camera → image, state and action of a step, binary actions as 0 and 1."""
        path = self.path / f"episode_{number:0{self._digits}d}.npz"
        try:
            with np.load(path, allow_pickle=False) as found:
                images = {camera.name: found[f"rgb_{camera.name}"] for camera in self.contract.cameras}
                state = found[STATE].astype(np.float64) if self.contract.state else np.zeros(0)
                action = found[self.contract.commands[0].name].astype(np.float64)
        except FileNotFoundError as error:
            raise UserError(f"step {path} is missing") from error
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"step {path} cannot be read: {' '.join(str(error).split())}") from error
        for name, values, expected in (
            (STATE, state, len(self.contract.state_names)),
            (self.contract.commands[0].name, action, len(self.contract.action_names)),
        ):
            if values.shape != (expected,):
                raise UserError(f"step {path}: {name} has {values.size} values, the contract {expected}")
        limits = self.contract.limits  # (action_dim, 2)
        return images, state, np.where(self.contract.binary, action > limits.mean(axis=1), action)

    def _check_contract(self) -> None:
        commands = self.contract.commands
        if len(commands) != 1 or commands[0].name not in ACTIONS:
            raise UserError(f"contract '{self.contract.name}' must have one command, named {' or '.join(ACTIONS)}")

    def _read_spans(self) -> list[Span]:
        path = self.path / ANNOTATIONS
        if not path.is_file():
            raise UserError(f"{self.path} has no {ANNOTATIONS}: only annotated spans become episodes")
        found = read_object_npy(path)
        try:
            language, places = found["language"], found["info"]["indx"]
            texts, tasks = list(language["ann"]), list(language["task"])
            spans = [
                Span(first=int(first), last=int(last), instruction=str(text).strip(), task=str(task))
                for (first, last), text, task in zip(places, texts, tasks, strict=True)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} has not CALVIN's annotations: {error}") from error
        self._check_spans(spans)
        return spans

    def _check_spans(self, spans: list[Span]) -> None:
        path = self.path / RECORDINGS
        if not spans:
            raise UserError(f"{self.path / ANNOTATIONS} annotates nothing")
        if not path.is_file():
            return
        try:
            recordings = np.load(path, allow_pickle=False).reshape(-1, 2)
        except (ValueError, OSError) as error:
            raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        for span in spans:
            inside = (recordings[:, 0] <= span.first) & (span.last <= recordings[:, 1])
            if not inside.any():
                raise UserError(
                    f"steps {span.first} to {span.last} ('{span.instruction}') lie in no recording of {path}"
                )


def convert_span(reader: CalvinReader, number: int, folder: Path, images: str, compress: bool) -> tuple[Path, int]:
    """Write the span of that number as an episode into ``folder``; (its path, steps).

    Frames are stamped from one second after zero on. The outcome is success: CALVIN annotates tasks that were done.
    """
    span = reader.spans[number]
    contract = with_images(reader.contract, images)
    name = f"{number:06d}_{re.sub(r'[^A-Za-z0-9_]+', '_', span.task)}"
    jpeg = images == "jpeg" and contract.cameras[0].type == COMPRESSED
    writer = FrameWriter(folder / name, contract, jpeg=jpeg, compress=compress)
    stamps = even_stamps(span.last - span.first + 1, contract.rate_hz)
    source: dict[str, Any] = {"format": "CALVIN", "first": span.first, "last": span.last, "task": span.task}
    try:
        writer.instruct(span.instruction, stamps[0])
        for step, stamp in zip(range(span.first, span.last + 1), stamps, strict=True):
            seen, state, action = reader.step(step)
            writer.add(stamp, seen, state, action)
        return writer.finish(outcome="success", converted_from=source), len(stamps)
    except BaseException:
        writer.discard()
        raise
