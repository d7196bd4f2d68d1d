"""Nodes that keep to this host listen where ROS 2's own nodes of this host announce themselves."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from ros2_lite.dds import domain


def test_with_static_peers_a_node_of_this_host_is_announced_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback cannot be listened on then: the peers would take its address for one of theirs.
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.0.2.1")
    monkeypatch.delenv("CYCLONEDDS_URI", raising=False)
    discovery = ElementTree.fromstring(domain.discovery_config(networked=True)).find("Domain/Discovery")
    assert discovery is not None
    assert discovery.findtext("SPDPInterval") == "2s"
    assert [peer.get("address") for peer in discovery.iter("Peer")] == ["localhost", "192.0.2.1"]


def test_loopback_is_listened_on_beside_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, domain_id: int
) -> None:
    # rmw_cyclonedds_cpp of Jazzy announces to 127.0.0.1, and Cyclone drops what comes by an interface it does not use.
    if not domain._networked():
        pytest.skip("no network beside loopback here: Cyclone listens on loopback anyway")
    trace = tmp_path / "trace.txt"
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv(
        "CYCLONEDDS_URI", f"<Tracing><Category>config</Category><OutputFile>{trace}</OutputFile></Tracing>"
    )
    context = Context()
    rclpy.init(args=[], context=context)
    Node("local", context=context).destroy_node()
    context.shutdown()
    chosen = next(line for line in trace.read_text().splitlines() if "selected interfaces:" in line)
    assert " lo " in chosen
    assert "," in chosen.split("selected interfaces:")[1]
