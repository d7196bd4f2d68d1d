"""``benchmark transport``: what topics cost between two processes, with ordinary nodes on either side."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np

from robovlm_ros import messages
from robovlm_ros.cli.command import Commands, HelpFormatter, write_json
from robovlm_ros.cli.traffic import Sender, Sent, Traffic
from robovlm_ros.contract import Camera
from robovlm_ros.errors import UserError

RATES = ((30.0, 0.0), (100.0, 0.0), (0.0, 1000.0))
"""What is sent in each row: images of one camera, or joint states [Hz]."""
TRACED_S = 1.0
"""How long messages arrive while the allocations of Python are traced [s]."""
SETTLE_S = 0.5
"""How long late messages are waited for [s]."""
STARTS = 3
"""How often a process with a node is started; the median counts."""
_NODE = """
import sys, time
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
rclpy.create_node("starting").create_subscription(Image, "image", print, 10)
print(time.process_time(), "torch" in sys.modules, flush=True)
sys.stdin.read()
"""


def add_command(commands: Commands) -> None:
    """Add ``transport`` to the things that `benchmark` measures."""
    transport = commands.add_parser(
        "transport",
        help="topics between two processes: messages lost, latency, processor time",
        description="One process publishes message objects at a fixed rate; a node in this one receives them as "
        "objects in a callback. Latency is from the stamp, set just before publish, to the callback. The processor "
        "time is that of both processes together; 100 % is one core. Copies are the bytes that Python holds at most "
        "when images arrive, and when they are decoded besides, as multiples of one image; what the middleware holds "
        "is not seen.",
        formatter_class=HelpFormatter,
    )
    transport.add_argument("--seconds", type=float, default=10.0, help="duration of each row [s]")
    transport.add_argument("--width", type=int, default=640, help="image width [px]")
    transport.add_argument("--height", type=int, default=480, help="image height [px]")
    transport.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    transport.set_defaults(command=_transport)


def _transport(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.session import local_environment

    for name in ("seconds", "width", "height"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name} must be above 0, not {getattr(options, name)}")
    os.environ.update(local_environment())
    rows = []
    print("type                            hz    sent received     p50     p99      CPU copies decoded")
    for camera_hz, joint_hz in RATES:
        traffic = Traffic(cameras=1, width=options.width, height=options.height, camera_hz=camera_hz, joint_hz=joint_hz)
        rows.append(measure(traffic, options.seconds))
        row = rows[-1]
        copies = "" if row["copies"] is None else f"{row['copies']:6.2f} {row['copies_decoded']:7.2f}"
        print(
            f"{row['type']:27s} {row['hz']:6g} {row['sent']:7d} {row['received']:8d} {row['p50_ms']:4.2f} ms "
            f"{row['p99_ms']:4.2f} ms {row['cpu_percent']:6.1f} % {copies}",
            flush=True,
        )
    start = start_of_a_node()
    print(f"a process with a node and a subscription starts in {start['wall_s']:.2f} s ({start['cpu_s']:.2f} s of CPU)")
    write_json(options.json, {"seconds": options.seconds, "cores": os.cpu_count(), "rows": rows, "start": start})
    return 0


def measure(traffic: Traffic, seconds: float) -> dict[str, Any]:
    """Send one kind of message for a while, and receive it in a node of this process; a row of the result."""
    contract = traffic.contract()
    (topic, hz), *more = traffic.rates().items()
    if more:
        raise ValueError("one kind of message at a time")
    types = {camera.topic: camera.type for camera in contract.cameras}
    types |= {source.topic: source.type for source in contract.state}
    with Receiver(topic, types[topic]) as receiver, Sender(traffic, serialised=False) as sender:
        sender.wait()
        latencies, sent, cpu_s = receiver.during(sender, seconds)
    copies = decoded = None
    if traffic.camera_hz:  # of a message of some bytes it says nothing
        with (
            Receiver(topic, types[topic], trace=contract.cameras[0]) as receiver,
            Sender(traffic, serialised=False) as sender,
        ):
            sender.wait()
            receiver.during(sender, TRACED_S)
            copies, decoded = (
                held / sent.message_bytes[topic] for held in (receiver.held_bytes, receiver.decoded_bytes)
            )
    if not latencies:
        raise UserError(f"none of {len(sent.stamps[topic])} messages on {topic} arrived")
    milliseconds = np.array(latencies) / 1e6
    return {
        "type": types[topic],
        "hz": hz,
        "message_bytes": sent.message_bytes[topic],
        "sent": len(sent.stamps[topic]),
        "received": len(latencies),
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "worst_ms": float(milliseconds.max()),
        "cpu_percent": 100.0 * (cpu_s + sent.cpu_s) / sent.seconds,
        "copies": copies,
        "copies_decoded": decoded,
    }


def start_of_a_node() -> dict[str, Any]:
    """How long a new Python process takes until it has a node with a subscription; whether it has imported torch."""
    walls, cpus, torch = [], [], False
    for _ in range(STARTS):
        begin_s = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", _NODE], stdin=PIPE, stdout=PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            walls.append(time.perf_counter() - begin_s)
        if len(line) != 2:
            raise UserError("a process with a node did not start; its own lines are above")
        cpus.append(float(line[0]))
        torch |= line[1] == "True"
    return {"wall_s": float(np.median(walls)), "cpu_s": float(np.median(cpus)), "torch_imported": torch}


class Receiver:
    """A node that takes the time at which each message comes."""

    def __init__(self, topic: str, kind: str, *, trace: Camera | None = None) -> None:
        """``trace``: measure what Python holds while a message of this camera arrives and is decoded, as in the policy
        node; that takes time of its own."""
        self._topic, self._kind, self._trace = topic, kind, trace
        self._latencies: list[int] = []  # [ns]
        self._before = 0
        self.held_bytes = 0
        """Most that Python held at once when messages arrived."""
        self.decoded_bytes = 0
        """The same with what decoding them takes."""

    def __enter__(self) -> Receiver:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = rclpy.create_node("receiver", context=self._context)
        kind = messages.message_class(self._kind)
        self._node.create_subscription(kind, self._topic, self._receive, QoSProfile(depth=1000))
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, name="receiver")
        self._thread.start()
        if self._trace:
            tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def during(self, sender: Sender, seconds: float) -> tuple[list[int], Sent, float]:
        """Latencies [ns] of what the sender sends in that time, what it sent, and the processor time here [s]."""
        self._before = tracemalloc.get_traced_memory()[0]
        begin_s = time.process_time()
        sender.go(seconds)
        sent = sender.end(seconds)
        time.sleep(SETTLE_S)
        return self._latencies, sent, time.process_time() - begin_s

    def _receive(self, message: Any) -> None:
        stamp_ns = messages.stamp_ns(message)
        assert stamp_ns is not None
        self._latencies.append(time.time_ns() - stamp_ns)
        if self._trace:
            self.held_bytes = tracemalloc.get_traced_memory()[1] - self._before
            messages.image(message, self._trace)
            self.decoded_bytes = tracemalloc.get_traced_memory()[1] - self._before
            tracemalloc.reset_peak()
