"""How the figures of `benchmark forward` are shown: a Markdown table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robovlm_ros.runtime.plain import STAGES

COLOURS = dict(zip(STAGES, ("#88bbdd", "#4477aa", "#228833", "#cc6677", "#999999"), strict=True))


def name_of(row: dict[str, Any]) -> str:
    """A configuration in a few words."""
    cameras = f"{row['cameras']} camera{'s' if row['cameras'] > 1 else ''}"
    history = "" if row["history"] == "one_step" else f", {row['history']} {row['window']}"
    fast = "" if row["fast"] == "auto" else f", fast {row['fast']}"
    return f"{row['backbone']}, {cameras}, {row['head']}{history}, {row['dtype']}{fast}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the ways and the floor, then the stages."""
    lines = [
        "| step | fast p50 | fast p99 | eager p50 | compiled p50 | eager / fast | GFLOP | weights read | floor "
        "| share of floor | memory of a step, fast / eager |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        compiled = "not measured" if row["compiled_p50_ms"] is None else _ms(row["compiled_p50_ms"])
        gflop, megabytes = (sum(cost[key] for cost in row["costs"].values()) for key in ("gflop", "mb"))
        memory = " / ".join(
            "?" if row["memory"][key] is None else f"{row['memory'][key]:.0f} MB" for key in ("fast_mb", "eager_mb")
        )
        lines.append(
            f"| {name_of(row)} | {_ms(row['fast_p50_ms'])} | {_ms(row['fast_p99_ms'])} | {_ms(row['eager_p50_ms'])} "
            f"| {compiled} | {row['speedup']:.2f} | {gflop:.3g} | {megabytes:.4g} MB | {_ms(row['floor_ms'])} "
            f"| {row['share_of_floor']:.1%} | {memory} |"
        )
    lines += [
        "",
        f"| step, fast / eager | {' | '.join(STAGES)} |",
        f"|---|{'---|' * len(STAGES)}",
    ]
    for row in rows:
        cells = []
        for stage in STAGES:
            taken = row["stages"][stage]
            ratio = f" ({taken['ratio']:.1f}x)" if "ratio" in taken else ""
            cells.append(f"{_ms(taken['fast_ms'])} / {_ms(taken['eager_ms'])}{ratio}")
        lines.append(f"| {name_of(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """For each configuration bars of the stages, eager and fast, as shares of eager's time; the floor as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.2 + 1.1 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    labels: list[str] = []
    places: list[int] = []
    for number, row in enumerate(rows):
        ways = ["eager", "fast"] if row["compiled_p50_ms"] is None else ["eager", "compiled", "fast"]
        for offset, way in enumerate(ways):
            place, left = number * 4 + offset, 0.0
            for stage in STAGES if way != "compiled" else ():
                width = row["stages"][stage][f"{way}_ms"] / row["eager_p50_ms"]
                axis.barh(place, width, left=left, color=COLOURS[stage], label=stage if not labels else None)
                left += width
            if way == "compiled":
                axis.barh(place, row["compiled_p50_ms"] / row["eager_p50_ms"], color="#ccbb77")
            places.append(place)
            labels.append(f"{name_of(row)}\n{way}" if offset == 0 else way)
        share = row["floor_ms"] / row["eager_p50_ms"]
        ends = [number * 4 - 0.5, number * 4 + len(ways) - 0.5]
        axis.plot([share, share], ends, color="black", lw=1.2, ls=":", label="floor" if number == 0 else None)
    axis.set_yticks(places, labels)
    axis.invert_yaxis()
    axis.set_xlabel("time of a step, as a share of the plain eager forward")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
