"""Two hosts, each a network namespace, and a cable between them: discovery, loss, delay, and peers that die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
A, B = "10.9.0.1", "10.9.0.2"
_NAMESPACES = ["unshare", "--user", "--map-root-user", "--net"]


def _namespaces_missing() -> str:
    """Why two hosts cannot be made here; empty where they can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}` here"
    trial = "ip link add a0 type veth peer name b0"
    done = subprocess.run([*_NAMESPACES, "sh", "-c", trial], capture_output=True, text=True, check=False)
    return f"network namespaces are not allowed here: {done.stderr.strip()}" if done.returncode else ""


_reason = _namespaces_missing()
pytestmark = pytest.mark.skipif(bool(_reason), reason=_reason or "-")


class Program:
    """A process whose output is read as it comes."""

    def __init__(self, command: list[str], output: Path, environment: dict[str, str]) -> None:
        self._output = output
        with output.open("w") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)

    @property
    def lines(self) -> list[str]:
        """What it has printed so far, whole lines only."""
        return self._output.read_text().split("\n")[:-1]

    def wait_for(self, condition: Callable[[list[str]], bool], timeout: float = 40.0) -> list[str]:
        """The lines, as soon as they fulfil the condition."""
        end = time.monotonic() + timeout
        while not condition(self.lines):
            assert self.process.poll() is None or condition(self.lines), self._output.read_text()
            assert time.monotonic() < end, self._output.read_text()
            time.sleep(0.05)
        return self.lines

    def kill(self) -> None:
        """End it at once, without goodbye."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


class Network:
    """Hosts ``a`` and ``b``, each a namespace that lives as long as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Program] = []
        self._keepers: list[subprocess.Popen[bytes]] = []
        self._hub = self._keep(_NAMESPACES)
        inside = ["nsenter", "--target", str(self._hub), "--user", "--preserve-credentials"]
        self.hosts = {name: self._keep([*inside, "unshare", "--net"]) for name in "ab"}
        script = ""
        for (name, pid), address in zip(self.hosts.items(), (A, B), strict=True):
            script += f"ip link add {name}0 type veth peer name eth0 netns {pid}; ip link set {name}0 up;"
            self._in(pid, "ip link set lo up")
            self._in(self._hub, script)
            self._in(pid, f"ip addr add {address}/24 dev eth0; ip link set eth0 up")
            script = ""

    def _keep(self, command: list[str]) -> int:
        """A namespace: the pid of a process that waits in it."""
        keeper = subprocess.Popen([*command, "sleep", "600"], stdin=subprocess.DEVNULL)
        self._keepers.append(keeper)
        end = time.monotonic() + 10
        while Path(f"/proc/{keeper.pid}/comm").read_text() != "sleep\n":
            assert keeper.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        return keeper.pid

    @staticmethod
    def _enter(pid: int) -> list[str]:
        return ["nsenter", "--target", str(pid), "--user", "--net", "--preserve-credentials"]

    def _in(self, pid: int, script: str) -> None:
        subprocess.run([*self._enter(pid), "sh", "-ec", script], check=True)

    def connect(self, *arguments: str) -> Program:
        """Plug in the cable, with the options of lossy_link.py."""
        cable = self._start(self._hub, [sys.executable, str(HERE / "lossy_link.py"), "a0", "b0", *arguments], {})
        cable.wait_for(lambda lines: lines == ["carrying"])
        return cable

    def start(self, host: str, text: str, *arguments: str, **environment: str) -> Program:
        """Run a program, given as text, on a host."""
        path = self._folder / f"program{len(self._running)}.py"
        path.write_text(textwrap.dedent(text))
        return self._start(self.hosts[host], [sys.executable, "-u", str(path), *arguments], environment)

    def _start(self, pid: int, command: list[str], environment: dict[str, str]) -> Program:
        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CYCLONEDDS_URI", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_DOMAIN_ID")
        }
        output = self._folder / f"output{len(self._running)}.txt"
        program = Program([*self._enter(pid), *command], output, {**clean, **environment})
        self._running.append(program)
        return program

    def close(self) -> None:
        """End everything; the namespaces go with their last process."""
        for program in reversed(self._running):
            program.kill()
        for keeper in self._keepers:
            keeper.kill()
            keeper.wait(10)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.close()


TALKER = """
import sys
import rclpy
from rclpy.qos import QoSProfile
from std_msgs.msg import String

topic, reliability, count, hertz = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
rclpy.init()
node = rclpy.create_node("talker_" + topic)
profile = QoSProfile(depth=1000, reliability=1 if reliability == "reliable" else 2)
publisher = node.create_publisher(String, topic, profile)
print("talking")
while count and publisher.get_subscription_count() < 1:
    rclpy.spin_once(node, timeout_sec=0.05)
number = 0

def tick():
    global number
    if not count or number < count:
        publisher.publish(String(data=f"{topic} {number}"))
        number += 1
        if number == count:
            print("done")

node.create_timer(1.0 / hertz, tick)
rclpy.spin(node)
"""

LISTENER = """
import sys
import rclpy
from rclpy.qos import QoSProfile
from std_msgs.msg import String

reliability = sys.argv[1]
rclpy.init()
node = rclpy.create_node("listener")
profile = QoSProfile(depth=1000, reliability=1 if reliability == "reliable" else 2)
for topic in sys.argv[2:]:
    node.create_subscription(String, topic, lambda message: print(message.data), profile)
print("listening")
rclpy.spin(node)
"""

CAMERA = """
import sys
import zlib
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

width, height, count, reliability, hertz = *map(int, sys.argv[1:4]), sys.argv[4], float(sys.argv[5])
rclpy.init()
node = rclpy.create_node("camera")
profile = QoSProfile(depth=100, reliability=1 if reliability == "reliable" else 2)
publisher = node.create_publisher(Image, "image", profile)
while publisher.get_subscription_count() < 1:
    rclpy.spin_once(node, timeout_sec=0.05)
number = 0

def tick():
    global number
    if number < count:
        data = bytes((i * 7 + number) % 256 for i in range(251)) * (width * height * 3 // 251 + 1)
        data = data[:width * height * 3]
        image = Image(width=width, height=height, step=3 * width, encoding="rgb8", data=data)
        image.header.frame_id = f"{number} {zlib.crc32(data)}"
        publisher.publish(image)
        number += 1
        if number == count:
            print("done")

node.create_timer(1.0 / hertz, tick)
rclpy.spin(node)
"""

VIEWER = """
import sys
import zlib
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("viewer")

def seen(image):
    number, checksum = image.header.frame_id.split()
    print(number, "whole" if zlib.crc32(bytes(image.data)) == int(checksum) else "damaged")

profile = QoSProfile(depth=100, reliability=1 if sys.argv[1] == "reliable" else 2)
node.create_subscription(Image, "image", seen, profile)
rclpy.spin(node)
"""


def topics_of(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines if line != "listening"}


def test_only_those_find_each_other_whom_the_variables_let(network: Network) -> None:
    network.connect()
    settings: dict[str, dict[str, str]] = {
        "subnet": {},
        "explicit": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"},
        "system": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"},
        "localhost": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
        "old_localhost": {"ROS_LOCALHOST_ONLY": "1"},
        "off": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"},
        "other_domain": {"ROS_DOMAIN_ID": "7"},
    }
    listener = network.start("b", LISTENER, "reliable", *settings)
    talkers = [
        network.start("a", TALKER, name, "reliable", "0", "10", **variables) for name, variables in settings.items()
    ]
    for talker in talkers:
        talker.wait_for(lambda lines: "talking" in lines)
    heard = {"subnet", "explicit", "system"}
    listener.wait_for(lambda lines: topics_of(lines) >= heard)
    time.sleep(1.5)  # the others' first announcements
    assert topics_of(listener.lines) == heard


@pytest.mark.parametrize(
    "variables",
    [
        {"ROS_STATIC_PEERS": f"10.9.0.77;{B}", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
        pytest.param({"ROS_STATIC_PEERS": B}, marks=pytest.mark.slow),
        pytest.param(
            {
                "CYCLONEDDS_URI": f'<CycloneDDS><Domain><Discovery><Peers><Peer address="{B}"/></Peers></Discovery>'
                "</Domain></CycloneDDS>"
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["static peers beyond localhost", "static peers", "CYCLONEDDS_URI"],
)
def test_without_multicast_one_side_names_the_other(network: Network, variables: dict[str, str]) -> None:
    network.connect("--no-multicast")
    listener = network.start("b", LISTENER, "reliable", "stranger", "friend")
    stranger = network.start("a", TALKER, "stranger", "reliable", "0", "10")
    stranger.wait_for(lambda lines: "talking" in lines)
    network.start("a", TALKER, "friend", "reliable", "0", "10", **variables)
    listener.wait_for(lambda lines: "friend" in topics_of(lines))
    assert topics_of(listener.lines) == {"friend"}


def test_what_is_reliable_arrives_in_order_through_loss_delay_and_a_pulled_cable(network: Network) -> None:
    cable = network.connect("--loss", "0.1", "--delay", "0.02", "--jitter", "0.02")
    listener = network.start("b", LISTENER, "reliable", "count")
    talker = network.start("a", TALKER, "count", "reliable", "300", "100")
    listener.wait_for(lambda lines: len(lines) > 50)
    cable.process.send_signal(signal.SIGUSR1)
    time.sleep(1.0)
    cable.process.send_signal(signal.SIGUSR1)
    talker.wait_for(lambda lines: "done" in lines)
    lines = listener.wait_for(lambda lines: "count 299" in lines)
    assert lines[1:] == [f"count {number}" for number in range(300)]


@pytest.mark.slow
def test_what_is_best_effort_loses_some_and_orders_the_rest(network: Network) -> None:
    network.connect("--loss", "0.1", "--delay", "0.02")
    listener = network.start("b", LISTENER, "best_effort", "count")
    talker = network.start("a", TALKER, "count", "best_effort", "300", "200")
    talker.wait_for(lambda lines: "done" in lines)
    time.sleep(0.5)
    numbers = [int(line.split()[1]) for line in listener.lines[1:]]
    assert 150 < len(numbers) < 300
    assert numbers == sorted(set(numbers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reliability", "width", "height", "count"), [("reliable", 640, 480, 20), ("best_effort", 160, 120, 60)]
)
def test_images_come_whole_or_not_at_all_through_a_lossy_link(
    network: Network, reliability: str, width: int, height: int, count: int
) -> None:
    network.connect("--loss", "0.02", "--delay", "0.005")
    viewer = network.start("b", VIEWER, reliability)
    camera = network.start("a", CAMERA, str(width), str(height), str(count), reliability, "15")
    camera.wait_for(lambda lines: "done" in lines)
    if reliability == "reliable":
        lines = viewer.wait_for(lambda lines: len(lines) >= count)
        assert lines == [f"{number} whole" for number in range(count)]
    else:
        time.sleep(0.5)
        assert 0 < len(viewer.lines) < count
        assert {line.split()[1] for line in viewer.lines} == {"whole"}


SERVER = """
import sys
import rclpy
from std_srvs.srv import Trigger

rclpy.init()
node = rclpy.create_node("server")

def answer(request, response):
    response.success, response.message = True, sys.argv[1]
    return response

node.create_service(Trigger, "which", answer)
print("serving")
rclpy.spin(node)
"""

CLIENT = """
import rclpy
from std_srvs.srv import Trigger

rclpy.init()
node = rclpy.create_node("client")
client = node.create_client(Trigger, "which")
while True:
    client.wait_for_service()
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(node, future, timeout_sec=0.5)
    print(future.result().message if future.done() else "no answer")
    rclpy.spin_once(node, timeout_sec=0.2)
"""


@pytest.mark.slow
def test_a_peer_that_was_killed_is_found_again_after_its_restart(network: Network) -> None:
    network.connect("--delay", "0.005")
    client = network.start("b", CLIENT)
    listener = network.start("b", LISTENER, "reliable", "pulse")
    for life in ("first", "second"):
        server = network.start("a", SERVER, life)
        talker = network.start("a", TALKER, "pulse", "reliable", "0", "20")
        heard = len(listener.lines)
        client.wait_for(lambda lines, life=life: life in lines)  # type: ignore[misc]
        listener.wait_for(lambda lines, heard=heard: len(lines) > heard + 10)  # type: ignore[misc]
        server.kill()
        talker.kill()
