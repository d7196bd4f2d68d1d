"""The `ros2` command beside a real node in another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ros2_lite.bags.reader import Bag
from ros2_lite.bags.writer import BagWriter
from ros2_lite.cli import main

ROS2 = [sys.executable, "-m", "ros2_lite.cli"]

NODE = Path(__file__).with_name("demo_node.py")


@dataclass
class Done:
    code: int
    out: str
    err: str


Ros2 = Callable[..., Done]


@pytest.fixture(scope="module")
def environment(module_domain: dict[str, str]) -> dict[str, str]:
    """The environment of all processes of this module: a domain of its own."""
    return {**os.environ, **module_domain, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Path]:
    """A node `/lab/demo` in a process of its own; the file with its output."""
    output = tmp_path_factory.mktemp("demo") / "output.txt"
    with output.open("w") as out:
        process = subprocess.Popen([sys.executable, str(NODE)], stdout=out, stderr=out, env=environment)
        end = time.monotonic() + 20
        while "ready" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield output
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, output.read_text()


@pytest.fixture
def ros2(
    demo: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ros2:
    """Runs one command line, in this process to save its start; each makes and ends a node of its own."""
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "CYCLONEDDS_URI"):
        monkeypatch.setenv(name, environment[name])

    def run(*arguments: str) -> Done:
        code = main(arguments)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


def interrupted(environment: dict[str, str], arguments: list[str], enough: str) -> Done:
    """Run `ros2` as a process, with Ctrl-C as soon as it has printed `enough`."""
    process = subprocess.Popen(
        [*ROS2, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    out = ""
    while enough not in out:
        line = process.stdout.readline()
        assert line, "it ended too early"
        out += line
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=20)
    return Done(process.returncode, out + rest, err)


def test_topics_are_listed_with_their_types(ros2: Ros2) -> None:
    lines = ros2("topic", "list", "-t").out.splitlines()
    assert lines == sorted(lines)
    assert {
        "/camera/image_raw [sensor_msgs/msg/Image]",
        "/lab/chatter [std_msgs/msg/String]",
        "/lab/heard [std_msgs/msg/String]",
        "/parameter_events [rcl_interfaces/msg/ParameterEvent]",
    } <= set(lines)
    assert not any("_hidden" in line for line in lines)
    assert ros2("topic", "type", "/lab/chatter").out == "std_msgs/msg/String\n"


def test_hidden_topics_are_told_to_those_who_ask(ros2: Ros2) -> None:
    unknown = ros2("topic", "type", "/lab/_hidden/joints")
    assert (unknown.code, unknown.out, unknown.err) == (1, "", "")
    hidden = ros2("topic", "--include-hidden-topics", "type", "/lab/_hidden/joints")
    assert (hidden.code, hidden.out) == (0, "sensor_msgs/msg/JointState\n")
    assert "/lab/_hidden/joints" in ros2("topic", "list", "--include-hidden-topics").out.splitlines()


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ("topic info /lab/chater", "Unknown topic '/lab/chater'", "topics here: /camera/image_raw, /lab/chatter"),
        ("topic echo /chater", "Could not determine the type for the passed topic", "topics here: /camera/image_raw"),
        ("node info /lab/dmo", "Unable to find node '/lab/dmo'", "nodes here: /lab/demo"),
        ("service type /enable", "", "services here: /lab/demo/change_state"),
        ("param get /lab/demo gian", "Parameter not set", "parameters of /lab/demo are: gain, limits.lower, "),
        ("lifecycle get /lab/dmo", "Node not found", "nodes with a lifecycle here: /lab/demo"),
    ],
)
def test_a_person_at_a_terminal_is_told_what_would_have_been_valid(
    ros2: Ros2, monkeypatch: pytest.MonkeyPatch, line: str, words: str, hint: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = ros2(*line.split())
    assert told.code == 1
    assert told.err.startswith(words)
    assert hint in told.err
    assert told.err.count("\n") == 1


def test_a_topic_tells_its_endpoints(ros2: Ros2) -> None:
    out = ros2("topic", "info", "/lab/chatter", "--verbose").out
    assert out.startswith("Type: std_msgs/msg/String\n\nPublisher count: 1\n\nNode name: demo\nNode namespace: /lab\n")
    assert "Topic type hash: RIHS01_" in out
    assert "Reliability: RELIABLE" in out
    assert out.rstrip().endswith("Subscription count: 0")
    unknown = ros2("topic", "info", "/lab/chater")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "Unknown topic '/lab/chater'\n"


def test_echo_prints_messages_as_yaml(ros2: Ros2) -> None:
    assert ros2("topic", "echo", "/lab/chatter", "--once").out == "data: hello\n---\n"
    (image, end) = ros2("topic", "echo", "/camera/image_raw", "--once", "--no-arr").out.split("---\n")
    shown = yaml.safe_load(image)
    assert (shown["width"], shown["data"], end) == (640, "<sequence type: uint8, length: 921600>", "")
    assert ros2("topic", "echo", "/camera/image_raw", "--once", "--field", "header.frame_id").out == "lens\n---\n"
    wrong = ros2("topic", "echo", "/camera/image_raw", "--field", "header.frame")
    assert (wrong.code, wrong.err) == (
        1,
        "Invalid field 'header.frame': 'Header' object has no attribute 'frame'\n",
    )


def test_ctrl_c_ends_echo_and_hz_without_a_traceback(demo: Path, environment: dict[str, str]) -> None:
    done = interrupted(environment, ["topic", "echo", "/lab/chatter"], "data: hello\n---\ndata: hello\n")
    assert (done.code, done.err) == (signal.SIGINT, "")
    done = interrupted(environment, ["topic", "hz", "/camera/image_raw"], "window:")
    assert (done.code, done.err) == (0, "")
    assert 1 < float(done.out.split("average rate: ")[1].split("\n")[0]) < 60  # 50 Hz, or fewer on a busy machine


def test_a_published_message_arrives_at_the_node(ros2: Ros2, demo: Path) -> None:
    done = ros2("topic", "pub", "--once", "/lab/heard", "std_msgs/msg/String", "data: from the terminal")
    assert done.code == 0
    assert "publisher: beginning loop\npublishing #1: std_msgs.msg.String(data='from the terminal')\n" in done.out
    ros2("topic", "pub", "-t", "3", "-r", "50", "-p", "3", "/lab/heard", "std_msgs/String", "data: thrice")
    end = time.monotonic() + 5
    while demo.read_text().count("heard thrice") < 3 and time.monotonic() < end:
        time.sleep(0.05)
    text = demo.read_text()
    assert (text.count("heard from the terminal\n"), text.count("heard thrice\n")) == (1, 3)


def test_pub_says_for_whom_it_waits_and_gives_up(ros2: Ros2) -> None:
    waiting = "Waiting for at least 1 matching subscription(s)...\n"
    late = ros2("topic", "pub", "-t", "5", "--max-wait-time-secs", "1", "/nobody", "std_msgs/String", "data: hello")
    assert (late.code, late.out) == (1, 2 * waiting)
    assert late.err == "Timed out waiting for subscribers: Expected 1 subcribers but only got 0 subscribers\n"


def test_nodes_are_listed_and_described(ros2: Ros2) -> None:
    assert ros2("node", "list").out == "/lab/demo\n"
    sections = ros2("node", "info", "/lab/demo").out.split(":\n")
    assert sections[0] == "/lab/demo\n  Subscribers"
    out = "".join(sections)
    for line in (
        "    /lab/chatter: std_msgs/msg/String\n",
        "    /lab/enable: std_srvs/srv/SetBool\n",
        "    /lab/demo/set_parameters_atomically: rcl_interfaces/srv/SetParametersAtomically\n",
        "  Action Servers    /lab/count: example_interfaces/action/Fibonacci\n",
    ):
        assert line in out
    unknown = ros2("node", "info", "/lab/dmo")
    assert (unknown.code, unknown.err) == (1, "Unable to find node '/lab/dmo'\n")


def test_a_service_is_found_and_called(ros2: Ros2) -> None:
    assert "/lab/enable [std_srvs/srv/SetBool]" in ros2("service", "list", "-t").out.splitlines()
    assert ros2("service", "type", "/lab/enable").out == "std_srvs/srv/SetBool\n"
    assert ros2("service", "call", "/lab/enable", "std_srvs/srv/SetBool", "{data: true}").out == (
        "requester: making request: std_srvs.srv.SetBool_Request(data=True)\n\n"
        "response:\nstd_srvs.srv.SetBool_Response(success=True, message='data is True')\n\n"
    )
    late = ros2("service", "call", "--timeout", "0.3", "/lab/absent", "std_srvs/srv/Trigger")
    assert late.code == 1
    assert late.out == "waiting for service to become available...\n"
    assert late.err == "the service '/lab/absent' did not become available in 0.3 s\n"


def test_goals_are_sent_followed_and_cancelled_by_ctrl_c(ros2: Ros2, environment: dict[str, str]) -> None:
    kind = "example_interfaces/action/Fibonacci"
    assert ros2("action", "list", "-t").out == f"/lab/count [{kind}]\n"
    assert ros2("action", "type", "/lab/count").out == f"{kind}\n"
    assert ros2("action", "info", "/lab/count").out == (
        "Action: /lab/count\nAction clients: 0\nAction servers: 1\n    /lab/demo\n"
    )
    out = ros2("action", "send_goal", "/lab/count", kind, "{order: 2}", "--feedback").out
    assert out.startswith("Waiting for an action server to become available...\nSending goal:\n     order: 2\n\n")
    for part in (
        "Goal accepted with ID: ",
        "Feedback:\n    sequence:\n- 0\n\n",
        "Result:\n    sequence:\n- 0\n- 1\n\n",
    ):
        assert part in out
    assert out.endswith("Goal finished with status: SUCCEEDED\n")
    assert ros2("action", "send_goal", "/lab/count", kind, "{order: 100}").out.endswith("Goal was rejected.\n")
    done = interrupted(environment, ["action", "send_goal", "/lab/count", kind, "{order: 50}"], "Goal accepted")
    assert (done.code, done.err) == (signal.SIGINT, "")
    assert done.out.endswith("Canceling goal...\nGoal canceled.\n")


def test_parameters_are_listed_read_set_and_dumped(ros2: Ros2) -> None:
    listed = "  gain\n  limits.lower\n  start_type_description_service\n  use_sim_time\n"
    assert ros2("param", "list", "/lab/demo").out == listed
    assert ros2("param", "get", "/lab/demo", "gain").out == "Double value is: 1.5\n"
    assert ros2("param", "get", "/lab/demo", "limits.lower", "--hide-type").out == "[-1.0, 2.0]\n"
    assert ros2("param", "set", "/lab/demo", "gain", "2.5").out == "Set parameter successful\n"
    refused = ros2("param", "set", "/lab/demo", "gain", "fast")
    assert refused.code == 0  # as the original has it
    assert refused.err.startswith("Setting parameter failed: ")
    assert yaml.safe_load(ros2("param", "dump", "/lab/demo").out) == {
        "/lab/demo": {
            "ros__parameters": {
                "gain": 2.5,
                "limits": {"lower": [-1.0, 2.0]},
                "start_type_description_service": True,
                "use_sim_time": False,
            }
        }
    }
    unknown = ros2("param", "get", "/lab/demo", "gian")
    assert (unknown.code, unknown.out, unknown.err) == (1, "", "Parameter not set\n")


def test_bandwidth_and_delay_are_measured_until_ctrl_c(demo: Path, environment: dict[str, str]) -> None:
    done = interrupted(environment, ["topic", "bw", "/camera/image_raw"], "Message size")
    first, second = done.out.splitlines()[1:3]
    assert done.out.startswith("Subscribed to [/camera/image_raw]\n")
    bandwidth, unit, *words = first.split()
    assert (unit, words[0], words[2]) == ("MB/s", "from", "messages")
    assert 1 < float(bandwidth) < 60  # 50 Hz of 0.92 MB, or fewer on a busy machine
    assert second == "\tMessage size mean: 0.92 MB min: 0.92 MB max: 0.92 MB"

    done = interrupted(environment, ["topic", "delay", "/camera/image_raw"], "window:")
    assert 0 < float(done.out.split("average delay: ")[1].split("\n")[0]) < 60
    assert "std dev: " in done.out


def test_echo_filters_messages_and_tells_when_they_came(ros2: Ros2) -> None:
    none = ros2("topic", "echo", "/lab/chatter", "--filter", "m.data == 'bye'", "--timeout", "0.3")
    assert none.out == ""
    done = ros2("topic", "echo", "/lab/chatter", "--filter", "m.data == 'hello'", "--once", "-i")
    info, message, end = done.out.split("---\n")
    assert yaml.safe_load(info).keys() >= {"source_timestamp", "received_timestamp"}
    assert (message, end) == ("data: hello\n", "")
    wrong = ros2("topic", "echo", "/lab/chatter", "--filter", "m.dat ==")
    assert (wrong.code, wrong.err.split(":")[0]) == (1, "--filter 'm.dat ==' is no Python expression")
    wrong = ros2("topic", "echo", "/lab/chatter", "--filter", "m.dat == 1")
    assert wrong.code == 1
    assert "AttributeError" in wrong.err


def test_topics_and_services_are_found_by_their_type(ros2: Ros2) -> None:
    assert ros2("topic", "find", "sensor_msgs/msg/Image").out == "/camera/image_raw\n"
    assert ros2("topic", "find", "-c", "std_msgs/msg/String").out == "2\n"
    assert ros2("service", "find", "std_srvs/srv/SetBool").out == "/lab/enable\n"
    assert ros2("service", "info", "/lab/enable").out == (
        "Type: std_srvs/srv/SetBool\nClients count: 0\nServices count: 1\n"
    )


def test_parameters_are_described_loaded_and_deleted(ros2: Ros2, tmp_path: Path) -> None:
    assert ros2("param", "describe", "/lab/demo", "gain").out == (
        "Parameter name: gain\n  Type: double\n  Description: [1]\n  Constraints:\n"
        "    Min value: 0.0\n    Max value: 4.0\n    Step: 0.5\n"
    )
    dumped = ros2("param", "dump", "/lab/demo").out
    dumped = dumped.replace("    start_type_description_service: true\n", "")  # read-only
    (tmp_path / "dumped.yaml").write_text(dumped.replace("- 2.0", "- 3.0"))
    loaded = ros2("param", "load", "/lab/demo", str(tmp_path / "dumped.yaml"))
    assert (loaded.code, loaded.out.splitlines()[1]) == (0, "Set parameter limits.lower successful")
    assert ros2("param", "get", "/lab/demo", "limits.lower").out == "Double values are: [-1.0, 3.0]\n"
    (tmp_path / "other.yaml").write_text(
        "/other: {ros__parameters: {gain: 1.0}}\n/lab/demo: {ros__parameters: {gain: 9.0}}\n"
    )
    refused = ros2("param", "load", "/lab/demo", str(tmp_path / "other.yaml"))
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Set parameter gain failed: ")
    absent = ros2("param", "load", "/lab/demo", "no.yaml")
    assert absent.err == "cannot read the parameter file 'no.yaml': No such file or directory\n"
    assert ros2("param", "delete", "/lab/demo", "gain").err.startswith("Deleting parameter failed: ")


def test_a_lifecycle_is_told_and_moved_on(ros2: Ros2) -> None:
    assert ros2("lifecycle", "nodes").out == "/lab/demo\n"
    assert ros2("lifecycle", "get", "/lab/demo").out == "unconfigured [1]\n"
    assert ros2("lifecycle", "list", "/lab/demo").out == ("- configure [1]\n\tStart: unconfigured\n\tGoal: inactive\n")
    unknown = ros2("lifecycle", "set", "/lab/demo", "activate")
    assert unknown.err == "Unknown transition requested, available ones are:\n- configure [1]\n"
    assert ros2("lifecycle", "set", "/lab/demo", "configure").out == "Transitioning successful\n"
    assert ros2("lifecycle", "get").out == "/lab/demo: inactive [2]\n"
    assert ros2("lifecycle", "set", "/lab/demo", "1").err == "Transitioning failed\n"


def test_what_was_recorded_is_played_to_other_topics(
    ros2: Ros2, demo: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "bag"
    arguments = ["bag", "record", "--topics", "/lab/chatter", "/camera/image_raw", "-o", str(folder)]
    process = subprocess.Popen(
        [*ROS2, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "Stopping discovery" not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stdout.readline())
    end = time.monotonic() + 60
    while (folder / "bag_0.mcap").stat().st_size < 8_000_000:  # eight images, and as many texts
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in rest) == (0, False)
    text = "".join(lines)
    assert "Subscribed to topic '/lab/chatter'" in text
    assert "Recording..." in text

    bag = Bag(str(folder))
    counts = {topic.name: topic.count for topic in bag.info.topics}
    assert counts.keys() == {"/lab/chatter", "/camera/image_raw"}
    assert min(counts.values()) >= 1
    done = ros2("bag", "play", str(folder), "-r", "4", "--topics", "/lab/chatter", "-m", "/lab/chatter:=/lab/heard")
    assert (done.code, "Set rate to 4" in done.out + done.err) == (0, True)
    end = time.monotonic() + 5
    while demo.read_text().count("heard hello\n") < counts["/lab/chatter"] and time.monotonic() < end:
        time.sleep(0.05)
    # The node keeps ten messages: on a busy machine some are overtaken before it comes to them.
    assert 1 <= demo.read_text().count("heard hello\n") <= counts["/lab/chatter"]


@pytest.mark.slow
def test_a_played_bag_is_a_clock(ros2: Ros2, environment: dict[str, str], tmp_path: Path) -> None:
    from rclpy.serialization import serialize_message
    from std_msgs.msg import String

    writer = BagWriter(str(tmp_path / "bag"))
    writer.add_topic("/words", "std_msgs/msg/String", "")
    for number in range(3):
        writer.write("/words", bytes(serialize_message(String())), (1000 + number) * 10**9, 0)
    writer.close()
    arguments = ["topic", "echo", "/clock", "rosgraph_msgs/msg/Clock", "--field", "clock.sec"]
    listener = subprocess.Popen([*ROS2, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    end = time.monotonic() + 20
    while "/clock" not in ros2("topic", "list").out:
        assert time.monotonic() < end
    begin = time.monotonic()
    assert (
        ros2("bag", "play", str(tmp_path / "bag"), "-r", "2", "--clock", "100", "--playback-duration", "1.5").code == 0
    )
    assert time.monotonic() - begin > 0.5  # the message at 1 s, and none of that at 2 s
    listener.terminate()
    seconds = [int(line) for line in listener.communicate(timeout=20)[0].splitlines() if line != "---"]
    assert seconds == sorted(seconds)
    assert {1000} <= set(seconds) <= {1000, 1001}


def test_doctor_counts_failed_checks_and_reports_on_them(ros2: Ros2) -> None:
    done = ros2("doctor", "--include-warnings", "--report-failed")
    assert "UserWarning: Publisher without subscriber detected on /lab/chatter.\n" in done.err
    assert "Failed modules:" in done.out
    assert "   TOPIC LIST\n" in done.out
    assert "\ntopic               : /camera/image_raw\npublisher count     : 1\nsubscriber count    : 0\n" in done.out
    assert ros2("wtf").code == 0


WATCHED = """
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_system_default
from rclpy.service_introspection import ServiceIntrospectionState
from std_srvs.srv import SetBool

