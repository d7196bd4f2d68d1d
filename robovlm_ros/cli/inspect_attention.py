"""What `inspect token` says and draws of one episode: where action tokens look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robovlm_ros.bags import Episode
from robovlm_ros.cli.command import print_rows
from robovlm_ros.cli.film import Film
from robovlm_ros.cli.overlay import PANEL, Panel, instants, save_sheet, strip
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.ablation import Recorded
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.vlm.attention import EARLIER, PARTS, TokenAttention, attend, image_grids
from robovlm_ros.vlm.context import Context
from robovlm_ros.vlm.grid import ImageGrid
from robovlm_ros.vlm.sequence import NEW

PICTURED_LAYERS = 3
"""Layers that a picture shows, beside what reaches the token through all of them."""
PICTURED_SWAPS = 2
"""Other instructions that a picture shows beside the episode's own."""
GIF_PANEL = 150
"""Width of a camera's image in a GIF [px], which grows with every pixel that changes."""
ALL = "all layers"


@dataclass(frozen=True, kw_only=True)
class Look:
    """Where the action tokens look at one observation."""

    observation: Observation
    attention: TokenAttention
    views: dict[str, torch.Tensor]
    """(1, L) attention of each layer, mean over heads and action tokens, and `ALL`: the rollout."""


def look(
    engine: PolicyEngine,
    episode: Episode,
    steps: Sequence[Recorded],
    swaps: Sequence[str],
    output: Path | None,
    frames: int,
    film: str,
) -> dict[str, Any]:
    """Look at all observations of an episode, print a table, and draw when there is a folder to draw in.

    Returns the figures as plain values. ``swaps`` are other instructions to look with, ``frames`` the instants that
    a picture shows, ``film`` is mp4, gif or none.
    """
    found: dict[str, Any] = {"episode": str(episode.path), "instruction": episode.instruction}
    print(f'\n{episode.name}: "{episode.instruction}", {len(steps)} observations')
    try:
        looks = looks_along(engine, [step.observation for step in steps])
    except UserError as error:
        print(f"no attention to show: {error}")
        return {**found, "no_attention": str(error)}
    grids: list[ImageGrid] = []
    try:
        first = steps[0].observation
        shapes = [first.images[camera].shape for camera in engine.cameras]
        grids = image_grids(engine.policy, engine.processor.backbone, engine.processor(first), shapes)
    except UserError as error:
        print(f"no pictures: {error}")
        found["no_pictures"] = str(error)
    print(f"where action tokens look, mean over heads ({ALL}: attention rollout, what reaches them by any path)")
    found["views"] = _table(engine, looks, grids)
    if output and grids:
        _draw(engine, episode.name, looks, swaps[:PICTURED_SWAPS], grids, output, frames, film)
    return found


def looks_along(engine: PolicyEngine, observations: Sequence[Observation]) -> list[Look]:
    """A look at each observation of an episode, behind those before it where the policy reads them as one sequence."""
    if engine.policy.config.history != "interleaved":
        return [look_at(engine, observation) for observation in observations]
    looks = []
    engine.reset()
    for number, observation in enumerate(observations):
        engine.infer(observation)  # the engine decides when a sequence ends
        history = engine.memory.history if engine.memory else None
        read = history.frames if isinstance(history, Context) else engine.policy.config.window  # this one among them
        looks.append(look_at(engine, observation, observations[number + 1 - read : number]))
    engine.reset()
    return looks


def look_at(engine: PolicyEngine, observation: Observation, before: Sequence[Observation] = ()) -> Look:
    """Where the action tokens look at one observation; UserError where there is no attention to show.

    ``before`` are the observations that history `interleaved` reads it behind.
    """
    inputs = engine.processor.collate([engine.processor(seen) for seen in (*before, observation)])  # (W, ...)
    if before:
        inputs = {key: value[None] for key, value in inputs.items()}  # (1, W, ...)
    attention = attend(engine.policy, {key: value.to(engine.policy.device) for key, value in inputs.items()})
    layers = attention.weights.mean((2, 3))  # (1, layers, L)
    views = {f"layer {layer + 1}": layers[:, layer] for layer in range(layers.shape[1])}
    views[ALL] = attention.rollout.mean(1)  # (1, L)
    return Look(observation=observation, attention=attention, views=views)


