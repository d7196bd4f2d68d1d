"""What a fine-tuning leaves behind while it runs, and what it takes to go on with it. Nothing here needs torch.

::

    OUTPUT/checkpoints/run.json     with which options, on which episodes and which base it began
                       step_600/    a policy as any other, and in training/ what going on takes
                       best         a link to the best of them

A folder has its name from the moment on when it is whole: a run that is killed leaves hidden ones, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError

FOLDER, RUN, BEST = "checkpoints", "run.json", "best"
TRAINING, PROGRESS, EVALUATION = "training", "progress.json", "evaluation.json"
FREE = frozenset(
    {
        *("save_every", "keep_last", "evaluate_every", "evaluate_episodes", "evaluate_flags", "tensorboard", "save"),
        *("device", "threads", "accumulate", "gradient_checkpointing", "cache", "workers"),
    }
)
"""Options that may be others when a run goes on: they do not change what is learned, but for rounding."""


@dataclass(frozen=True, kw_only=True)
class SavingOptions:
    """What is kept of a run while it goes on, and what is measured of it."""

    save_every: int = 0
    """Steps between checkpoints from which the run can go on (--resume); 0: none, only the policy at the end."""
    keep_last: int = 2
    """Newest checkpoints that are kept, beside the best; 0: all."""
    evaluate_every: int = 0
    """Steps between evaluations in the simulator, each on a checkpoint of its own; 0: none."""
    evaluate_episodes: int = 20
    """Episodes of such an evaluation."""
    evaluate_flags: str = ""
    """Further flags of the command evaluate for them, as one text."""
    tensorboard: bool = False
    """Write TensorBoard's event files into the folder tensorboard beside the policy; needs the package tensorboard."""

    def __post_init__(self) -> None:
        for name in ("save_every", "keep_last", "evaluate_every"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.evaluate_episodes < 1:
            raise UserError(f"evaluate_episodes must be at least 1, not {self.evaluate_episodes}")
        try:
            shlex.split(self.evaluate_flags)
        except ValueError as error:
            raise UserError(f"evaluate_flags cannot be split into flags: {error}") from error

    @property
    def saves(self) -> bool:
        """Whether there are checkpoints at all."""
        return bool(self.save_every or self.evaluate_every)

    def due(self, step: int, steps: int) -> bool:
        """Whether a checkpoint is due behind a step of so many."""
        return self.saves and (
            step == steps or any(n and step % n == 0 for n in (self.save_every, self.evaluate_every))
        )

    def evaluation_due(self, step: int, steps: int) -> bool:
        """Whether the checkpoint behind a step is evaluated."""
        return bool(self.evaluate_every) and (step == steps or step % self.evaluate_every == 0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run began with."""

    options: dict[str, Any]
    """All options as plain values."""
    sources: list[str]
    """Folders of episodes."""
    base: str
    """The vision-language model, as it was named."""
    base_sha256: str = ""
    """Content of its weights."""
    episodes: list[list[str]] = dataclasses.field(default_factory=list)
    """(name, content) of each episode in their order."""

    def write(self, folder: Path) -> None:
        """Into the folder of the run's checkpoints."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / RUN, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """From the folder of the run's checkpoints; UserError when it is damaged."""
        values = read_json_mapping(folder / RUN)
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values.get("options"), dict) or not known >= set(values) >= {"sources", "base"}:
            raise UserError(f"{folder / RUN} is damaged: it does not say what the run began with")
        return cls(**values)

    def check(self, begun: Run, defaults: Mapping[str, Any], done: int) -> None:
        """UserError unless this is how the run began.

        Args:
            begun: what it began with.
            defaults: of all options; what it began with may know fewer of them.
            done: steps that are behind it.
        """
        check_options(self.options, begun.options, defaults, done)
        if self.base_sha256 != begun.base_sha256:
            raise UserError(f"--resume: the run began with other weights than those of the base {self.base}")
        before, now = (dict(run.episodes) for run in (begun, self))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                how = "missing" if name not in now else "new" if name not in before else "changed"
                raise UserError(f"--resume: the run began with other episodes: {name} is {how}")
        if self.episodes != begun.episodes:
            raise UserError("--resume: the run began with the same episodes in another order: name the folders in its")


def check_options(now: Mapping[str, Any], before: Mapping[str, Any], defaults: Mapping[str, Any], done: int) -> None:
    """UserError that names the first option with which a run cannot go on."""
    for name in now:
        value, was = plain(now[name]), plain(before.get(name, defaults[name]))
        if value == was or name in FREE:
            continue
        if name == "steps" and now["schedule"] == "constant" and value >= done:
            continue
        why = ""
        if name == "steps":
            why = f", and {done} are done" if value < done else ", on which the schedule 'cosine' depends"
        raise UserError(f"--resume: {name} was {was!r} when the run began, not {value!r}{why}: leave it as it was")


def plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


class Checkpoints:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path, keep_last: int = 0) -> None:
        self.folder, self.keep_last = folder, keep_last

    def steps(self) -> list[int]:
        """Steps behind which there is a checkpoint."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"step_(\d+)", name)))

    def path(self, step: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / f"step_{step}"

    def partial(self, step: int) -> Path:
        """Where a checkpoint is written."""
        return self.folder / f".step_{step}.partial"

    def newest(self) -> Path | None:
        """The checkpoint to go on from."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def clean(self) -> None:
        """Remove what a run that was killed left unfinished."""
        for path in [*self.folder.glob(".step_*"), *self.folder.glob(f".{BEST}*")]:
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)

    def begin(self, step: int) -> Path:
        """An empty folder to write a checkpoint into."""
        partial = self.partial(step)
        if partial.exists():
            shutil.rmtree(partial)
        (partial / TRAINING).mkdir(parents=True)
        return partial

    def finish(self, step: int) -> Path:
        """Give a checkpoint that is whole its name."""
        if self.path(step).exists():
            self._remove(step)
        self.partial(step).rename(self.path(step))
        return self.path(step)

    def settle(self) -> None:
        """Let `best` be the best, and remove what is neither best nor among the newest."""
        best = self.best()
        if best is not None:
            link = self.folder / f".{BEST}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(self.path(best).name)
            link.replace(self.folder / BEST)
        if self.keep_last:
            for step in self.steps()[: -self.keep_last]:
                if step != best:
                    self._remove(step)

    def _remove(self, step: int) -> None:
        hidden = self.folder / f".step_{step}.removed"
        self.path(step).rename(hidden)  # half of a checkpoint has no name that somebody could take it by
        shutil.rmtree(hidden)

    def measured(self, step: int) -> dict[str, float]:
        """Of a checkpoint, its `validation_error` and its `success_rate` in the simulator, what there is of them."""
        found: dict[str, float] = {}
        for file, key in ((f"{TRAINING}/{PROGRESS}", "validation_error"), (EVALUATION, "success_rate")):
            path = self.path(step) / file
            value = read_json_mapping(path).get(key) if path.is_file() else None
            if value is not None:
                found[key] = float(value)
        return found

    def best(self) -> int | None:
        """The checkpoint with the largest success or, where none was evaluated, with the smallest error."""
        measured = {step: self.measured(step) for step in self.steps()}
        success = [(found["success_rate"], step) for step, found in measured.items() if "success_rate" in found]
        if success:
            return max(success)[1]  # of equals the newest
        errors = [(found["validation_error"], step) for step, found in measured.items() if "validation_error" in found]
        return min(errors)[1] if errors else None


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_json_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; UserError when there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it is not a mapping")
    return values


def check_unused(folder: Path) -> None:
    """UserError when a folder of checkpoints holds those of another run, with which new ones would mix."""
    steps = Checkpoints(folder).steps()
    if steps:
        raise UserError(
            f"{folder} holds checkpoints of an earlier run (up to step_{steps[-1]}): go on with it by --resume, "
            "or name another --output"
        )
