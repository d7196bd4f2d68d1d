"""Shared makers: each test that opens topics gets a domain of its own, on this machine only."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Iterator

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in the background of a script ignores Ctrl-C, and so would every node that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
_CANDIDATES = itertools.count(os.getpid() + 50)  # far from where the tests of other packages begin


def _is_empty(domain: int) -> bool:
    """Whether nobody is in a domain: the first participants of a host have its ports 10, 12, ... (DDSI-RTPS 9.6.1)."""
    for port in range(7400 + 250 * domain + 10, 7400 + 250 * domain + 40, 2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind(("", port))
            except OSError:
                return False
    return True


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test has: whoever holds its lock port owns it, also beside other test runs."""
    for _ in range(100):
        domain = 1 + next(_CANDIDATES) % 100  # above 101 the ports of DDS meet the ephemeral ones
        if not _is_empty(domain):  # a node was left there
            continue
        with socket.socket() as lock:
            try:
                lock.bind(("127.0.0.1", 7400 + 250 * domain + 249))
            except OSError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            yield domain
            return
    pytest.fail("all test domains are taken")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests decode does not stay in the user's cache, and what lies there does not answer for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBOVLM_ROS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
