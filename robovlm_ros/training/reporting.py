"""What a training run says: a bar on a terminal or a line now and then, a JSON log, and the Trainer without noise."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.optimisation import SCHEDULES, Optimisation
from robovlm_ros.vlm.checkpoint import resolve_device


def say(text: str) -> None:
    """Print a line, once for all processes, above the bar where there is one."""
    if not processes.is_first():
        return
    if sys.stdout.isatty():
        from tqdm import tqdm

        tqdm.write(text)
    else:
        print(text, flush=True)


class Report:
    """Progress of one run: prints lines, keeps every figure for the log file."""

    def __init__(self, name: str, every: int = 100) -> None:
        self.name, self.every = name, every
        self.start = time.monotonic()
        self.log: list[dict[str, float]] = []
        self.listeners: list[Callable[[dict[str, float]], None]] = []
        """Called with the figures of each moment, in the process that speaks for all."""
        self.left = ""
        """Time that is left, in words; shown, not kept."""

    def __call__(self, **figures: float) -> None:
        """Print and keep figures of one moment."""
        figures = {"seconds": self.seconds(), **figures}
        self.log.append(figures)
        text = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        say(f"{self.name}: {text}{self.left}")
        for listener in self.listeners if processes.is_first() else ():
            listener(figures)

    def seconds(self) -> float:
        """Since the run began; what was before it was resumed counts, the pause does not [s]."""
        return round(time.monotonic() - self.start, 1)

    def restore(self, log: Sequence[Mapping[str, float]], seconds: float) -> None:
        """Go on with the log of a run that is resumed."""
        self.log[:] = [dict(entry) for entry in log]
        self.start = time.monotonic() - seconds

    def last(self, key: str) -> float:
        """The newest value of a figure, NaN when there is none."""
        return next((entry[key] for entry in reversed(self.log) if key in entry), math.nan)

    def at(self, step: int, key: str) -> float | None:
        """A figure of a step, if it was measured there."""
        return next((entry[key] for entry in reversed(self.log) if entry.get("step") == step and key in entry), None)

    def write(self, path: Path) -> None:
        """Write the log as JSON."""
        path.write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")


def in_words(seconds: float) -> str:
    """A duration as a person would say it."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def quiet_trainer(
    trainer_class: Any,
    *,
    model: Any,
    dataset: Any,
    collator: Any,
    options: Optimisation,
    report: Report,
    measure: Callable[[], dict[str, float]] | None = None,
    optimizer: Any = None,
    device: str = "auto",
    workers: int = 0,
    parts: int = 1,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """A `transformers.Trainer` that saves nothing by itself and reports through ``report``.

    A loss that is not a number stops the run with a UserError that names the step. ``parts``: into how many a step is
    dealt out; ``settings``: further `TrainingArguments`; ``more``: further arguments of the trainer's class.
    """
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.bar: Any = None

        def on_train_begin(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            self.begin, self.first = time.monotonic(), state.global_step
            if processes.is_first() and sys.stdout.isatty():
                from tqdm import tqdm

                self.bar = tqdm(total=options.steps, initial=state.global_step, unit="step", desc=report.name)

        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            if self.bar is not None:
                self.bar.update(state.global_step - self.bar.n)

        def on_train_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            report.left = ""
            if self.bar is not None:
                self.bar.close()

        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                if not math.isfinite(float(logs["loss"])):
                    raise UserError(f"the loss became {logs['loss']} by step {state.global_step}: lower learning_rate")
                figures = {"step": state.global_step, "loss": float(logs["loss"])}
                if "learning_rate" in logs:
                    figures["learning_rate"] = float(logs["learning_rate"])
                if state.global_step % report.every == 0 and measure is not None:
                    figures.update(measure())
                done = state.global_step - self.first
                left = (time.monotonic() - self.begin) / done * (options.steps - state.global_step)
                report.left = f", {in_words(left)} left" if state.global_step < options.steps else ""
                report(**figures)

    # the Trainer insists on an output folder even when it saves nothing
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size // parts,
        learning_rate=options.learning_rate,
        lr_scheduler_type=SCHEDULES[options.schedule],
        warmup_steps=options.warmup_steps,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        seed=options.seed,
        data_seed=options.seed,
        logging_steps=max(1, min(report.every, options.steps)),
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=resolve_device(device).type == "cpu",
        dataloader_pin_memory=False,
        dataloader_num_workers=workers,
        **(settings or {}),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process uses one GPU; several are for several processes
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[Reporter()],
        optimizers=(optimizer, None),
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer
