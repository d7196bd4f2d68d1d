"""Contact sheets: the frames of episodes along time, each with its stamp, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from robovlm_ros import messages
from robovlm_ros.bags import Episode
from robovlm_ros.contract import Camera
from robovlm_ros.errors import UserError

FRAMES = 10
"""Frames of each camera."""
TILE = (160, 120)
"""Largest width and height of a frame on the sheet [px]; its proportions stay."""
LINE, MARGIN = 14, 4
"""Height of a line of text, and what is left free around everything [px]."""
PAPER, INK, GREY = (255, 255, 255), (20, 20, 20), (200, 200, 200)


def contact_sheet(episode: Episode) -> Image.Image:
    """One row of frames for each camera, from the first to the last, under what the episode is.

    A frame's time is its header stamp after the first of all stamps shown [s]. A frame that cannot be decoded is left
    grey. UserError if the episode cannot be read.
    """
    rows = [(camera, _frames(episode, camera)) for camera in episode.contract.cameras]
    begin_ns = min((stamp_ns for _, frames in rows for stamp_ns, _ in frames), default=0)
    width = MARGIN + FRAMES * (TILE[0] + MARGIN)
    height = MARGIN + LINE + len(rows) * (2 * LINE + TILE[1] + MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    said = f'{episode.name}   {episode.duration_s:.1f} s   {episode.outcome}   "{episode.instruction}"'
    pen.text((MARGIN, MARGIN), said, INK)
    top = MARGIN + LINE
    for camera, frames in rows:
        pen.text((MARGIN, top), f"{camera.name}: {episode.counts.get(camera.topic, 0)} frames on {camera.topic}", INK)
        top += LINE
        for i, (stamp_ns, image) in enumerate(frames):
            left = MARGIN + i * (TILE[0] + MARGIN)
            sheet.paste(image, (left, top))
            pen.text((left, top + TILE[1]), f"{(stamp_ns - begin_ns) / 1e9:.3f} s", INK)
        top += TILE[1] + LINE + MARGIN
    return sheet


def write_sheets(sheets: Mapping[str, Image.Image], path: Path) -> list[Path]:
    """Name → sheet, into ``path``: all in one picture if that ends in .png, else a folder with NAME.png of each."""
    if path.suffix.lower() != ".png":
        path.mkdir(parents=True, exist_ok=True)
        for name, sheet in sheets.items():
            sheet.save(path / f"{name}.png")
        return [path / f"{name}.png" for name in sheets]
    width = max(sheet.width for sheet in sheets.values())
    joined = Image.new("RGB", (width, sum(sheet.height for sheet in sheets.values())), PAPER)
    top = 0
    for sheet in sheets.values():
        joined.paste(sheet, (0, top))
        top += sheet.height
    path.parent.mkdir(parents=True, exist_ok=True)
    joined.save(path)
    return [path]


def _frames(episode: Episode, camera: Camera) -> Sequence[tuple[int, Image.Image]]:
    """(stamp [ns], thumbnail) of frames of a camera at even distances."""
    count = episode.counts.get(camera.topic, 0)
    wanted = set(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int).tolist())
    found = []
    for i, message in enumerate(episode.messages([camera.topic])):
        if i in wanted:
            found.append(_thumbnail(message, camera))
    return found


def _thumbnail(message: Any, camera: Camera) -> tuple[int, Image.Image]:
    try:
        decoded = message.decode()
        image = Image.fromarray(messages.image(decoded, camera))
        stamp_ns = messages.stamp_ns(decoded) or message.receive_ns
    except UserError:
        return message.receive_ns, Image.new("RGB", TILE, GREY)
    scale = min(TILE[0] / image.width, TILE[1] / image.height)
    return stamp_ns, image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