def _table(engine: PolicyEngine, looks: Sequence[Look], grids: Sequence[ImageGrid]) -> dict[str, Any]:
    parts = PARTS if any(look.attention.frames > 1 for look in looks) else tuple(p for p in PARTS if p != EARLIER)
    rows = [["", *parts, "words read most"]]
    values: dict[str, Any] = {}
    for name in looks[0].views:
        each = [look.attention.shares(look.views[name]) for look in looks]
        shares = {part: float(np.mean([float(one[part]) for one in each])) for part in parts}
        words = _words(engine, looks, name)
        said = ", ".join(f"{word} {100 * share:.0f} %" for word, share in words if share > 0.005)
        rows.append([name, *(f"{100 * shares[part]:.0f} %" for part in parts), said])
        values[name] = {"shares": shares, "words": dict(words)}
        if grids:
            values[name]["brightest"] = {
                camera: [_brightest(look.attention.maps(look.views[name], grids)[i][0], grids[i]) for look in looks]
                for i, camera in enumerate(engine.cameras)
            }
    heads = torch.stack([look.attention.shares(look.attention.weights.mean(3))["images"][0] for look in looks])
    for layer, of_heads in enumerate(heads.mean(0).tolist(), start=1):  # (layers, heads)
        values[f"layer {layer}"]["images_of_each_head"] = of_heads
    print_rows(rows, left=(0, len(parts) + 1))
    return values


def _words(engine: PolicyEngine, looks: Sequence[Look], name: str) -> list[tuple[str, float]]:
    """The three words that get most, with their share of attention, mean over observations."""
    tokenizer = engine.processor.backbone.tokenizer
    total: defaultdict[str, float] = defaultdict(float)
    for look in looks:
        ids, view = look.attention.ids[0], look.views[name][0]  # (L,), (L,)
        word = ~look.attention.is_image[0] & (ids != NEW)
        for token, weight in zip(ids[word].tolist(), view[word].tolist(), strict=True):
            text = tokenizer.decode([token]).strip() or str(tokenizer.convert_ids_to_tokens(token))
            total[text] += weight / len(looks)
    return sorted(total.items(), key=lambda item: -item[1])[:3]


def _brightest(weights: torch.Tensor, grid: ImageGrid) -> tuple[float, float]:
    """Middle of the cell of (rows, columns) that gets most, as shares of the image's width and height."""
    row, column = divmod(int(weights.argmax()), grid.columns)
    left, top, right, bottom = grid.box
    x, y = left + (right - left) * (column + 0.5) / grid.columns, top + (bottom - top) * (row + 0.5) / grid.rows
    return round(x, 4), round(y, 4)


def _draw(
    engine: PolicyEngine,
    name: str,
    looks: Sequence[Look],
    swaps: Sequence[str],
    grids: Sequence[ImageGrid],
    output: Path,
    frames: int,
    film: str,
) -> None:
    """Two pictures (layers; instructions) and a film (instructions along the episode)."""
    cameras = list(zip(engine.cameras, grids, strict=True))
    swapped = [looks_along(engine, [replace(look.observation, instruction=text) for look in looks]) for text in swaps]
    chosen = instants(len(looks), frames)
    layers = len(looks[0].views) - 1
    shown = sorted({round(i * (layers - 1) / (PICTURED_LAYERS - 1)) + 1 for i in range(PICTURED_LAYERS)})
    start_ns = looks[0].observation.stamp_ns

    def plain(number: int, camera: str) -> Panel:
        seen = looks[number].observation
        return Panel(title=f"{camera}, {(seen.stamp_ns - start_ns) / 1e9:.1f} s", image=seen.images[camera])

    def lit(look: Look, view: str, camera: int, title: str) -> Panel:
        weights = look.attention.maps(look.views[view], grids)[camera][0].cpu().numpy()  # (rows, columns)
        place, grid = cameras[camera]
        return Panel(
            title=title.format(f"{100 * float(weights.sum()):.0f} %"), image=look.observation.images[place],
            weights=weights, box=grid.box,
        )  # fmt: skip

    def by_layer(number: int, camera: int) -> list[Panel]:
        views = [*(f"layer {layer}" for layer in shown), ALL]
        look = looks[number]
        return [plain(number, cameras[camera][0]), *(lit(look, v, camera, f"{v}: {{}} of attention") for v in views)]

    def by_instruction(number: int, camera: int) -> list[Panel]:
        views = [looks[number], *(other[number] for other in swapped)]
        panels = [lit(look, ALL, camera, look.observation.instruction.replace("{", " ")) for look in views]
        return [plain(number, cameras[camera][0]), *panels]

    every = range(len(cameras))
    caption = f'Where the action token looks: "{looks[0].observation.instruction}"'
    for kind, panels, text in (
        ("layers", by_layer, f"{caption}; {ALL}: rollout"),
        ("instructions", by_instruction, "Where the action token looks, through all layers, under each instruction"),
    ):
        save_sheet(output / f"{name}_{kind}.png", text, [panels(n, camera) for n in chosen for camera in every])
    if film == "none":
        return
    path = output / f"{name}.{film}"
    width = GIF_PANEL if film == "gif" else PANEL
    pages = [
        strip([replace(panel, width=width) for camera in every for panel in by_instruction(number, camera)])
        for number in range(len(looks))
    ]
    reel = Film(path, engine.contract.rate_hz / 2, *pages[0].size)  # at half speed, for there is much to see
    for look, page in zip(looks, pages, strict=True):
        lines = (look.observation.instruction, "where the action token looks, through all layers")
        reel.add(np.asarray(page), lines)
    reel.close()
    print(f"inspect: film in {path}")
