"""The tabletop for Gazebo: an SDF world and the bridge between its topics and ROS, for Fortress and for Harmonic.

Both are written from what the MuJoCo simulator is made of: the URDF, the contract, the table, the blocks. The files
in ``config/gazebo`` are what ``python -m robovlm_ros.sim.gazebo config/gazebo`` writes; a test compares them.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from robovlm_ros import rotation
from robovlm_ros.contract import Camera, Contract
from robovlm_ros.sim.gazebo_arm import (
    Element,
    add,
    add_arm,
    add_friction,
    add_material,
    angles_of,
    linear,
    place_in_link,
)
from robovlm_ros.sim.kinematics import HOME
from robovlm_ros.sim.model import (
    ARM_JOINTS,
    BLOCK_SIZE,
    GRIPPER_JOINT,
    PAD_SIZE,
    PAD_THICKNESS,
    URDF,
    VIEW_ANGLES,
)
from robovlm_ros.sim.tasks import COLOURS, RGB
from robovlm_ros.urdf import Urdf, rotation_of

WORLD, ARM = "tabletop", "tabletop_arm"
TRAJECTORY, GRIPPER_TRAJECTORY = "/joint_trajectory_controller/joint_trajectory", "/gripper_controller/joint_trajectory"
"""Topics of the arm's controllers, the same in ROS and in Gazebo."""
AWAY = (-1.0, 0.3, -0.73)
"""Where blocks lie that a scene does not show: on the floor behind the robot, a step apart along y [m]."""
PADS_AWAY = (-1.4, 0.3, -0.749)
"""The same for pads."""
STEP_S = 0.001
"""Step of the physics [s]."""
STATE_HZ = 100.0
"""Rate of joint states [Hz]; Fortress, and Harmonic before 8.14, publish them at each step."""
TRUTH_HZ = 20.0
"""Rate of the blocks' poses [Hz]."""
_AMBIENT = 0.52  # share of its colour that a surface in the dark shows, in sRGB
_GAINS = {  # joint → stiffness and integral [N m/rad, N m/(rad s)], damping [N m s/rad]; of fingers in N and m
    "joint_1": (3000.0, 500.0, 60.0),
    "joint_2": (3000.0, 2000.0, 60.0),
    "joint_3": (2000.0, 2000.0, 30.0),
    "joint_4": (200.0, 200.0, 2.0),
    "joint_5": (200.0, 100.0, 2.0),
    "joint_6": (30.0, 30.0, 0.3),
    "gripper": (1000.0, 0.0, 10.0),
    "gripper_mimic": (1000.0, 0.0, 10.0),
}


@dataclass(frozen=True, kw_only=True)
class Gazebo:
    """What things are called in one version of Gazebo."""

    name: str
    command: str
    """Program that calls services: COMMAND service ..."""
    system: str
    """Prefix of a system's file name."""
    namespace: str
    """Prefix of a system's class."""
    messages: str
    """Prefix of message types."""
    frame: str
    """Element of a sensor that says its frame_id."""


VERSIONS = {
    "fortress": Gazebo(
        name="fortress",
        command="ign",
        system="ignition-gazebo-",
        namespace="ignition::gazebo::systems::",
        messages="ignition.msgs.",
        frame="ignition_frame_id",
    ),
    "harmonic": Gazebo(
        name="harmonic",
        command="gz",
        system="gz-sim-",
        namespace="gz::sim::systems::",
        messages="gz.msgs.",
        frame="gz_frame_id",
    ),
}
"""Gazebo Fortress belongs to ROS 2 Humble, Harmonic to Jazzy; later ones speak as Harmonic does."""


def block_model(colour: str) -> str:
    """Name of a block's model."""
    return f"{colour}_block"


def pad_model(colour: str) -> str:
    """Name of a pad's model."""
    return f"{colour}_pad"


def truth_topic(colour: str) -> str:
    """ROS topic of a block's pose."""
    return f"/gazebo/{colour}_block/pose"


def away(colour: str) -> tuple[float, float, float]:
    """Where a block lies that the scene does not show."""
    x, step, z = AWAY
    return x, step * COLOURS.index(colour), z


def pad_away(colour: str) -> tuple[float, float, float]:
    """Where a pad lies that the scene does not show."""
    x, step, z = PADS_AWAY
    return x, step * COLOURS.index(colour), z


