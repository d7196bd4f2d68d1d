"""How the strategies of the policy node do, with inference as fast as it is and with time added to it.

``python tools/strategies.py --episodes 50 --json FILE --page docs/control.md``: in the simulator, in real time, through
real topics. Of each strategy, with each delay, on the same scenes: how many instructions to reach a block are
fulfilled, how smooth the commanded path and the tool's own are (mean squared jerk, third differences), and the time
until the arm turns when the block that it reaches for changes places with another. ``rtc`` needs a policy whose head
draws its actions (flow, diffusion): name one with ``--drawing``; it then also runs with ``first``, to compare with.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import fill

from robovlm_ros import messages
from robovlm_ros.checkpoints import find_checkpoint
from robovlm_ros.cli.command import parser, print_rows, run, write_json
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.strategies import STRATEGIES

LATE = 1.5
"""A path is broken where two samples are further apart than so many of their periods."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    top = parser("strategies.py", __doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--checkpoint", default="tabletop", help="the policy (default: tabletop)")
    top.add_argument("--drawing", metavar="FOLDER", help="a policy with head flow or diffusion, for rtc")
    top.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES, metavar="NAME")
    top.add_argument("--delays-ms", nargs="+", type=float, default=[0.0, 50.0, 200.0], help="added to each inference")
    top.add_argument("--episodes", type=int, default=50, help="of each strategy with each delay (default: 50)")
    top.add_argument("--reactions", type=int, default=20, help="moved targets of each (default: 20)")
    top.add_argument("--seed", type=int, default=6, help="chooses the scenes (default: 6)")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, as JSON")
    top.add_argument("--page", type=Path, metavar="FILE", help="write the table there, between its marks")
    options = top.parse_args(arguments)
    return run(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.session import local_environment

    if options.episodes < 1 or options.reactions < 0 or min(options.delays_ms) < 0:
        raise UserError("--episodes must be at least 1, --reactions and --delays-ms 0 or more")
    plans = [(options.checkpoint, [name for name in options.strategies if name != "rtc"])]
    if options.drawing:
        plans.append((options.drawing, [name for name in ("first", "rtc") if name in options.strategies]))
    elif "rtc" in options.strategies:
        print("rtc is left out: it needs a policy with head flow or diffusion (--drawing)")
    os.environ.update(local_environment())
    rows: list[dict[str, Any]] = []
    for checkpoint, names in plans:
        if names:
            rows += _of(checkpoint, names, options)
    print_rows([HEADINGS, *(_cells(row) for row in rows)], left=(0, 1))
    write_json(options.json, {"seed": options.seed, "cores": os.cpu_count(), "rows": rows})
    if options.page:
        fill(options.page, {"strategies": _table(rows)}, check=False)
    return 0


def _of(checkpoint: str, names: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one policy."""
    from rclpy.parameter import Parameter

    from robovlm_ros.cli.episodes import Runner, scene_seed
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session, local_environment
    from robovlm_ros.sim.tasks import REACH

    contract, rows = Contract.load("tabletop"), []
    with Nodes(local_environment()) as nodes:
        nodes.start("sim_node", {"contract": "tabletop"})
        nodes.start("policy_node", {"contract": "tabletop", "checkpoint": find_checkpoint(checkpoint)})
        with Session(contract, "strategies", nodes.check) as session:
            session.wait_for_policy()
            path = CommandPath(session)
            runner = Runner(session)
            for name in names:
                for delay_ms in options.delays_ms:
                    session.set(
                        "/policy_node",
                        [Parameter("strategy", value=name), Parameter("inference_delay_s", value=delay_ms / 1e3)],
                    )
                    episodes, commanded, tool = [], [], []
                    for i in range(options.episodes):
                        path.clear()
                        episodes.append(runner.run(scene_seed(options.seed, i), REACH))
                        commanded.append(mean_squared_jerk(*path.track(), 1.0 / contract.command_rate_hz))
                        tool.append(mean_squared_jerk(*tool_track(session, runner.first_ns), 1.0 / contract.rate_hz))
                    reactions = runner.reactions(scene_seed(options.seed, 5000), options.reactions, moved=True)
                    row = {
                        "checkpoint": checkpoint,
                        "strategy": name,
                        "delay_ms": delay_ms,
                        "episodes": len(episodes),
                        "success_rate": sum(episode.success for episode in episodes) / len(episodes),
                        "commanded_jerk": _mean(commanded),
                        "tool_jerk": _mean(tool),
                        "reactions": len(reactions),
                        "reaction_s": float(np.median(reactions)) if reactions else None,
                    }
                    rows.append(row)
                    print(", ".join(_cells(row)), flush=True)
    return rows


class CommandPath:
    """Where the tool was told to go, since the last `clear`."""

    def __init__(self, session: Any) -> None:
        self._stamps: list[int] = []
        self._points: list[NDArray[np.float64]] = []
        command = session.contract.commands[0]

        def receive(message: Any) -> None:
            self._stamps.append(messages.stamp_ns(message) or 0)
            self._points.append(messages.command_values(message, command)[:3])

        session.node.create_subscription(messages.message_class(command.type), command.topic, receive, 200)

    def clear(self) -> None:
        """Forget what was."""
        self._stamps.clear()
        self._points.clear()

    def track(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n,) stamps [ns] and (n, 3) points [m]."""
        return np.array(self._stamps, np.int64), np.array(self._points).reshape(-1, 3)


def tool_track(session: Any, since_ns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) stamps [ns] and (n, 3) places of the tool [m] since then."""
    found = [(stamp, place) for stamp, place in session.poses if stamp >= since_ns]
    return np.array([stamp for stamp, _ in found], np.int64), np.array([place for _, place in found]).reshape(-1, 3)


def mean_squared_jerk(stamps_ns: NDArray[np.int64], points: NDArray[np.float64], period_s: float) -> float:
    """Mean of |d3x/dt3|^2 [m^2/s^6] by third differences of evenly spaced points; NaN where there are too few.

    Stretches in which samples are missing are left out.
    """
    if len(points) < 4:
        return float("nan")
    jerk = np.diff(points, 3, axis=0) / period_s**3  # (n - 3, 3)
    even = np.diff(stamps_ns) < LATE * period_s * 1e9  # (n - 1,)
    whole = even[:-2] & even[1:-1] & even[2:]  # (n - 3,)
    return float((jerk[whole] ** 2).sum(axis=1).mean()) if whole.any() else float("nan")


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


HEADINGS = [
    *("checkpoint", "strategy", "delay [ms]", "success", "jerk of the command [m^2/s^6]", "of the tool [m^2/s^6]"),
    "reaction to a moved target [s]",
]


def _cells(row: dict[str, Any]) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        Path(row["checkpoint"]).name,
        row["strategy"],
        f"{row['delay_ms']:g}",
        f"{row['success_rate']:.0%} of {row['episodes']}",
        number(row["commanded_jerk"], ".3g"),
        number(row["tool_jerk"], ".3g"),
        number(row["reaction_s"], ".2f"),
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)])


if __name__ == "__main__":
    sys.exit(main())
