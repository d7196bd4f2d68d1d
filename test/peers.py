"""A program that speaks ROS 2 by an implementation of DDS that is not ours: RustDDS, by dora's ROS 2 bridge."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["builtin_interfaces", "std_msgs", "geometry_msgs", "sensor_msgs", "trajectory_msgs"]
if importlib.util.find_spec("control_msgs") is not None:
    PACKAGES.append("control_msgs")


def start_peer(program: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run Python text whose first argument is the folder of message definitions; skips the test without dora."""
    pytest.importorskip("dora", reason="the independent peer needs dora-rs")
    pytest.importorskip("pyarrow", reason="the independent peer needs pyarrow")
    prefix, path = folder / "prefix", folder / "peer.py"
    link_definitions(prefix)
    path.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(path), str(prefix), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def link_definitions(prefix: Path) -> None:
    """The message definitions of this ROS environment, where the peer looks for them."""
    from ament_index_python.packages import get_package_share_directory

    (prefix / "share").mkdir(parents=True)
    for package in PACKAGES:
        (prefix / "share" / package).symlink_to(get_package_share_directory(package))


def let_them_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer finds others by multicast only, so this test does too; Cyclone stays on the loopback interface."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv(
        "CYCLONEDDS_URI",
        "<General><Interfaces><NetworkInterface name='lo' multicast='true'/></Interfaces></General>",
    )
