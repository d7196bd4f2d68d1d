"""What the policy node says of itself: the situation and figures, and topics that carry another type."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from robovlm_ros.contract import Contract
from robovlm_ros.nodes.diagnostics import diagnostics, in_words, wrong_publishers
from robovlm_ros.runtime.control import Controller
from robovlm_ros.statistics import Rate

REPEAT_S = 5.0
"""A situation that lasts is said again after this time [s]."""
DIAGNOSTICS_S = 1.0
"""Period of ``/diagnostics`` [s]."""


class PolicyReport:
    """Log lines and ``/diagnostics`` of one controller."""

    def __init__(self, node: Node, contract: Contract, inputs: list[tuple[str, str, str]]) -> None:
        """`inputs`: name, topic and type of each source."""
        self._node = node
        self._contract = contract
        self._inputs = inputs
        self._frames = {camera.name: camera.frame for camera in contract.cameras if camera.frame}
        self._rates = {name: Rate(time.monotonic_ns()) for name, _, _ in inputs}
        self._said_key, self._said_s, self._figures_s, self._logged_s = "", 0.0, 0.0, time.monotonic()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def heard(self, name: str, frame: str) -> None:
        """A message of that source has come, in that frame. Of a camera it is said once that its frame is not the
        contract's: it may be another camera."""
        self._rates[name].add()
        if name in self._frames and frame != (wanted := self._frames.pop(name)):
            self._node.get_logger().warning(
                f"images of camera '{name}' are in frame '{frame}', the contract says '{wanted}': the right camera?"
            )

    def watch(
        self, controller: Controller, now_ns: int, ages_s: Mapping[str, float], complaint: str | None, period_s: float
    ) -> None:
        """Say what there is to say; `period_s`: see ``statistics_period_s``."""
        now_s, log = time.monotonic(), self._node.get_logger()
        situation = controller.situation(now_ns, ages_s, complaint)
        if situation.key != self._said_key or (not situation.well and now_s - self._said_s > REPEAT_S):
            self._said_key, self._said_s = situation.key, now_s
            if situation.holding:
                log.warning(situation.sentence)
            else:
                log.info(situation.sentence)
        if now_s - self._figures_s < DIAGNOSTICS_S:
            return
        self._figures_s = now_s
        figures = controller.figures(time.monotonic_ns())
        if now_s - self._logged_s >= period_s:
            self._logged_s = now_s
            log.info(in_words(figures))
        self._publisher.publish(
            diagnostics(
                f"{self._node.get_name()}: control",
                self._contract.name,
                well=situation.well,
                sentence=situation.sentence,
                values=figures
                | {f"age of {name}": f"{age:.3f} s" for name, age in ages_s.items()}
                | {f"rate of {name}": f"{rate.read(time.monotonic_ns()):.1f} Hz" for name, rate in self._rates.items()},
                stamp_ns=now_ns,
            )
        )

    def wrong_types(self, ages_s: Mapping[str, float], told: bool) -> str | None:
        """Say which topics carry another type, and so never reach us; one that never carried a good message is
        returned."""
        inputs = [(topic, kind, ages_s[name] < math.inf) for name, topic, kind in self._inputs]
        inputs.append((self._contract.instruction_topic, self._contract.instruction_type, told))
        hopeless = None
        for topic, kind, received in inputs:
            for text in wrong_publishers(self._node, topic, kind):
                if not received:
                    hopeless = text
                self._node.get_logger().error(text, throttle_duration_sec=REPEAT_S)
        return hopeless
