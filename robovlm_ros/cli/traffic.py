"""Synthetic traffic for measurements: cameras and joint states from a process of their own."""

from __future__ import annotations

import heapq
import math
import multiprocessing
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract, StateSource
from robovlm_ros.errors import UserError

JOINTS = tuple(f"joint_{i + 1}" for i in range(7))
FRAMES = 8
"""Different images that each camera sends in turn."""
READY_S = 30.0
"""How long the process may take to start, and to find who listens [s]."""
LATE_S = 0.5
"""A sender that is later than this [s] leaves out what it should have sent: the machine is too slow for the rate."""
KEPT_S = 1.0
"""Messages that the sender keeps for a receiver that is late, being reliable [s]: what is measured is the receiver."""
END_S = 2.0
"""How long the process may take to leave the ROS graph [s]."""
ACKNOWLEDGED_S = 10.0
"""How long the last messages may take to arrive [s]."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is sent."""

    cameras: int = 2
    """Number of cameras, each of raw ``rgb8`` images."""
    width: int = 640
    """Image width [px]."""
    height: int = 480
    """Image height [px]."""
    camera_hz: float = 30.0
    """Images per second of each camera [Hz]; 0: none."""
    joint_hz: float = 500.0
    """Joint states per second [Hz]; 0: none."""

    def contract(self) -> Contract:
        """A robot that has such topics; nobody commands it."""
        sizes = {"width": self.width, "height": self.height}
        joint = {"name": JOINTS[0], "unit": "rad", "limits": [-3.0, 3.0]}
        kind = "sensor_msgs/msg/JointState"
        return Contract.from_dict(
            {
                "name": "synthetic",
                "rate_hz": 10.0,
                "command_rate_hz": 10.0,
                "cameras": {
                    f"camera_{i + 1}": {"topic": f"/synthetic/camera_{i + 1}/image_raw", **sizes}
                    for i in range(self.cameras)
                },
                "state": {"joints": {"topic": "/synthetic/joint_states", "type": kind, "dims": JOINTS, "unit": "rad"}},
                "commands": {"arm": {"topic": "/synthetic/command", "type": kind, "dims": [joint]}},
            }
        )

    def rates(self) -> dict[str, float]:
        """Topic → messages per second [Hz]; without those on which nothing is sent."""
        contract = self.contract()
        rates = {camera.topic: self.camera_hz for camera in contract.cameras}
        rates |= {source.topic: self.joint_hz for source in contract.state}
        return {topic: rate for topic, rate in rates.items() if rate}

    def awaited(self) -> list[str]:
        """Topics to which somebody must listen before anything is sent."""
        return list(self.rates())

    def state_values(self, source: StateSource) -> NDArray[np.float64]:
        """(len(source.dims),) what a state source measures."""
        return np.linspace(-1.0, 1.0, len(source.dims), dtype=np.float64)


@dataclass(frozen=True)
class Sent:
    """What has left."""

    stamps: dict[str, list[int]]
    """Topic → header stamps of its messages, the time at which each was sent [ns]."""
    message_bytes: dict[str, int]
    """Topic → size of one message [bytes]."""
    seconds: float
    """How long it took [s]."""
    cpu_s: float
    """Processor time that the sending process took meanwhile [s]."""


class Sender:
    """The process that sends; it lives as long as the ``with`` block."""

    def __init__(self, traffic: Traffic, *, serialised: bool = True) -> None:
        """The process takes the ROS environment of this one.

        ``serialised``: what it publishes are ready bytes, for the receiver is what is measured; else message objects.
        """
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_send, args=(traffic, serialised, other), name="traffic", daemon=True)

    def __enter__(self) -> Sender:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(END_S)
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float = READY_S, check: Callable[[], None] = lambda: None) -> None:
        """Wait until somebody listens to each topic; UserError if nobody comes.

        ``check`` is called about once a second and may raise.
        """
        end_s = time.monotonic() + seconds
        while not self._pipe.poll(1.0) and time.monotonic() < end_s:
            check()
        self._receive(0.0, "somebody who listens to the synthetic topics")

    def go(self, seconds: float) -> None:
        """Begin to send, for a time [s] or until `end`."""
        self._pipe.send(seconds)

    def end(self, seconds: float = 0.0) -> Sent:
        """Wait until the time is over, or with no ``seconds`` end now; what was sent."""
        if not seconds:
            self._pipe.send(None)
        sent = self._receive(seconds + READY_S, "the end of the synthetic traffic")
        assert isinstance(sent, Sent)
        return sent

    def _receive(self, seconds: float, what: str) -> Any:
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except EOFError as error:
            raise UserError("the process that sends synthetic traffic has ended") from error
        raise UserError(f"{what} did not come within {seconds:.0f} s")


