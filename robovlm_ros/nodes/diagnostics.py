"""What a node says about itself, on ``/diagnostics`` and in its log, and about its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from robovlm_ros.messages import set_stamp


def diagnostics(
    name: str,
    hardware: str,
    *,
    well: bool,
    sentence: str,
    values: Mapping[str, str],
    stamp_ns: int,
    failed: bool = False,
) -> DiagnosticArray:
    """One status under `name` for the robot `hardware`, with its figures: OK if `well`, an error if it has `failed`
    and cannot go on, else a warning.
    """
    status = DiagnosticStatus(name=name, hardware_id=hardware, message=sentence)
    unwell = DiagnosticStatus.ERROR if failed else DiagnosticStatus.WARN
    status.level = DiagnosticStatus.OK if well else unwell
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    array = DiagnosticArray(status=[status])
    set_stamp(array, stamp_ns)
    return array


def in_words(values: Mapping[str, str]) -> str:
    """Figures as one line of a log."""
    return "; ".join(f"{name} {value}" for name, value in values.items())


def wrong_publishers(node: Node, topic: str, type_name: str) -> list[str]:
    """A sentence for each publisher whose messages on this topic have another type, and so never arrive."""
    return [
        f"topic {topic} carries {info.topic_type} (from {info.node_name}), the contract says {type_name}"
        for info in node.get_publishers_info_by_topic(topic)
        if info.topic_type != type_name
    ]
