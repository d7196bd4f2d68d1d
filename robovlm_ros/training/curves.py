"""What a training run measured, as a picture and as TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robovlm_ros.errors import UserError
from robovlm_ros.training import processes
from robovlm_ros.training.reporting import say

PANELS = (
    (("loss",), "training loss", True),
    (("validation_error",), "error of held-out actions", False),
    (("success_rate",), "success in the simulator", False),
    (("learning_rate",), "learning rate", False),
)
"""(figures of the log, name of their axis, whether it is logarithmic), from the top; what has none is left out."""


def event_writer(folder: Path) -> Callable[[dict[str, float]], None]:
    """What writes the figures of each moment into event files; UserError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard: the package tensorboard is missing: pip install tensorboard") from error
    if not processes.is_first():
        return lambda figures: None
    writer: Any = None

    def write(figures: dict[str, float]) -> None:
        nonlocal writer
        step = int(figures.get("step", 0))
        if writer is None:  # what an earlier run wrote behind the step that this one went on from is void
            writer = SummaryWriter(str(folder), purge_step=step)
        for name, value in figures.items():
            if name not in ("step", "seconds"):
                writer.add_scalar(name, value, step)
        writer.flush()

    return write


def draw(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """A picture of a run's log; without matplotlib there is none, and a line says so."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        say(f"no {path.name}: the package matplotlib is missing")
        return
    shown = [panel for panel in PANELS if any(name in entry for entry in log for name in panel[0])]
    if not shown:
        return
    figure = Figure(figsize=(7.0, 2.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (names, label, logarithmic) in zip(axes, shown, strict=True):
        for name in names:
            points = [(entry["step"], entry[name]) for entry in log if name in entry and "step" in entry]
            marker = "o" if len(points) < 40 else ""
            axis.plot(*zip(*points, strict=True), marker=marker, markersize=3, linewidth=1.2)
        if logarithmic and all(entry[name] > 0 for entry in log for name in names if name in entry):
            axis.set_yscale("log")
        if "success_rate" in names:
            axis.set_ylim(-0.02, 1.02)
        axis.set_ylabel(label)
        axis.grid(True, alpha=0.3)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=120)
