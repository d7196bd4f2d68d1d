"""A node that plays a robot, and the recorder as a process of its own: what tests of the recorder share."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from PIL import Image
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robovlm_ros import messages
from robovlm_ros.contract import Contract

CONTRACT = Contract.load("tabletop")
STEP = CONTRACT.step_ns
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=200)


class Robot:
    """A node that plays a robot: it publishes what a contract says and remembers the bytes."""

    def __init__(self, contract: Contract, image_qos: QoSProfile = RELIABLE) -> None:
        self.contract = contract
        self.context = rclpy.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin)
        self.sent: list[tuple[str, bytes]] = []
        self.publishers: dict[str, Any] = {}
        for camera in contract.cameras:
            self.publishers[camera.topic] = self.node.create_publisher(
                messages.message_class(camera.type), camera.topic, image_qos
            )
        for part in (*contract.state, *contract.commands):
            kind = messages.message_class(part.type)
            self.publishers[part.topic] = self.node.create_publisher(kind, part.topic, RELIABLE)
        self.publishers[contract.instruction_topic] = self.node.create_publisher(
            String, contract.instruction_topic, LATCHED
        )
        self.clients = {
            name: self.node.create_client(SetBool if name == "mark" else Trigger, f"/recorder_node/{name}")
            for name in ("start", "stop", "discard", "mark")
        }
        self.thread.start()

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except ExternalShutdownException:
            return

    def close(self) -> None:
        self.executor.shutdown()
        self.thread.join(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait_for_recorder(self) -> None:
        for client in self.clients.values():
            assert client.wait_for_service(timeout_sec=10.0)
        wait_until(lambda: all(p.get_subscription_count() for p in self.publishers.values()), "subscriptions")

    def call(self, name: str, request: Any = None) -> Any:
        future = self.clients[name].call_async(request or Trigger.Request())
        wait_until(future.done, f"answer of {name}")
        return future.result()

    def send(self, topic: str, message: Any) -> None:
        self.sent.append((topic, bytes(serialize_message(message))))
        self.publishers[topic].publish(message)

    def instruct(self, text: str) -> None:
        self.send(self.contract.instruction_topic, String(data=text))

    def step(self, stamp: int, i: int, but: tuple[str, ...] = ()) -> list[Callable[[], None]]:
        """Functions that send one step, states before images before commands."""
        found: list[tuple[str, Any]] = []
        for source in self.contract.state:
            message = messages.message_class(source.type)()
            found.append((source.topic, messages.fill_state(message, source, np.arange(len(source.dims)) + i, stamp)))
        for k, camera in enumerate(self.contract.cameras):
            found.append((camera.topic, picture(camera.type, camera.width, camera.height, k, i, stamp)))
        for command in self.contract.commands:
            message = messages.message_class(command.type)()
            values = np.full(len(command.dims), i % 2)
            found.append((command.topic, messages.fill_command(message, command, values, stamp, STEP)))
        return [lambda t=t, m=m: self.send(t, m) for t, m in found if t not in but]


def picture(kind: str, width: int, height: int, camera: int, i: int, stamp: int) -> Any:
    rows = np.random.default_rng([camera, i]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = np.kron(rows, np.ones((height // 4, width // 4, 1), np.uint8))
    message = messages.message_class(kind)()
    messages.set_stamp(message, stamp, "camera")
    if kind == "sensor_msgs/msg/Image":
        message.height, message.width, message.step, message.encoding = height, width, width * 3, "bgr8"
        message.data = pixels.tobytes()
    else:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        message.format, message.data = "jpeg", stream.getvalue()
    return message


def end_spinning(executor: Any, thread: threading.Thread) -> None:
    """End what spins in this process, with all of its nodes: until they are destroyed they are in the domain."""
    nodes = executor.get_nodes()
    executor.shutdown()
    rclpy.try_shutdown()
    thread.join(10.0)
    for node in nodes:
        node.destroy_node()


def wait_until(done: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def start_recorder(directory: Path, *parameters: str, **options: Any) -> subprocess.Popen[str]:
    arguments = [item for text in (f"directory:={directory}", *parameters) for item in ("-p", text)]
    return subprocess.Popen(
        [sys.executable, "-m", "robovlm_ros.nodes.recorder_node", "--ros-args", *arguments],
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> str:
    process.send_signal(how)
    output, _ = process.communicate(timeout=15)
    assert "Traceback" not in output, output
    return output
