"""What a long life leaves behind: nothing. And what a short one costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

IMAGES = """
import json, sys, threading
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

total = int(sys.argv[1])
rclpy.init()
node = rclpy.create_node("images")
publisher = node.create_publisher(Image, "image", QoSProfile(depth=10))
image = Image(height=120, width=160, encoding="rgb8", step=480, data=bytes(range(256)) * 225)
received, resident = 0, {}

def receive(message):
    global received
    received += 1
    assert len(message.data) == 57600
    if received in (total // 10, total):
        resident[received] = resident_mb()
    if received < total:
        publisher.publish(image)

node.create_subscription(Image, "image", receive, QoSProfile(depth=10))
executor = SingleThreadedExecutor()
executor.add_node(node)
while not publisher.get_subscription_count():
    executor.spin_once(timeout_sec=0.05)
publisher.publish(image)
while received < total:
    executor.spin_once(timeout_sec=5.0)
print(json.dumps(list(resident.values())))
node.destroy_node()
rclpy.shutdown()
"""

CYCLES = """
import json, os, sys, threading
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

def used():
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return resident / 1024, len(os.listdir("/proc/self/fd")), threading.active_count()

rclpy.init()
executor = SingleThreadedExecutor()
figures = []
for cycle in range(1, int(sys.argv[1]) + 1):
    node = rclpy.create_node("cycle", use_global_arguments=False)
    publisher = node.create_publisher(String, "words", 10)
    node.create_subscription(String, "words", lambda message: None, 10)
    node.create_service(Trigger, "trigger", lambda request, response: response)
    node.create_client(Trigger, "trigger")
    timer = node.create_timer(0.001, lambda: publisher.publish(String(data="word")))
    executor.add_node(node)
    executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    node.destroy_node()
    if cycle in (int(sys.argv[1]) // 5, int(sys.argv[1])):
        figures.append(used())
print(json.dumps(figures))
rclpy.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_stays_flat_over_100_000_images(domain_id: int, program: Callable[..., Any]) -> None:
    process = program(IMAGES, "100000")
    output, errors = process.communicate(timeout=580)
    assert process.returncode == 0, errors
    early_mb, late_mb = json.loads(output)
    assert late_mb - early_mb < 1.0  # 90,000 images of 57,600 bytes later


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_500_nodes_made_and_destroyed_leave_no_memory_file_or_thread(
    domain_id: int, program: Callable[..., Any]
) -> None:
    process = program(CYCLES, "500")
    output, errors = process.communicate(timeout=580)
    assert process.returncode == 0, errors
    (early_mb, early_files, early_threads), (late_mb, late_files, late_threads) = json.loads(output)
    assert (late_files, late_threads) == (early_files, early_threads)
    assert late_mb - early_mb < 1.0  # 400 nodes later


def test_a_node_needs_no_torch_and_no_other_heavy_package(domain_id: int) -> None:
    program = (
        "import sys, rclpy; rclpy.init(); rclpy.create_node('light'); "
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'scipy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
