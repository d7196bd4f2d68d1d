"""The MuJoCo model of the tabletop: the arm's own URDF, a table, coloured blocks and the contract's cameras."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

URDF = Path(__file__).resolve().parent / "assets" / "tabletop_arm.urdf"

ARM_JOINTS = ("joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6")
GRIPPER_JOINT = "gripper"
TOOL_BODY = "tool"
BLOCK_SIZE = 0.04
"""Edge of a block [m]."""
BLOCK_COUNT = 3
"""Blocks on the table."""
PAD_SIZE = 0.08
"""Edge of a pad [m]: a thin coloured square on the table that nothing collides with."""
PAD_THICKNESS = 0.002
"""How far a pad's top lies above the table [m]."""
OVERVIEW = "overview"
"""A camera for films that no contract needs: it shows the whole arm."""
VIEW_ANGLES = {"camera_optical_frame": 20.0, "wrist_camera_optical_frame": 75.0}
"""Vertical field of view of each camera frame of the URDF [deg]."""
VISUAL_GROUP, GROUND_GROUP = 1, 2
"""Geoms of these groups are seen by cameras; ground is what casts no shadow. Collision shapes have group 0."""

_TABLE, _BLOCKS, _ARM = 1, 2, 4  # collision bits


def block_body(index: int) -> str:
    """Name of the body, joint and geom of block ``index``."""
    return f"block_{index}"


def pad_geom(index: int) -> str:
    """Name of the geom of pad ``index``."""
    return f"pad_{index}"


def arm_model() -> mujoco.MjModel:
    """The arm alone, for kinematics: six joints, fingers left out."""
    spec = mujoco.MjSpec.from_file(str(URDF))
    for name in ("finger_1", "finger_2"):
        spec.delete(spec.body(name))
    return spec.compile()


def world_model(contract: Contract, physics_step_s: float, pads: int = 0) -> mujoco.MjModel:
    """Arm, table, blocks, ``pads`` pads, actuators and the contract's cameras.

    Raises UserError when the contract asks for a camera frame that the arm does not have.
    """
    spec = mujoco.MjSpec.from_file(str(URDF))
    spec.modelname = "tabletop"
    spec.option.timestep = physics_step_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 20.0
    spec.option.noslip_iterations = 5  # a block that is held does not creep out of the fingers
    for body in spec.bodies:
        if body.name != "world":
            body.gravcomp = 1.0  # the arm's controller would compensate gravity: no steady-state sag
        for geom in body.geoms:
            if geom.contype:
                geom.contype, geom.conaffinity = _ARM, 0
                geom.friction = [1.0, 0.01, 0.0002]
    for joint in spec.joints:
        joint.armature = 0.1 if joint.type == mujoco.mjtJoint.mjJNT_HINGE else 0.5
    _add_actuators(spec)
    _add_table(spec)
    for index in range(BLOCK_COUNT):
        _add_block(spec, index)
    for index in range(pads):
        _add_pad(spec, index)
    _add_cameras(spec, contract)
    return spec.compile()


def _add_actuators(spec: mujoco.MjSpec) -> None:
    """Critically damped position servos that are much faster than the motion of the tool."""
    for name in (*ARM_JOINTS, GRIPPER_JOINT):
        joint = spec.joint(name)
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        stiffness = 15000.0 if name in ARM_JOINTS[:3] else 3000.0
        actuator.set_to_position(kp=stiffness, dampratio=1.0, inheritrange=1.0)
        actuator.forcelimited = True
        actuator.forcerange = joint.actfrcrange


def _add_table(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.60, 0.65, 0.02],
        pos=[0.35, 0.0, -0.02],
        contype=_TABLE,
        conaffinity=_ARM | _BLOCKS,
        friction=[0.4, 0.005, 0.0001],  # smooth wood
        priority=1,  # its own friction counts, not the larger of two: a block that is pushed slides, and does not tip
        group=GROUND_GROUP,
    )
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[4.0, 4.0, 0.1],
        pos=[0.0, 0.0, -0.75],
        contype=_TABLE,
        conaffinity=_BLOCKS,
        group=GROUND_GROUP,
    )


def _add_block(spec: mujoco.MjSpec, index: int) -> None:
    name = block_body(index)
    body = spec.worldbody.add_body(name=name, pos=[0.35, 0.12 * (index - 1), BLOCK_SIZE / 2])
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[BLOCK_SIZE / 2] * 3,
        mass=0.03,  # of light wood
        friction=[1.2, 0.02, 0.0002],
        condim=4,  # two fingers hold it without its turning between them
        solref=[0.005, 1.0],  # hard: 40 N of the gripper press it in by less than a millimetre
        solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        contype=_BLOCKS,
        conaffinity=_ARM | _BLOCKS | _TABLE,
        group=VISUAL_GROUP,
    )


def _add_pad(spec: mujoco.MjSpec, index: int) -> None:
    spec.worldbody.add_geom(
        name=pad_geom(index),
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[PAD_SIZE / 2, PAD_SIZE / 2, PAD_THICKNESS / 2],
        pos=[0.35, 0.12 * index, PAD_THICKNESS / 2],
        contype=0,
        conaffinity=0,
        group=GROUND_GROUP,
    )


def _add_cameras(spec: mujoco.MjSpec, contract: Contract) -> None:
    flip = [0.0, 1.0, 0.0, 0.0]  # ROS optical frames look along +z with y down, MuJoCo cameras along -z with y up
    for camera in contract.cameras:
        if camera.frame not in VIEW_ANGLES:
            raise UserError(
                f"camera '{camera.name}': the simulated arm has no frame '{camera.frame}' "
                f"(frames: {', '.join(VIEW_ANGLES)})"
            )
        spec.body(camera.frame).add_camera(name=camera.name, quat=flip, fovy=VIEW_ANGLES[camera.frame])
    if OVERVIEW not in [camera.name for camera in contract.cameras]:
        eye, target = np.array([1.20, -0.75, 0.80]), np.array([0.24, 0.0, 0.24])
        spec.worldbody.add_camera(name=OVERVIEW, pos=eye, quat=_look_at(eye, target), fovy=42.0)


def _look_at(eye: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) quaternion (w, x, y, z) of a MuJoCo camera at ``eye`` (3,) that looks at ``target`` (3,), upright."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return quat
