"""Gazebo's world, its bridge and what is launched: checked as far as that can be done where there is no Gazebo."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import rclpy
import yaml
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from robovlm_ros import messages, rotation
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.sim import gazebo
from robovlm_ros.sim.gazebo_arm import angles_of
from robovlm_ros.sim.kinematics import HOME
from robovlm_ros.sim.model import ARM_JOINTS, PAD_THICKNESS, world_model
from robovlm_ros.sim.tasks import COLOURS
from robovlm_ros.sim.truth import blocks_of, pads_of
from robovlm_ros.sim.world import Tabletop
from robovlm_ros.urdf import rotation_of

from .robots import end_spinning

CONTRACT = Contract.load("tabletop")
FOLDER = share_directory() / "config" / "gazebo"
VERSIONS = pytest.mark.parametrize("version", list(gazebo.VERSIONS))
BRIDGED = {
    ("rosgraph_msgs/msg/Clock", "Clock"),
    ("sensor_msgs/msg/JointState", "Model"),
    ("sensor_msgs/msg/Image", "Image"),
    ("sensor_msgs/msg/CameraInfo", "CameraInfo"),
    ("trajectory_msgs/msg/JointTrajectory", "JointTrajectory"),
    ("geometry_msgs/msg/PoseStamped", "Pose"),
}
"""Of the pairs of types that ros_gz_bridge knows by its README, on Humble and on Jazzy, those of use here."""
PID = {
    f"{what}_{part}" for what in ("position", "velocity") for part in ("p_gain", "i_gain", "d_gain", "i_min", "i_max")
}
SYSTEMS = {
    "physics": ("Physics", {"engine"}),
    "user-commands": ("UserCommands", set()),
    "scene-broadcaster": ("SceneBroadcaster", {"dynamic_pose_hertz", "state_hertz"}),
    "sensors": ("Sensors", {"render_engine", "background_color", "ambient_light"}),
    "joint-state-publisher": ("JointStatePublisher", {"joint_name", "topic", "update_rate"}),
    "joint-trajectory-controller": (
        "JointTrajectoryController",
        {"topic", "joint_name", "initial_position", *PID}
        | {f"{what}_cmd_{end}" for what in ("position", "velocity") for end in ("min", "max", "offset")},
    ),
    "pose-publisher": (
        "PosePublisher",
        {f"publish_{what}_pose" for what in ("link", "model", "nested_model", "visual", "collision", "sensor")}
        | {"use_pose_vector_msg", "update_frequency", "static_publisher", "static_update_frequency"},
    ),
}
"""File name → class and the elements that it reads, by the sources of Fortress 6.6 to 6.18 and Harmonic 8.0 to 8.14;
others are passed over without a word. ``update_rate`` of joint states is read from 8.14 on, and harmless before."""
Pose = tuple[NDArray[np.float64], NDArray[np.float64]]


def world(version: str) -> ElementTree.Element:
    return ElementTree.parse(FOLDER / version / "tabletop.sdf").getroot().find("world")  # type: ignore[return-value]


def bridge(version: str) -> list[dict[str, str]]:
    return yaml.safe_load((FOLDER / version / "bridge.yaml").read_text())  # type: ignore[no-any-return]


def numbers(element: ElementTree.Element | None) -> NDArray[np.float64]:
    return (
        np.array([float(part) for part in (element.text or "0 0 0 0 0 0").split()])
        if element is not None
        else np.zeros(6)
    )


def resolve(model: ElementTree.Element, name: str) -> Pose:
    """Where a link, frame or joint of a model stands in it, all joints at zero."""
    if name in ("", "__model__"):
        return np.zeros(3), rotation.IDENTITY
    item = next(item for item in model if item.get("name") == name)
    place = item.find("pose")
    implied = {"frame": item.get("attached_to", ""), "joint": item.findtext("child", "")}.get(item.tag, "")
    above = implied if place is None else place.get("relative_to", implied)
    position, turn = resolve(model, above)
    values = numbers(place)
    return position + rotation.rotate(turn, values[:3]), rotation.multiply(turn, rotation_of(tuple(values[3:])))


@VERSIONS
def test_the_shipped_files_are_those_that_the_module_writes(version: str) -> None:
    kind = gazebo.VERSIONS[version]
    assert (FOLDER / version / "tabletop.sdf").read_text() == gazebo.world_sdf(CONTRACT, kind), "make them again"
    assert (FOLDER / version / "bridge.yaml").read_text() == gazebo.bridge_yaml(CONTRACT, kind), "make them again"


@VERSIONS
def test_every_bridged_topic_is_one_of_the_world_with_a_type_that_the_bridge_knows(version: str) -> None:
    root, kind = world(version), gazebo.VERSIONS[version]
    offered = {"/clock": "Clock"}
    taken = {}
    for model in root.findall("model"):
        for sensor in model.iter("sensor"):
            topic = sensor.findtext("topic", "")
            offered[topic] = "Image"
            offered[topic.rpartition("/")[0] + "/camera_info"] = "CameraInfo"
        for plugin in model.findall("plugin"):
            what = plugin.get("name", "").removeprefix(kind.namespace)
            if what == "JointStatePublisher":
                offered[f"/world/{root.get('name')}/model/{model.get('name')}/joint_state"] = "Model"
            elif what == "PosePublisher":
                offered[f"/model/{model.get('name')}/pose"] = "Pose"
            else:
                assert what == "JointTrajectoryController"
                taken[plugin.findtext("topic", "")] = "JointTrajectory"
            assert re.fullmatch(kind.system + r"[a-z-]+-system", plugin.get("filename", ""))
    entries = bridge(version)
    for entry in entries:
        there = offered if entry["direction"] == "GZ_TO_ROS" else taken
        assert kind.messages + there[entry["gz_topic_name"]] == entry["gz_type_name"]
        assert (entry["ros_type_name"], there[entry["gz_topic_name"]]) in BRIDGED
        messages.message_class(entry["ros_type_name"])
    assert {entry["gz_topic_name"] for entry in entries} == {*offered, *taken}, "nothing is left out"


def unread(root: ElementTree.Element, kind: gazebo.Gazebo) -> list[str]:
    """What Gazebo would not find, or pass over without a word, in the systems of a world."""
    faults = []
    for plugin in root.iter("plugin"):
        file, name = plugin.get("filename", ""), plugin.get("name", "")
        system = file.removeprefix(kind.system).removesuffix("-system")
        known_as, elements = SYSTEMS.get(system, ("", set()))
        if file != f"{kind.system}{system}-system" or name != kind.namespace + known_as:
            faults.append(f"{file}: {name}")
        faults += [f"{name}: {element.tag}" for element in plugin if element.tag not in elements]
    return faults


@VERSIONS
def test_every_system_and_each_of_its_elements_is_one_that_gazebo_knows(version: str) -> None:
    root, kind = world(version), gazebo.VERSIONS[version]
    assert unread(root, kind) == []
    next(root.iter("position_p_gain")).tag = "position_p_gian"
    next(root.iter("plugin")).set("name", kind.namespace + "Physiks")
    root.findall("plugin")[1].set("filename", "user-commands")
    assert len(unread(root, kind)) == 3


def test_the_topics_are_those_of_the_mujoco_simulator() -> None:
    carried = {entry["ros_topic_name"]: entry["ros_type_name"] for entry in bridge("harmonic")}
    for camera in CONTRACT.cameras:
        assert carried[camera.topic] == camera.type
    assert carried["/joint_states"] == "sensor_msgs/msg/JointState"
    assert [source.topic for source in CONTRACT.state] == ["/joint_states", "/ee_pose"], "the latter is the servo's"


@VERSIONS
def test_the_arm_and_its_cameras_stand_where_those_of_mujoco_do(version: str) -> None:
    model = world_model(CONTRACT, 0.002)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    arm = next(item for item in world(version).findall("model") if item.get("name") == gazebo.ARM)
    frames = [item.get("name", "") for item in arm if item.tag in ("link", "frame")]
    assert {"base_link", "link_6", "finger_2", "tool", "camera_optical_frame"} <= set(frames)
    for name in frames:
        position, turn = resolve(arm, name)
        body = model.body(name).id
        np.testing.assert_allclose(position, data.xpos[body], atol=1e-6, err_msg=name)
        assert abs(float(turn @ data.xquat[body][[1, 2, 3, 0]])) > 1 - 1e-9, name
    forward, up = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    for camera in CONTRACT.cameras:
        link, sensor = next(
            (k, s) for k in arm.findall("link") for s in k.findall("sensor") if s.get("name") == camera.name
        )
        position, turn = resolve(arm, link.get("name", ""))
        values = numbers(sensor.find("pose"))
        turn_in = rotation.multiply(turn, rotation_of(tuple(values[3:])))
        index = model.camera(camera.name).id
        np.testing.assert_allclose(position + rotation.rotate(turn, values[:3]), data.cam_xpos[index], atol=1e-6)
        view = data.cam_xmat[index].reshape(3, 3)  # columns: right, up, back
        np.testing.assert_allclose(rotation.rotate(turn_in, forward), -view[:, 2], atol=1e-6)
        np.testing.assert_allclose(rotation.rotate(turn_in, up), view[:, 1], atol=1e-6)
        focal = camera.height / 2 / np.tan(np.radians(model.cam_fovy[index]) / 2)
        lens = sensor.find("camera/lens/intrinsics")
        assert lens is not None
        assert float(lens.findtext("fx", "")) == pytest.approx(focal)
        half = float(sensor.findtext("camera/horizontal_fov", "")) / 2
        assert camera.width / 2 / np.tan(half) == pytest.approx(focal)
        assert sensor.findtext(gazebo.VERSIONS[version].frame) == camera.frame
        assert (sensor.findtext("camera/image/width"), sensor.findtext("camera/image/height")) == (
            str(camera.width),
            str(camera.height),
        )


def test_any_turn_becomes_angles_that_are_that_turn_again() -> None:
    rng = np.random.default_rng(0)
    turns = [
        *rng.normal(size=(50, 4)),
        *(rotation_of((r, p, 0.3)) for r in (0.0, 1.0) for p in (-np.pi / 2, np.pi / 2)),
    ]
    for turn in map(rotation.unit, turns):
        assert abs(float(rotation_of(angles_of(turn)) @ turn)) > 1 - 1e-9


# --- libsdformat ------------------------------------------------------------------------------------------------

STRICT = """
#include <sdf/ParserConfig.hh>
#include <sdf/Root.hh>
#include <iostream>
int main(int count, char **names) {
  sdf::ParserConfig strict;
  strict.SetWarningsPolicy(sdf::EnforcementPolicy::ERR);
  strict.SetUnrecognizedElementsPolicy(sdf::EnforcementPolicy::ERR);
  int bad = 0;
  for (int i = 1; i < count; ++i) {
    sdf::Root root;
    auto errors = root.Load(names[i], strict);
    for (const auto &error : errors) std::cout << names[i] << ": " << error.Message() << std::endl;
    std::cout << names[i] << (errors.empty() ? " good" : " bad") << std::endl;
  }
}
"""
FAULTS = {
    "a misspelt element": ("<update_rate>10</update_rate>\n", "<update_rat>10</update_rat>\n"),
    "a frame that is not there": ('relative_to="joint_3"', 'relative_to="joint_33"'),
    "a joint to nowhere": ("<child>link_4</child>", "<child>link_44</child>"),
    "a number that is none": ("<mass>2.5</mass>", "<mass>heavy</mass>"),
    "a name that occurs twice": ('<model name="green_block">', '<model name="red_block">'),
    "a joint of no kind": ('type="prismatic"', 'type="prismatik"'),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_libsdformat_reads_the_worlds_strictly_and_finds_planted_faults(tmp_path: Path) -> None:
    package = next((n for n in (12, 13, 14, 15) if shutil.which("pkg-config") and known(f"sdformat{n}")), None)
    if package is None or not shutil.which("c++"):
        pytest.skip("needs libsdformat-dev, pkg-config and c++ (Debian: apt-get install libsdformat-dev)")
    (tmp_path / "strict.cc").write_text(STRICT)
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", f"sdformat{package}"], text=True).split()
    program = tmp_path / "strict"
    subprocess.run(["c++", "-std=c++17", "-w", tmp_path / "strict.cc", "-o", program, *flags], check=True)
    files = []
    for name, kind in gazebo.VERSIONS.items():
        text = (FOLDER / name / "tabletop.sdf").read_text()
        # the one element that is none of SDF's: Gazebo's sensors read it nevertheless, for the frame_id
        files.append(tmp_path / f"{name}.sdf")
        files[-1].write_text(re.sub(f"<{kind.frame}>.*?</{kind.frame}>", "", text))
    for number, (right, wrong) in enumerate(FAULTS.values()):
        text = files[-1].read_text()
        assert right in text
        (tmp_path / f"{number}.sdf").write_text(text.replace(right, wrong, 1))
        files.append(tmp_path / f"{number}.sdf")
    said = subprocess.run([program, *files], capture_output=True, text=True, check=True).stdout
    verdicts = [f"{file} good" in said for file in files]
    assert verdicts[:2] == [True, True], said
    unseen = [fault for fault, good in zip(FAULTS, verdicts[2:], strict=True) if good]
    assert not unseen, said


def known(package: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", package], check=False).returncode == 0


# --- what is launched -------------------------------------------------------------------------------------------

PACKAGE = "<package format='3'><name>{}</name><version>0.0.0</version></package>"
STAND_IN = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument("gz_args"), DeclareLaunchArgument("on_exit_shutdown"),
        ExecuteProcess(cmd=["echo", "GZ", LaunchConfiguration("gz_args")], output="screen"),
    ])
"""


