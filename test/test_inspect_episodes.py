"""`inspect episodes`: rates, gaps, filters, incidents and contact sheets of real bags."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robovlm_ros.bags import EpisodeWriter, mark
from robovlm_ros.cli.contact_sheet import FRAMES, LINE, MARGIN, TILE
from robovlm_ros.cli.inspect import main as inspect

from .test_bags import CONTRACT, START, STEP, episode_messages, image, record, text, topics

WRIST = "/wrist_camera/image_raw"


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[list[str], dict[str, Any]]:
    """The lines printed, and the JSON."""
    report = Path(str(arguments[0])).parent / "report.json"
    assert inspect(["episodes", *map(str, arguments), "--json", str(report)]) == 0
    return capsys.readouterr().out.splitlines(), json.loads(report.read_text())


def test_rates_and_the_largest_gap_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missed = [m for m in episode_messages(11) if not (m[0] == WRIST and 4 <= (m[2] - START) // STEP < 7)]
    record(tmp_path / "bags" / "one", missed)
    lines, report = inspected(capsys, tmp_path / "bags")
    row = report["episodes"][0]
    assert row["rates_hz"]["/joint_states"] == pytest.approx(10.0)
    assert row["rates_hz"][WRIST] == pytest.approx(7.0)
    assert row["gaps"]["/camera/image_raw"] == {"largest_s": 0.1, "median_s": 0.1}
    assert row["gaps"][WRIST] == {"largest_s": 0.4, "median_s": 0.1}
    assert "/arm/target_pose" not in row["gaps"]  # commands may pause
    number = next(part for part in lines[2].split(", ") if WRIST in part).split()[-2]
    assert lines[1].endswith(f"0.40 s on {number} (4.0 x)")
    assert "11 (10.0 Hz)" in lines[1]
    assert [row["name"] for row in inspected(capsys, tmp_path / "bags" / "one")[1]["episodes"]] == ["one"]


def test_filters_leave_the_episodes_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bags = tmp_path / "bags"
    mark(record(bags / "a", episode_messages(1)), "success")
    mark(
        record(bags / "b", [("/instruction", text("push the BLUE block"), START), *episode_messages(1)[1:]]), "success"
    )
    record(bags / "c", episode_messages(1))

    def names(*filters: str) -> list[str]:
        return [row["name"] for row in inspected(capsys, bags, *filters)[1]["episodes"]]

    assert names() == ["a", "b", "c"]
    assert names("--outcome", "success") == ["a", "b"]
    assert names("--instruction", "blue") == ["b"]
    assert names("--instruction", "red", "--outcome", "unknown") == ["c"]
    assert names("--outcome", "failure") == []


def test_what_went_wrong_meanwhile_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = EpisodeWriter(tmp_path / "bags" / "one", CONTRACT)
    for topic, kind in topics().items():
        writer.add_topic(topic, kind)
    for topic, data, receive_ns in episode_messages():
        writer.write(topic, data, receive_ns)
    incidents = [{"time_ns": START + i, "text": f"camera 'static' is silent ({i})"} for i in range(9)]
    writer.note("incidents", incidents)
    writer.finish(messages={"/camera/image_raw": {"received": 8, "written": 5, "dropped": 3}})
    lines, report = inspected(capsys, tmp_path / "bags")
    assert [line for line in lines if "silent" in line] == [
        *(f"one: camera 'static' is silent ({i})" for i in range(3)),
        "one: and 6 more incidents, the last: camera 'static' is silent (8) (--json FILE has them all)",
    ]
    assert "one: 3 messages on /camera/image_raw were dropped" in lines
    assert report["episodes"][0]["incidents"] == incidents


def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    record(tmp_path / "bags" / "one", episode_messages(1))
    command = [sys.executable, "-c", "from robovlm_ros.cli.inspect import main; raise SystemExit(main())"]
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has its lines
    done = subprocess.run([*command, "episodes", str(tmp_path / "bags")], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == b""


@pytest.mark.parametrize("joined", [False, True])
def test_contact_sheets_show_the_frames_along_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], joined: bool
) -> None:
    """Each frame has one colour that tells its number."""
    steps = 4 * FRAMES
    sizes = {camera.topic: (camera.height, camera.width, 3) for camera in CONTRACT.cameras}
    painted = []
    for topic, data, receive_ns in episode_messages(steps):
        i = max(0, (receive_ns - START) // STEP)
        pixels = np.full(sizes.get(topic, 1), 5 * i, np.uint8)
        painted.append((topic, image(START + i * STEP, pixels) if topic in sizes else data, receive_ns))
    for name in ("one", "two"):
        record(tmp_path / "bags" / name, painted)
    target = tmp_path / ("sheet.png" if joined else "sheets")
    inspected(capsys, tmp_path / "bags", "--contact-sheet", target)
    sheets = [target] if joined else [target / "one.png", target / "two.png"]
    assert all(sheet.is_file() for sheet in sheets)
    with Image.open(sheets[-1]) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    height = MARGIN + LINE + 2 * (2 * LINE + TILE[1] + MARGIN)
    assert pixels.shape[0] == (2 * height if joined else height)
    middle = pixels.shape[0] - height + MARGIN + 2 * LINE + 30
    shown = [int(pixels[middle, MARGIN + i * (TILE[0] + MARGIN) + 30, 0]) for i in range(FRAMES)]
    assert shown == [5 * i for i in np.linspace(0, steps - 1, FRAMES).round().astype(int)]