def world_sdf(contract: Contract, gazebo: Gazebo) -> str:
    """The world of a contract of the tabletop arm, as SDF text; UserError if the arm lacks one of its camera frames."""
    urdf = Urdf.load(URDF)
    root = ElementTree.Element("sdf", version="1.9")
    world = add(root, "world", name=WORLD)
    physics = add(world, "physics", name="1ms", type="ignored")
    add(physics, "max_step_size", STEP_S)
    add(physics, "real_time_factor", 1.0)
    add(add(physics, "dart"), "collision_detector", "bullet")  # ODE's finds too few points: a held block swings
    for system, kind in (("physics", "Physics"), ("user-commands", "UserCommands")):
        _add_system(world, gazebo, system, kind)
    _add_system(world, gazebo, "scene-broadcaster", "SceneBroadcaster")
    sensors = _add_system(world, gazebo, "sensors", "Sensors")
    add(sensors, "render_engine", "ogre2")
    background = [*(linear(value) for value in (0.70, 0.76, 0.82)), 1.0]
    add(sensors, "background_color", background)
    _add_light(world, background)
    _add_ground(world)
    arm = add_arm(world, urdf, ARM)
    for camera in contract.cameras:
        _add_camera(arm, urdf, camera, gazebo)
    states = _add_system(arm, gazebo, "joint-state-publisher", "JointStatePublisher")
    for joint in (*ARM_JOINTS, GRIPPER_JOINT):
        add(states, "joint_name", joint)
    add(states, "update_rate", STATE_HZ)
    fingers = (GRIPPER_JOINT, *(joint.name for joint in urdf.followers(GRIPPER_JOINT)))
    _add_controller(arm, gazebo, urdf, TRAJECTORY, dict(zip(ARM_JOINTS, HOME.tolist(), strict=True)))
    _add_controller(arm, gazebo, urdf, GRIPPER_TRAJECTORY, dict.fromkeys(fingers, urdf.joints[GRIPPER_JOINT].upper))
    for colour in COLOURS:
        _add_block(world, gazebo, colour)
        _add_pad(world, colour)
    ElementTree.indent(root)
    return f'<?xml version="1.0"?>\n<!-- {_NOTE} -->\n{ElementTree.tostring(root, encoding="unicode")}\n'


_NOTE = "Written by: python -m robovlm_ros.sim.gazebo config/gazebo"


def bridge(contract: Contract, gazebo: Gazebo) -> list[dict[str, Any]]:
    """What ros_gz_bridge carries: the topics of the MuJoCo simulator, and those of the arm's controllers."""

    def entry(
        ros_topic: str, ros_type: str, gz_topic: str, gz_type: str, direction: str = "GZ_TO_ROS"
    ) -> dict[str, Any]:
        return {
            "ros_topic_name": ros_topic,
            "gz_topic_name": gz_topic,
            "ros_type_name": ros_type,
            "gz_type_name": gazebo.messages + gz_type,
            "direction": direction,
        }

    joints = next(source.topic for source in contract.state if source.type == "sensor_msgs/msg/JointState")
    entries = [
        entry("/clock", "rosgraph_msgs/msg/Clock", "/clock", "Clock"),
        entry(joints, "sensor_msgs/msg/JointState", f"/world/{WORLD}/model/{ARM}/joint_state", "Model"),
    ]
    for camera in contract.cameras:
        info = camera.topic.rpartition("/")[0] + "/camera_info"  # beside the image, in Gazebo as in ROS
        entries.append(entry(camera.topic, "sensor_msgs/msg/Image", camera.topic, "Image"))
        entries.append(entry(info, "sensor_msgs/msg/CameraInfo", info, "CameraInfo"))
    entries += [
        entry(topic, "trajectory_msgs/msg/JointTrajectory", topic, "JointTrajectory", "ROS_TO_GZ")
        for topic in (TRAJECTORY, GRIPPER_TRAJECTORY)
    ]
    for colour in COLOURS:
        pose = f"/model/{block_model(colour)}/pose"
        entries.append(entry(truth_topic(colour), "geometry_msgs/msg/PoseStamped", pose, "Pose"))
    return entries


def bridge_yaml(contract: Contract, gazebo: Gazebo) -> str:
    """The bridge's configuration file."""
    return f"# {_NOTE}\n" + yaml.safe_dump(bridge(contract, gazebo), sort_keys=False)


def write(folder: Path) -> None:
    """Write worlds and bridges of the tabletop for all versions."""
    contract = Contract.load("tabletop")
    for name, gazebo in VERSIONS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "tabletop.sdf").write_text(world_sdf(contract, gazebo), encoding="utf-8")
        (folder / name / "bridge.yaml").write_text(bridge_yaml(contract, gazebo), encoding="utf-8")


def _add_system(parent: Element, gazebo: Gazebo, system: str, kind: str) -> Element:
    return add(parent, "plugin", filename=f"{gazebo.system}{system}-system", name=gazebo.namespace + kind)


def _add_light(world: Element, background: list[float]) -> None:
    """Light from above, such that a surface looks as the MuJoCo simulator shades it in the mean of its looks."""
    scene = add(world, "scene")
    add(scene, "ambient", [linear(_AMBIENT)] * 3 + [1.0])
    add(scene, "background", background)
    add(scene, "shadows", True)
    light = add(world, "light", name="lamp", type="directional")
    add(light, "cast_shadows", True)
    add(light, "pose", [0.0, 0.0, 3.0, 0.0, 0.0, 0.0])
    add(light, "diffuse", [0.8, 0.8, 0.8, 1.0])
    add(light, "specular", [0.0, 0.0, 0.0, 1.0])
    add(light, "direction", [0.15, 0.2, -0.97])


