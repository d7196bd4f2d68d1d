"""What the recorder subscribes to: raw, with the quality of service that the publishers offer.

The subscriptions belong to a node of their own with an executor of one thread. An executor of several threads hands
each message to another thread and back, which on a busy machine takes longer than the message does, and serves the
first of an exclusive group's topics again before the last one's turn comes: a busy camera would starve joint states.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from robovlm_ros import messages
from robovlm_ros.bags import INTERVENTION_TYPE, OfferedQos, Watch
from robovlm_ros.bags.watch import BEHIND_NS
from robovlm_ros.contract import CAMERA_TYPES, Camera, Command, Contract, StateSource
from robovlm_ros.nodes.diagnostics import wrong_publishers
from robovlm_ros.nodes.entry import END_SECONDS
from robovlm_ros.nodes.instruction import hear_instructions

DEPTH, IMAGE_DEPTH = 2000, 100
"""Messages of a topic that may wait for this node: 4 s of joint states at 500 Hz, 3 s of images at 30 Hz."""
LOOK_S, QUIET_LOOKS, MOST_LOOKS = 0.005, 4, 40
"""Whether messages still arrive is looked for this often [s]: when four looks in a row saw none, those that were sent
before have been taken; where they never cease, 40 looks are enough. Counted, because on a busy machine time passes
without anybody getting on.
"""
LATE_LOOK_S, MOST_LATE_LOOKS = 0.1, 50
"""The same where messages are known to wait [s]."""


class RecordedTopics:
    """Calls ``take(topic, data, receive_ns)`` for each message of a contract's topics and of some others.

    With its CDR bytes and when it was received [ns], from a thread of its own. An error there ends the process:
    ``owner`` gets it as its ``failure``.
    """

    def __init__(
        self, owner: Any, contract: Contract, extra_topics: Sequence[str], take: Callable[[str, bytes, int], None]
    ) -> None:
        name = f"{owner.get_name()}_topics"
        self._owner, self._contract, self._receive = owner, contract, take
        self._node = Node(
            name,
            context=owner.context,
            cli_args=["--ros-args", "-r", f"__node:={name}"],  # a name given to the process is the owner's
            parameter_overrides=[Parameter("use_sim_time", value=owner.get_parameter("use_sim_time").value)],
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._thread = threading.Thread(target=self._spin, name="topics", daemon=True)
        self._arrived = 0
        self._extra_topics = {topic for topic in extra_topics if topic}
        self._complaints: set[str] = set()
        self._subscribed: dict[str, tuple[str, QoSProfile, Any]] = {}
        parts: list[Camera | StateSource | Command] = [*contract.cameras, *contract.state, *contract.commands]
        for part in parts:
            self._subscribe(part.topic, part.type, _qos(True, False))
        self._subscribe(contract.intervention_topic, INTERVENTION_TYPE, _qos(True, True))
        self._open_instruction()
        self._executor.add_node(self._node)
        self._thread.start()

    def close(self) -> None:
        """Take no more messages."""
        self._executor.shutdown(timeout_sec=END_SECONDS)
        self._thread.join(END_SECONDS)
        self._node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:
            if not self._owner.context.ok():
                return  # rclpy raises RCLError when the context ends while it prepares to wait
            self._owner.get_logger().error(traceback.format_exc())
            self._owner.failure = f"receiving failed: {error}"
            self._owner.context.try_shutdown()

    def __iter__(self) -> Iterator[tuple[str, str, OfferedQos]]:
        """(topic, type, quality of service to say in a bag) of all that is subscribed to."""
        for topic, (kind, qos, _) in list(self._subscribed.items()):
            yield topic, kind, _as_offered(qos)
        latched = OfferedQos(transient_local=True, depth=1)
        yield self._contract.instruction_topic, self._contract.instruction_type, latched

    def look_around(self) -> None:
        """Match the quality of service of the publishers, find the extra topics, complain of wrong types."""
        missing = self._extra_topics - set(self._subscribed)
        for topic, kinds in self._node.get_topic_names_and_types() if missing else ():
            if topic in missing and len(kinds) == 1:
                self._subscribe(topic, kinds[0], _qos(*self._offered(topic)))
        for topic, (kind, qos, _) in list(self._subscribed.items()):
            reliable, latched = self._offered(topic)
            # A driver that starts anew finds the subscription that it had: no message is lost to looking again.
            if reliable != (qos.reliability == ReliabilityPolicy.RELIABLE) and self._node.count_publishers(topic):
                self._subscribe(topic, kind, _qos(reliable, latched))
            for complaint in wrong_publishers(self._node, topic, kind):
                if complaint not in self._complaints:
                    self._complaints.add(complaint)
                    self._owner.get_logger().error(complaint)

    def settle(self) -> None:
        """Wait until the messages that were sent before this call have been taken, where this machine keeps up."""
        self._wait(LOOK_S, MOST_LOOKS, lambda: True)

    def catch_up(self, watch: Watch) -> None:
        """Where it does not: wait until those that were sent about now are taken, or no more come."""
        self._wait(LATE_LOOK_S, MOST_LATE_LOOKS, lambda: watch.behind_ns() > BEHIND_NS)

    def _wait(self, look_s: float, most: int, wanted: Callable[[], bool]) -> None:
        looks = quiet = 0
        while quiet < QUIET_LOOKS and looks < most and wanted():
            seen = self._arrived
            time.sleep(look_s)
            looks, quiet = looks + 1, quiet + 1 if self._arrived == seen else 0

    def _take(self, topic: str, data: bytes) -> None:
        self._arrived += 1
        self._receive(topic, data, int(self._node.get_clock().now().nanoseconds))

    def _subscribe(self, topic: str, kind: str, qos: QoSProfile) -> None:
        def receive(data: bytes) -> None:
            self._take(topic, data)

        qos.depth = IMAGE_DEPTH if kind in CAMERA_TYPES else DEPTH
        subscription = self._node.create_subscription(messages.message_class(kind), topic, receive, qos, raw=True)
        old = self._subscribed.get(topic)
        self._subscribed[topic] = (kind, qos, subscription)
        if old is not None:
            self._node.destroy_subscription(old[2])

    def _open_instruction(self) -> None:
        unmatched: dict[bool, deque[bytes]] = {True: deque(maxlen=16), False: deque(maxlen=16)}

        def receive(data: bytes, latched: bool) -> None:
            # Without the last bytes, which may be padding: then DDS leaves whatever was in memory there.
            text = data[:8] + data[8:].partition(b"\0")[0]
            if text in unmatched[not latched]:  # it came through both subscriptions: it counts once
                unmatched[not latched].remove(text)
                return
            unmatched[latched].append(text)
            self._take(self._contract.instruction_topic, data)

        hear_instructions(self._node, self._contract, receive, depth=IMAGE_DEPTH, raw=True)

    def _offered(self, topic: str) -> tuple[bool, bool]:
        """(reliable, transient local) as far as all publishers of a topic offer it; they match such a subscription."""
        profiles = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
        return (
            all(profile.reliability != ReliabilityPolicy.BEST_EFFORT for profile in profiles),
            bool(profiles) and all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles),
        )


def _qos(reliable: bool, latched: bool) -> QoSProfile:
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _as_offered(qos: QoSProfile) -> OfferedQos:
    return OfferedQos(
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        transient_local=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )
