"""``inspect replay``: a policy over recorded episodes, what it would have done against what was done."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags import Episode, observations, read_episode
from robovlm_ros.cli.command import Commands, HelpFormatter, needs_matplotlib, print_rows, write_json
from robovlm_ros.cli.inspect_token import check_fits
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    from robovlm_ros.contract import ActionDimension
    from robovlm_ros.runtime.engine import PolicyEngine


def add_command(commands: Commands) -> None:
    """Add ``replay`` to the things that `inspect` looks at."""
    replay = commands.add_parser(
        "replay",
        help="a policy over a recorded episode: predicted against recorded actions",
        description="Runs a policy over the observations of recorded episodes, in their order and with what it "
        "remembers of them, as the policy node would have seen them; compares each action of each chunk with the "
        "command that was in force when it was due. Nothing is sent: replay_node sends an episode's commands.",
        formatter_class=HelpFormatter,
    )
    replay.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a policy's folder or a shipped name")
    replay.add_argument("--episode", type=Path, nargs="+", required=True, metavar="FOLDER", help="recorded episodes")
    replay.add_argument("--instruction", metavar="TEXT", help="tell the policy this instead of what was said")
    replay.add_argument("--output", type=Path, metavar="DIR", help="draw predicted and recorded actions there (PNG)")
    replay.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    replay.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    replay.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too, as JSON")
    replay.set_defaults(command=_replay)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a policy says of an episode, and what was commanded."""

    stamps_ns: NDArray[np.int64]
    """(n,) stamps of the observations [ns]."""
    predicted: NDArray[np.float64]
    """(n, chunk_size, action_dim) absolute actions, 0 or 1 where binary."""
    recorded: NDArray[np.float64]
    """(n, chunk_size, action_dim) commands in force when they are due."""
    valid: NDArray[np.bool_]
    """(n, chunk_size) False where there were none."""


def _replay(options: argparse.Namespace) -> int:
    from robovlm_ros.checkpoints import find_checkpoint

    if options.output:
        needs_matplotlib("--output")
    episodes = [read_episode(path) for path in options.episode]
    folder = find_checkpoint(str(options.checkpoint))

    from robovlm_ros.runtime.engine import PolicyEngine

    engine = PolicyEngine.load(folder, options.device, options.threads)
    dims = engine.contract.action_dims
    results = []
    for episode in episodes:
        check_fits(engine, episode)
        found = replayed(engine, episode, options.instruction)
        figures = errors(found, engine.contract.binary)
        results.append({"episode": str(episode.path), "observations": len(found.stamps_ns), **figures})
        _print(episode, options.instruction, found, figures, dims)
        if options.output:
            path = options.output / f"{episode.name}_replay.png"
            draw(found, dims, path)
            print(f"inspect: {path}")
    names = [{"name": dim.name, "unit": dim.unit, "kind": dim.kind} for dim in dims]
    write_json(options.json, {"checkpoint": str(folder), "actions": names, "episodes": results})
    return 0


def replayed(engine: PolicyEngine, episode: Episode, instruction: str | None = None) -> Replayed:
    """Run the policy over all observations of an episode."""
    engine.reset()
    stamps, predicted, recorded, valid = [], [], [], []
    for step in observations(episode, engine.cameras, engine.chunk_size):
        seen = step.observation
        chunk = engine.infer(seen if instruction is None else replace(seen, instruction=instruction))
        stamps.append(seen.stamp_ns)
        predicted.append(np.where(engine.contract.binary, chunk.actions >= 0.5, chunk.actions))
        recorded.append(step.actions)
        valid.append(step.valid)
    engine.reset()
    if not stamps:
        raise UserError(f"episode {episode.path} holds no complete observation")
    return Replayed(
        stamps_ns=np.array(stamps, np.int64),
        predicted=np.array(predicted, np.float64),  # (n, chunk_size, action_dim)
        recorded=np.array(recorded, np.float64),
        valid=np.array(valid, np.bool_),  # (n, chunk_size)
    )


def errors(found: Replayed, binary: NDArray[np.bool_]) -> dict[str, Any]:
    """Mean absolute difference of each action, where binary the share that differs: of each chunk's first action, and
    of all; and the share of the recorded actions' deviation that the first is, mean over what is not binary."""
    difference = np.abs(found.predicted - found.recorded)  # (n, chunk_size, action_dim)
    first = difference[:, 0][found.valid[:, 0]]  # (m, action_dim)
    every = difference[found.valid]  # (k, action_dim)
    if not len(first):
        raise UserError("the episode holds no command in force at any observation")
    deviation = found.recorded[:, 0][found.valid[:, 0]].std(axis=0)  # (action_dim,)
    used = ~binary & (deviation > 1e-9)
    share = float((first.mean(axis=0)[used] / deviation[used]).mean()) if used.any() else float("nan")
    return {
        "first_action": first.mean(axis=0).tolist(),
        "all_actions": every.mean(axis=0).tolist(),
        "largest": every.max(axis=0).tolist(),
        "deviation": deviation.tolist(),
        "share_of_deviation": share,
    }


def _print(
    episode: Episode, told: str | None, found: Replayed, figures: dict[str, Any], dims: Sequence[ActionDimension]
) -> None:
    print(f"{episode.name}: '{told or episode.instruction}', {len(found.stamps_ns)} observations")
    rows = [["difference", *(f"{dim.name} [{'flips' if dim.kind == 'binary' else dim.unit}]" for dim in dims)]]
    for name in ("first_action", "all_actions", "largest", "deviation"):
        label = "deviation of recorded actions" if name == "deviation" else name.replace("_", " ")
        rows.append([label, *(f"{value:.4f}" for value in figures[name])])
    print_rows(rows, left=(0,))


def draw(found: Replayed, dims: Sequence[ActionDimension], path: Path) -> None:
    """Each action along time: what was commanded, and each chunk from the observation that it rests on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds = (found.stamps_ns - found.stamps_ns[0]) / 1e9  # (n,)
    steps = found.predicted.shape[1]
    step_s = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.1
    figure = Figure(figsize=(9.0, 1.8 * len(dims) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(dims), 1, sharex=True, squeeze=False)[:, 0]
    for place, (axis, dim) in enumerate(zip(axes, dims, strict=True)):
        for start, chunk in zip(seconds, found.predicted[:, :, place], strict=True):
            axis.plot(start + step_s * np.arange(steps), chunk, color="tab:orange", lw=0.6, alpha=0.6)
        axis.plot(seconds, found.predicted[:, 0, place], ".", color="tab:red", markersize=3, label="predicted")
        shown = np.where(found.valid[:, 0], found.recorded[:, 0, place], np.nan)
        axis.step(seconds, shown, where="post", color="black", lw=1.2, label="recorded")
        axis.set_ylabel(f"{dim.name} [{'open' if dim.kind == 'binary' else dim.unit}]")
    axes[0].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("time [s]")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