class World(Node):  # type: ignore[misc, unused-ignore]
    """Plays Gazebo behind its bridge: joints follow trajectories, blocks lie where the service puts them."""

    def __init__(self, requests: Path) -> None:
        super().__init__("world")
        self._requests = requests
        self.joints = dict(zip(ARM_JOINTS, HOME.tolist(), strict=True)) | {"gripper": 0.0, "gripper_mimic": 0.0}
        self.shown: dict[str, NDArray[np.float64]] = {}
        self.pads: dict[str, NDArray[np.float64]] = {}
        self.factor = 1.0
        self._now_ns, self._told = time.time_ns(), time.monotonic_ns()
        for topic in (gazebo.TRAJECTORY, gazebo.GRIPPER_TRAJECTORY):
            self.create_subscription(JointTrajectory, topic, self._move, 50)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(MarkerArray, "/sim_node/blocks", self._show, latched)
        self._time = self.create_publisher(Clock, "/clock", 10)
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        self._poses = {c: self.create_publisher(PoseStamped, gazebo.truth_topic(c), 10) for c in COLOURS}
        self.reset = self.create_client(Trigger, "/sim_node/reset")
        self.create_timer(0.02, self._tell)

    def _move(self, message: JointTrajectory) -> None:
        self.joints.update(zip(message.joint_names, message.points[-1].positions, strict=True))

    def _show(self, message: MarkerArray) -> None:
        self.shown = {block.colour: block.position for block in blocks_of(message)}
        self.pads = {pad.colour: pad.position for pad in pads_of(message)}

    def _tell(self) -> None:
        real = time.monotonic_ns()
        self._now_ns, self._told = self._now_ns + round((real - self._told) * self.factor), real
        now = Time(nanoseconds=self._now_ns).to_msg()
        self._time.publish(Clock(clock=now))
        state = JointState(name=list(self.joints), position=list(self.joints.values()))
        state.header.stamp = now
        self._states.publish(state)
        for colour, publisher in self._poses.items():
            message = PoseStamped()
            message.header.stamp = now
            place = message.pose.position
            place.x, place.y, place.z = self.put(gazebo.block_model(colour)) or gazebo.away(colour)
            publisher.publish(message)

    def put(self, model: str) -> tuple[float, float, float] | None:
        """Where a model was put last."""
        file = self._requests / model
        found = re.search(
            r"position: {x: ([-0-9.]+), y: ([-0-9.]+), z: ([-0-9.]+)}", file.read_text() if file.exists() else ""
        )
        return (float(found[1]), float(found[2]), float(found[3])) if found else None


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """Packages and programs in the place of Gazebo's own, which is not here."""
    for name in ("ros_gz_sim", "ros_gz_bridge"):
        share = tmp_path / "share" / name
        (share / "launch").mkdir(parents=True)
        (share / "package.xml").write_text(PACKAGE.format(name))
        index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True, exist_ok=True)
        (index / name).touch()
    (tmp_path / "share" / "ros_gz_sim" / "launch" / "gz_sim.launch.py").write_text(STAND_IN)
    program(tmp_path / "lib" / "ros_gz_bridge" / "parameter_bridge", 'echo BRIDGE "$@"; cat "${@: -1}"; exec sleep 300')
    (tmp_path / "requests").mkdir()
    lost = f"{tmp_path}/lost; [ -e $f ] || {{ touch $f; echo Service call timed out; exit; }}"  # a first call
    call = f'r="${{@: -1}}"; n=${{r#name: \\"}}; echo "$r" > {tmp_path}/requests/${{n%%\\"*}}; echo data: true'
    program(tmp_path / "bin" / "gz", f"f={lost}; {call}")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def launch(stand_ins: Path | None, *arguments: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ROS_DISTRO": "jazzy"}
    if stand_ins is not None:
        environment["PATH"] = f"{stand_ins / 'bin'}{os.pathsep}{path}"
        before = [os.environ["AMENT_PREFIX_PATH"]] if os.environ.get("AMENT_PREFIX_PATH") else []
        environment["AMENT_PREFIX_PATH"] = os.pathsep.join([str(stand_ins), *before])
    ros2 = shutil.which("ros2", path=path)
    assert ros2 is not None
    file = Path(__file__).resolve().parent.parent / "launch" / "sim.launch.py"
    return subprocess.Popen(
        [ros2, "launch", str(file), "simulator:=gazebo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )


def wait(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    return done()


@pytest.fixture
def played(domain_id: int, stand_ins: Path) -> Iterator[World]:
    rclpy.init()
    node = World(stand_ins / "requests")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield node
    end_spinning(executor, thread)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_launch_starts_gazebo_bridge_servo_and_the_scenes_of_the_mujoco_simulator(
    played: World, stand_ins: Path
) -> None:
    played.factor = 0.03  # a slow machine: to where the scene begins takes longer than GO_S, in real time
    process = launch(stand_ins, "seed:=7", "pads:=2")
    lines: list[str] = []
    assert process.stdout is not None
    reading = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(process.stdout,))
    reading.start()
    tabletop = Tabletop(CONTRACT, pads=2)
    try:
        for seed in (7, 8):
            if seed == 8:
                played.factor = 1.0
                (stand_ins / "lost").unlink()
                assert wait(played.reset.service_is_ready, 20.0)
                assert played.reset.call(Trigger.Request()).success
            tabletop.reset(seed)
            expected = {block.colour: block.position for block in tabletop.blocks}
            assert wait(lambda: played.shown.keys() == expected.keys(), 90.0), "".join(lines)  # noqa: B023
            for colour, position in expected.items():
                np.testing.assert_allclose(played.shown[colour], position, atol=1e-5)
            hidden = {c for c in COLOURS if played.put(gazebo.block_model(c)) == pytest.approx(gazebo.away(c))}
            assert hidden == {*COLOURS} - {*expected}
            pads = {pad.colour: pad.position for pad in tabletop.pads}
            assert played.pads.keys() == pads.keys()
            for colour in COLOURS:
                under = pads[colour] - [0.0, 0.0, PAD_THICKNESS / 2] if colour in pads else gazebo.pad_away(colour)
                assert played.put(gazebo.pad_model(colour)) == pytest.approx(tuple(under), abs=1e-6)
                np.testing.assert_allclose(played.pads.get(colour, 0.0), pads.get(colour, 0.0), atol=1e-6)
            joints = np.array([played.joints[name] for name in ARM_JOINTS])
            reached = tabletop._kinematics.position(joints)
            assert np.linalg.norm(reached - tabletop.tool_position) < 0.02
            assert played.joints["gripper"] == played.joints["gripper_mimic"] == 0.04
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30.0)
        reading.join(10.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = "".join(lines)
    assert "has not come to its start" not in said
    assert re.search(r"GZ -r -s --headless-rendering \S*config/gazebo/harmonic/tabletop\.sdf", said)
    assert "config/gazebo/harmonic/bridge.yaml" in said


def test_without_the_packages_of_gazebo_the_launch_says_which_and_starts_nothing(domain_id: int) -> None:
    if shutil.which("gz") or "ros_gz" in os.environ.get("AMENT_PREFIX_PATH", ""):
        pytest.skip("Gazebo is here")
    process = launch(None)
    said, _ = process.communicate(timeout=90.0)
    assert process.returncode != 0
    assert "simulator:=gazebo needs ros_gz" in said
    assert "sim_node" not in said
