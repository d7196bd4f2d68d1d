"""Shared makers: each test that opens topics gets a domain of its own, on loopback."""

from __future__ import annotations

import itertools
import os

import pytest

_DOMAINS = itertools.count(1 + os.getpid() % 5 * 40)


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS_DOMAIN_ID that no other test of this run uses; discovery stays on this machine."""
    domain = next(_DOMAINS) % 230 + 1
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return domain
