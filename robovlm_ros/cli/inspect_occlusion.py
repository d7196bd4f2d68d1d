"""What `inspect token` says and draws of one episode: where covering the image moves the actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robovlm_ros.bags import Episode
from robovlm_ros.cli.overlay import Panel, instants, save_sheet
from robovlm_ros.runtime.ablation import Recorded
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.occlusion import occlude

PICTURED_SWAPS = 2
"""Other instructions that a picture shows beside the episode's own."""


def cover(
    engine: PolicyEngine,
    episode: Episode,
    steps: Sequence[Recorded],
    swaps: Sequence[str],
    output: Path | None,
    frames: int,
    cells: int,
) -> dict[str, Any]:
    """Cover each part of each image at some instants of an episode; the figures as plain values, and a picture."""
    chosen = instants(len(steps), frames)
    texts = [None, *swaps[:PICTURED_SWAPS]]
    maps: dict[tuple[int, str, int], Any] = {}
    for which, text in enumerate(texts):
        engine.reset()
        for number, step in enumerate(steps):
            seen = step.observation if text is None else replace(step.observation, instruction=text)
            if number in chosen:
                for camera in engine.cameras:
                    maps[number, camera, which] = occlude(engine, seen, camera, cells)
            engine.infer(seen)
    engine.reset()
    start_ns = steps[0].observation.stamp_ns
    rows, values = [], []
    for number in chosen:
        seen = steps[number].observation
        seconds = (seen.stamp_ns - start_ns) / 1e9
        for camera in engine.cameras:
            image, found = seen.images[camera], [maps[number, camera, which] for which in range(len(texts))]
            row = [Panel(title=f"{camera}, {seconds:.1f} s", image=image)]
            for text, change in zip(texts, found, strict=True):
                title = f"{text or seen.instruction}: up to {change.max():.2f}"
                row.append(Panel(title=title, image=image, weights=change))
                values.append(
                    {
                        "seconds": seconds,
                        "camera": camera,
                        "instruction": text or seen.instruction,
                        "change": change.tolist(),
                    }
                )
            rows.append(row)
    if output:
        caption = "Where covering the image moves the action (in normalised units), under each instruction"
        save_sheet(output / f"{episode.name}_occlusion.png", caption, rows)
    return {"cells": cells, "maps": values}
