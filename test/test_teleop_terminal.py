"""Keys of a real (pseudo-)terminal: they move the arm, and the terminal is given back however the node ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robovlm_ros.bags import list_episodes, read_episode
from robovlm_ros.cli.session import Session
from robovlm_ros.contract import Contract
from robovlm_ros.keyboard import ASK, DISABLE, ENABLE

CONTRACT = Contract.load("tabletop")
SCRIPTS = Path(sys.executable).parent


class Screen:
    """A terminal in which a command runs; `modern`: it reports releases of keys."""

    def __init__(self, command: list[str], *, modern: bool = False) -> None:
        self._modern = modern
        self._outside, self._inside = pty.openpty()
        self.begin = termios.tcgetattr(self._inside)
        self.shown = b""
        self.process = subprocess.Popen(
            command,
            stdin=self._inside,
            stdout=self._inside,
            stderr=self._inside,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
            env={**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
        )
        self._thread = threading.Thread(target=self._show)
        self._thread.start()

    def _show(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while data := os.read(self._outside, 4096):
                self.shown += data
                if self._modern and ASK in data:
                    self.type(b"\x1b[?0u")

    def type(self, keys: bytes) -> None:
        os.write(self._outside, keys)

    @property
    def restored(self) -> bool:
        return bool(termios.tcgetattr(self._inside) == self.begin)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10.0)
        os.close(self._inside)
        self._thread.join(10.0)
        os.close(self._outside)


@pytest.fixture
def screens(domain_id: int) -> Iterator[Callable[..., Screen]]:
    """A maker of terminals that are closed afterwards."""
    made: list[Screen] = []

    def make(*arguments: Any, **options: Any) -> Screen:
        made.append(Screen(*arguments, **options))
        return made[-1]

    yield make
    for screen in made:
        screen.close()


def wait(done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("end", "modern"),
    [
        ("Ctrl-C", True),
        (signal.SIGKILL, True),
        pytest.param("Ctrl-C", False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_the_terminal_is_given_back_however_the_node_ends(
    screens: Callable[..., Screen], end: str | signal.Signals, modern: bool
) -> None:
    screen = screens([sys.executable, "-m", "robovlm_ros.nodes.teleop_node"], modern=modern)
    wait(lambda: b"you command the robot" in screen.shown and (not modern or ENABLE in screen.shown), "the start")
    assert not screen.restored
    if isinstance(end, signal.Signals):
        screen.process.send_signal(end)
    else:
        screen.type(b"\x1b[99;5u" if modern else b"\x03")
    expected = -end if end == signal.SIGKILL else 0
    assert screen.process.wait(20.0) == expected, screen.shown.decode()
    wait(lambda: screen.restored and (not modern or DISABLE in screen.shown), "giving it back", 5.0)
    assert b"Traceback" not in screen.shown


@pytest.mark.slow
def test_with_one_launch_keys_move_the_simulated_arm_and_an_episode_is_recorded(
    screens: Callable[..., Screen], tmp_path: Path
) -> None:
    arguments = ["instruction:=reach the red block", f"directory:={tmp_path}", "operator:=ada"]
    screen = screens([str(SCRIPTS / "ros2"), "launch", "robovlm_ros", "teleop.launch.py", *arguments])
    with Session(CONTRACT, "watch") as session:
        session.wait(lambda: b"you command the robot" in screen.shown and session.time_ns > 0, 60.0, "the launch")
        session.wait(lambda: len(session.poses) > 20, 20.0, "the simulator")
        screen.type(b"1")
        session.wait(lambda: b"begin an episode: " in screen.shown, 10.0, "the recorder")
        begin = session.poses[-1][1]
        for _ in range(30):
            screen.type(b"W")
            session.spin(0.033)
        session.spin(0.5)
        moved = session.poses[-1][1] - begin
        assert moved[0] > 0.1
        np.testing.assert_allclose(moved[1:], 0.0, atol=0.01)
        screen.type(b"2")
        session.wait(lambda: b"end the episode as a success: " in screen.shown, 10.0, "the episode")
    episode = read_episode(list_episodes(tmp_path)[0])
    assert (episode.operator, episode.instruction, episode.outcome) == ("ada", "reach the red block", "success")
    assert episode.counts[CONTRACT.commands[0].topic] > 20
    screen.type(b"\x03")
    assert screen.process.wait(30.0) == 0, screen.shown.decode()
    wait(lambda: screen.restored, "giving the terminal back", 5.0)
    assert screen.shown.count(b"process has finished cleanly") == 3