def _add_ground(world: Element) -> None:
    for name, size, place, rgb, mu in (
        ("table", (1.20, 1.30, 0.04), (0.35, 0.0, -0.02), (0.62, 0.58, 0.52), 0.4),
        ("floor", (8.0, 8.0, 0.1), (0.0, 0.0, -0.80), (0.30, 0.32, 0.36), 1.0),
    ):
        model = add(world, "model", name=name)
        add(model, "static", True)
        add(model, "pose", [*place, 0.0, 0.0, 0.0])
        _add_box(add(model, "link", name=name), name, size, rgb, mu)


def _add_box(link: Element, name: str, size: tuple[float, ...], rgb: tuple[float, float, float], mu: float) -> None:
    for kind in ("collision", "visual"):
        shape = add(link, kind, name=f"{name}_{kind}")
        add(add(add(shape, "geometry"), "box"), "size", size)
        if kind == "visual":
            add_material(shape, rgb)
        else:
            add_friction(shape, mu)


def _add_block(world: Element, gazebo: Gazebo, colour: str) -> None:
    model = add(world, "model", name=block_model(colour))
    add(model, "pose", [*away(colour), 0.0, 0.0, 0.0])
    link = add(model, "link", name="block")
    inertial = add(link, "inertial")
    mass = 0.1  # of plastic; lighter ones turn in the fingers of an arm that moves, where DART's contacts give way
    add(inertial, "mass", mass)
    inertia = add(inertial, "inertia")
    for key in ("ixx", "iyy", "izz"):
        add(inertia, key, mass * BLOCK_SIZE**2 / 6)
    _add_box(link, "block", (BLOCK_SIZE,) * 3, RGB[colour], 1.2)
    truth = _add_system(model, gazebo, "pose-publisher", "PosePublisher")
    for key, value in (("link", False), ("model", True), ("nested_model", True)):
        add(truth, f"publish_{key}_pose", value)
    add(truth, "use_pose_vector_msg", False)
    add(truth, "update_frequency", TRUTH_HZ)


def _add_pad(world: Element, colour: str) -> None:
    """A thin square that nothing collides with."""
    model = add(world, "model", name=pad_model(colour))
    add(model, "static", True)
    add(model, "pose", [*pad_away(colour), 0.0, 0.0, 0.0])
    visual = add(add(model, "link", name="pad"), "visual", name="pad_visual")
    add(add(add(visual, "geometry"), "box"), "size", (PAD_SIZE, PAD_SIZE, PAD_THICKNESS))
    add_material(visual, RGB[colour])
    add(visual, "cast_shadows", False)


def _add_camera(arm: Element, urdf: Urdf, camera: Camera, gazebo: Gazebo) -> None:
    """A camera that sees as the contract's, at its optical frame; Gazebo's look along +x with z up."""
    links = {link.get("name", ""): link for link in arm.findall("link")}
    link, position, turn = place_in_link(urdf, camera.frame, set(links))
    upright = rotation.conjugate(rotation_of((-math.pi / 2, 0.0, -math.pi / 2)))
    sensor = add(links[link], "sensor", name=camera.name, type="camera")
    add(sensor, "pose", [*position, *angles_of(rotation.multiply(turn, upright))])
    add(sensor, "topic", camera.topic)
    add(sensor, "update_rate", 10.0)
    add(sensor, "always_on", True)
    add(sensor, gazebo.frame, camera.frame)
    optics = add(sensor, "camera")
    focal = camera.height / 2 / math.tan(math.radians(VIEW_ANGLES[camera.frame]) / 2)  # [px]
    add(optics, "horizontal_fov", 2 * math.atan(camera.width / 2 / focal))
    image = add(optics, "image")
    add(image, "width", camera.width)
    add(image, "height", camera.height)
    add(image, "format", "R8G8B8")
    clip = add(optics, "clip")
    add(clip, "near", 0.02)
    add(clip, "far", 20.0)
    intrinsics = add(add(optics, "lens"), "intrinsics")
    for key, value in (("fx", focal), ("fy", focal), ("cx", camera.width / 2), ("cy", camera.height / 2), ("s", 0.0)):
        add(intrinsics, key, float(value))


def _add_controller(arm: Element, gazebo: Gazebo, urdf: Urdf, topic: str, start: dict[str, float]) -> None:
    """A joint trajectory controller. Its damping acts on speeds, since Gazebo's steps from point to point."""
    controller = _add_system(arm, gazebo, "joint-trajectory-controller", "JointTrajectoryController")
    add(controller, "topic", topic)
    for joint, place in start.items():
        stiffness, integral, damping = _GAINS[joint]
        effort = urdf.joints[joint].effort
        values = {
            "joint_name": joint,
            "initial_position": place,
            "position_p_gain": stiffness,
            "position_i_gain": integral,
            "position_d_gain": 0.0,
            "position_i_min": -effort / 2,
            "position_i_max": effort / 2,
            "position_cmd_min": -effort,
            "position_cmd_max": effort,
            "velocity_p_gain": damping,
        }
        for key, value in values.items():
            add(controller, key, value)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("config/gazebo"))
