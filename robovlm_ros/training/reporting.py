"""What a training run says: one line now and then, a JSON log, and the Trainer set up without noise."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.training.optimisation import SCHEDULES, Optimisation


class Report:
    """Progress of one run: prints lines, keeps every figure for the log file."""

    def __init__(self, name: str, every: int = 100) -> None:
        self.name, self.every = name, every
        self.start = time.monotonic()
        self.log: list[dict[str, float]] = []

    def __call__(self, **figures: float) -> None:
        """Print and keep figures of one moment."""
        figures = {"seconds": round(time.monotonic() - self.start, 1), **figures}
        self.log.append(figures)
        text = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"{self.name}: {text}", flush=True)

    def last(self, key: str) -> float:
        """The newest value of a figure, NaN when there is none."""
        return next((entry[key] for entry in reversed(self.log) if key in entry), math.nan)

    def write(self, path: Path) -> None:
        """Write the log as JSON."""
        path.write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")


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
) -> Any:
    """A `transformers.Trainer` that saves nothing by itself and reports through ``report``.

    A loss that is not a number stops the run with a UserError that names the step.
    """
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                if not math.isfinite(float(logs["loss"])):
                    raise UserError(f"the loss became {logs['loss']} by step {state.global_step}: lower learning_rate")
                figures = {"step": state.global_step, "loss": float(logs["loss"])}
                if state.global_step % report.every == 0 and measure is not None:
                    figures.update(measure())
                report(**figures)

    # the Trainer insists on an output folder even when it saves nothing
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
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
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        dataloader_num_workers=workers,
    )
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[Reporter()],
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer
