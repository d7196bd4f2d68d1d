"""The recorder by itself: episodes that begin and end on their own, and trouble that it says at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray

from robovlm_ros import messages
from robovlm_ros.bags import list_episodes, list_unfinished, read_episode

from .robots import CONTRACT, Robot, end, start_recorder, wait_until

ROOT = Path(__file__).resolve().parent.parent
WRIST = CONTRACT.cameras[1].topic


def run(*command: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Busy:
    """Has the robot send a step every 50 ms until the end of the block; what it leaves out can change meanwhile."""

    def __init__(self, robot: Robot) -> None:
        self.robot, self.but = robot, ()
        self.steps = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self._over.wait(0.05):
            for act in self.robot.step(time.time_ns(), self.steps, but=self.but):
                act()
            self.steps += 1

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_number_of_episodes_of_a_fixed_length_records_itself(domain_id: int, tmp_path: Path) -> None:
    robot = Robot(CONTRACT)
    recorder = start_recorder(tmp_path, "episodes:=2", "episode_seconds:=0.6", "reset_seconds:=0.2")
    try:
        with Busy(robot):
            output, _ = recorder.communicate(timeout=40)
    finally:
        robot.close()
        recorder.kill()
    assert recorder.returncode == 0, output
    assert "all 2 episodes are recorded" in output
    episodes = [read_episode(path) for path in list_episodes(tmp_path)]
    assert len(episodes) == 2
    for episode in episodes:
        assert 0.3 < episode.duration_s < 3.0
        assert sum(1 for _ in episode.messages()) > 10


def test_trouble_is_said_at_once_on_diagnostics_and_kept_with_the_episode(domain_id: int, tmp_path: Path) -> None:
    robot = Robot(CONTRACT)
    heard: list[tuple[bytes, str]] = []
    robot.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: heard.extend((s.level, s.message) for s in m.status), 10
    )
    recorder = start_recorder(tmp_path)
    try:
        robot.wait_for_recorder()
        with Busy(robot) as busy:
            wait_until(lambda: busy.steps > 5, "the first steps")
            path = Path(robot.call("start").message)
            wait_until(lambda: any("records episode_" in text for _, text in heard), "diagnostics")
            busy.but = (WRIST,)
            wait_until(lambda: any("camera 'wrist'" in text and "silent" in text for _, text in heard), "silence")
            busy.but = ()
            wait_until(lambda: any("is back" in text for _, text in heard), "its return")
            small = messages.message_class(CONTRACT.cameras[1].type)(height=2, width=3, step=9, encoding="rgb8")
            small.data = np.zeros(18, np.uint8).tobytes()
            messages.set_stamp(small, time.time_ns())
            robot.send(WRIST, small)
            wait_until(lambda: any("3x2, not of 64x64" in text for _, text in heard), "another size")
            wait_until(lambda: any("64x64 again" in text for _, text in heard), "the right size")
        robot.call("stop")
    finally:
        robot.close()
        output = end(recorder)
    assert {level for level, text in heard if text.startswith("records ")} == {b"\0"}
    assert {level for level, text in heard if "3x2" in text} == {b"\1"}
    said = [text for _, text in read_episode(path).incidents]
    for part in ("camera 'wrist' (/wrist_camera/image_raw) is silent", "is back", "3x2, not of 64x64", "64x64 again"):
        assert sum(part in text for text in said) == 1, said
        assert part in output


def test_an_episode_ends_before_the_disk_is_full_and_none_begins_then(domain_id: int, tmp_path: Path) -> None:
    robot = Robot(CONTRACT)
    recorder = start_recorder(tmp_path, "min_free_mb:=1000000")
    try:
        robot.wait_for_recorder()
        response = robot.call("start")
        assert not response.success
        assert "MB left, below min_free_mb (1000000)" in response.message
    finally:
        robot.close()
        end(recorder)
    assert list_unfinished(tmp_path) == []


def test_a_killed_recorder_leaves_finished_episodes_whole_and_one_that_can_be_repaired(
    domain_id: int, tmp_path: Path
) -> None:
    """The script that kills a hundred times, at two moments that are known to be within an episode."""
    report = tmp_path / "report.json"
    options = [
        *("--kills", "2", "--seed", "5", "--longest", "3"),
        *("--width", "64", "--height", "48"),
        "--joint-hz=100",
    ]
    run(ROOT / "tools" / "kill_recorder.py", *options, "--json", report)
    result = json.loads(report.read_text())
    assert result["kills"] == 2
    assert result["recovered"] + result["empty"] + result["finished"] > 0
    assert (result["unreadable"], result["gone"], result["missing_messages"], result["over_1_s"]) == (0, 0, 0, 0)


def test_the_benchmark_finds_every_message_that_was_sent(domain_id: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--seconds", "2", "--search-seconds", "0", "--camera-hz", "5", "--joint-hz", "50", "--width", "64"]
    run("-m", "robovlm_ros.cli.benchmark", "record", *options, "--directory", tmp_path, "--json", report)
    result = json.loads(report.read_text())
    assert result["sent"] == pytest.approx(2 * (2 * 5 + 50), abs=3)
    assert result["sent"] == result["received"] == result["written"]
    assert result["dropped"] == 0
    assert result["mb_per_s"] == pytest.approx(2 * 5 * 64 * 480 * 3 / 1e6, rel=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_transport_benchmark_receives_what_was_sent_as_objects(domain_id: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--seconds", "1", "--width", "64", "--height", "48"]
    run("-m", "robovlm_ros.cli.benchmark", "transport", *options, "--json", report)
    rows = json.loads(report.read_text())["rows"]
    assert [(row["type"].split("/")[-1], row["hz"]) for row in rows] == [
        ("Image", 30), ("Image", 100), ("JointState", 1000)
    ]  # fmt: skip
    for row in rows:
        assert row["sent"] == row["received"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["worst_ms"]
        assert row["cpu_percent"] > 0
    assert rows[0]["message_bytes"] > 64 * 48 * 3
    assert rows[0]["copies"] >= 1  # the object itself, at least
