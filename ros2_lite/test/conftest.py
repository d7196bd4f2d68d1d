"""Fixtures: every test that opens topics gets a domain of its own, on the loopback interface."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("ros2_lite") is None:  # `colcon test` in a ROS 2 workspace, which has no need of it
    collect_ignore_glob = ["test_*.py"]

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
for _name in ("CYCLONEDDS_URI", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS"):
    os.environ.pop(_name, None)
# A job in the background of a script, or under nohup, ignores these, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
_candidates = itertools.count(os.getpid())
_failed = pytest.StashKey[bool]()


def _is_empty(domain: int) -> bool:
    """Whether nobody is in a domain: the first participants of a host have its ports 10, 12, ... (DDSI-RTPS 9.6.1)."""
    for port in range(7400 + 250 * domain + 10, 7400 + 250 * domain + 40, 2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind(("", port))
            except OSError:
                return False
    return True


def reserve_domain() -> tuple[int, socket.socket]:
    """A domain that no other test uses: whoever binds its lock port owns it.

    Not the previous test's either: a process that was killed there stays visible until its lease of 10 s is over. And
    none where a node was left, be it in this process: it would keep its own settings and talk to ours.
    """
    for _ in range(100):
        domain = 1 + next(_candidates) % 100
        if not _is_empty(domain):
            continue
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            lock.bind(("127.0.0.1", 7400 + 250 * domain + 249))
        except OSError:
            lock.close()
            continue
        return domain, lock
    raise RuntimeError("all test domains are taken")


def tagged(domain: int) -> str:
    """CYCLONEDDS_URI with a tag that keeps out even those who happen to use the same domain."""
    tag = f"<Discovery><Tag>ros2_lite_test_{os.getpid()}_{domain}</Tag></Discovery>"
    return f"<CycloneDDS><Domain>{tag}</Domain></CycloneDDS>"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[int]:
    """A domain for this test alone, set as ROS_DOMAIN_ID."""
    domain, lock = reserve_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("CYCLONEDDS_URI", tagged(domain))
    yield domain
    lock.close()
    if not request.node.stash[_failed]:  # its report would keep what it had
        _expect_left(domain)


def _expect_left(domain: int) -> None:
    """Fail the test that keeps a node in its domain: the next tests there would hear it."""
    from ros2_lite.dds.domain import _domains

    if domain in _domains:
        gc.collect()  # frees what the test has no name for any more
        end = time.monotonic() + 10.0
        while domain in _domains and time.monotonic() < end:
            time.sleep(0.01)
    assert domain not in _domains, "the test left a node or a context behind"


@pytest.fixture(scope="module")
def module_domain() -> Iterator[dict[str, str]]:
    """A domain for all tests of a module, as environment variables for its processes."""
    domain, lock = reserve_domain()
    yield {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "CYCLONEDDS_URI": tagged(domain),
    }
    lock.close()


@pytest.fixture
def ros(domain_id: int) -> Iterator[int]:
    """rclpy running in a domain of its own."""
    import rclpy

    rclpy.init(args=[])
    yield domain_id
    rclpy.try_shutdown()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program, given as text, in a process of its own; ends it with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        path = tmp_path / f"program{len(running)}.py"
        path.write_text(textwrap.dedent(text))
        process = subprocess.Popen(
            [sys.executable, "-u", str(path), *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