def _send(traffic: Traffic, serialised: bool, pipe: Connection) -> None:
    """The sending process: tells when it is heard, waits for a duration, sends, and tells what it sent."""
    import rclpy
    from rclpy.duration import Duration
    from rclpy.qos import QoSProfile
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("synthetic_robot")
    samples, rates = _samples(traffic), traffic.rates()
    publishers = {
        topic: node.create_publisher(
            type(samples[topic][0]), topic, QoSProfile(depth=max(10, math.ceil(KEPT_S * rate)))
        )
        for topic, rate in rates.items()
    }
    while not all(publishers[topic].get_subscription_count() for topic in traffic.awaited()):
        time.sleep(0.05)
    pipe.send("heard")
    seconds = float(pipe.recv())
    sent = _send_for(seconds, rates, samples, publishers, pipe, serialised=serialised)
    if sent.seconds > seconds - LATE_S:  # otherwise it was told to end: who listens may be gone
        for publisher in publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_S))
    pipe.send(sent)
    node.destroy_node()
    rclpy.try_shutdown()


def _send_for(
    seconds: float,
    rates: dict[str, float],
    samples: dict[str, list[Any]],
    publishers: Any,
    pipe: Connection,
    *,
    serialised: bool,
) -> Sent:
    from rclpy._rclpy_pybind11 import RCLError
    from rclpy.serialization import serialize_message

    ready = {topic: [bytearray(serialize_message(message)) for message in found] for topic, found in samples.items()}
    stamps: dict[str, list[int]] = {topic: [] for topic in rates}
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    due = [(begin_s + i / 1000, topic) for i, topic in enumerate(rates)]
    heapq.heapify(due)
    while due[0][0] < begin_s + seconds:
        due_s, topic = due[0]
        now_s = time.monotonic()
        if pipe.poll(min(max(0.0, due_s - now_s), 0.05)):  # told to end
            break
        if now_s < due_s:
            continue
        heapq.heapreplace(due, ((due_s if now_s < due_s + LATE_S else now_s) + 1 / rates[topic], topic))
        turn = len(stamps[topic]) % len(samples[topic])
        stamp_ns = time.time_ns()
        if serialised:
            struct.pack_into("<iI", ready[topic][turn], 4, *divmod(stamp_ns, 1_000_000_000))
            message: Any = bytes(ready[topic][turn])
        else:
            message = samples[topic][turn]
            messages.set_stamp(message, stamp_ns, "")
        try:
            publishers[topic].publish(message)
        except RCLError:  # whoever listens did not acknowledge for too long: it was not sent
            continue
        stamps[topic].append(stamp_ns)
    sizes = {topic: len(found[0]) for topic, found in ready.items()}
    return Sent(stamps, sizes, time.monotonic() - begin_s, time.process_time() - begin_cpu_s)


def _samples(traffic: Traffic) -> dict[str, list[Any]]:
    """Topic → messages: images of smooth shapes with a camera's noise, and joint states."""
    contract, rates = traffic.contract(), traffic.rates()
    rng = np.random.default_rng(0)
    found: dict[str, list[Any]] = {}
    for camera in contract.cameras:
        if camera.topic not in rates:
            continue
        found[camera.topic] = []
        for _ in range(FRAMES):
            coarse = rng.integers(40, 216, (camera.height // 40 + 1, camera.width // 40 + 1, 3))
            pixels = np.kron(coarse, np.ones((40, 40, 1), int))[: camera.height, : camera.width]
            pixels = (pixels + rng.integers(-2, 3, pixels.shape)).astype(np.uint8)
            image = messages.message_class(camera.type)(height=camera.height, width=camera.width, encoding="rgb8")
            image.step, image.data = camera.width * 3, pixels.tobytes()
            found[camera.topic].append(image)
    for source in contract.state:
        if source.topic in rates:
            state = messages.message_class(source.type)()
            found[source.topic] = [messages.fill_state(state, source, traffic.state_values(source), 1)]
    return found