def answer(request, response):
    response.message = "grüße"
    return response

rclpy.init()
node = rclpy.create_node("watched")
service = node.create_service(SetBool, "ask", answer)
service.configure_introspection(node.get_clock(), qos_profile_system_default, ServiceIntrospectionState.CONTENTS)
client = node.create_client(SetBool, "ask")
node.create_timer(0.2, lambda: client.call_async(SetBool.Request(data=True)))
print("ready")
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""


def test_what_a_watched_service_is_asked_and_answers_is_shown(
    domain_id: int, program: Callable[..., subprocess.Popen[str]]
) -> None:
    watched = program(WATCHED)
    assert watched.stdout is not None
    assert watched.stdout.readline() == "ready\n"
    done = interrupted(dict(os.environ), ["service", "echo", "/ask"], "message: grüße\n---\n")
    events = yaml.safe_load_all(done.out[done.out.index("info:") :].rsplit("---", 1)[0])
    told = {event["info"]["event_type"]: event for event in events}
    assert list(told["RESPONSE_SENT"]) == ["info", "request", "response"]
    assert told["REQUEST_RECEIVED"]["request"] == [{"data": True}]
    assert told["RESPONSE_SENT"]["response"] == [{"success": False, "message": "grüße"}]
    assert told["RESPONSE_SENT"]["info"]["sequence_number"] > 0
