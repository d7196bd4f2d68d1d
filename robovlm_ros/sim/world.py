"""The tabletop: one simulated scene that takes commands, moves in time and is looked at by cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.messages import POSE_DIMS
from robovlm_ros.sim.kinematics import ArmKinematics
from robovlm_ros.sim.model import (
    ARM_JOINTS,
    BLOCK_COUNT,
    BLOCK_SIZE,
    GRIPPER_JOINT,
    OVERVIEW,
    PAD_THICKNESS,
    TOOL_BODY,
    block_body,
    pad_geom,
    world_model,
)
from robovlm_ros.sim.renderer import Look, RayRenderer, project
from robovlm_ros.sim.servo import Servo
from robovlm_ros.sim.tasks import COLOURS, MOST_PADS, RGB, Block, Pad

PHYSICS_STEP_S = 0.002
"""Step of the physics [s]."""
CONTROL_STEP_NS = 20_000_000
"""Step of the arm's controller [ns]; simulated time advances by whole steps of this size."""
JOINTS = (*ARM_JOINTS, GRIPPER_JOINT)
"""Order of `Tabletop.joint_positions`."""

_Box: TypeAlias = tuple[tuple[float, float], ...]
_BLOCK_AREA = ((0.25, 0.50), (-0.22, 0.22))  # where blocks lie: x, y in base_link [m]
_SCENE_BLOCK_AREA = ((0.25, 0.50), (-0.25, 0.25))  # the same in scenes for questions with pads: blocks are pushed
_BLOCK_GAP_M = 0.09  # smallest distance between the centres of two blocks
_START_BOX = ((0.20, 0.52), (-0.24, 0.24), (0.07, 0.34))  # tool position at the start of an episode [m]
_SCENE_BOX = ((0.17, 0.58), (-0.28, 0.28), (0.06, 0.38))  # tool position of scenes made for questions [m]
_PAD_AREA = ((0.25, 0.50), (-0.21, 0.21))  # where the middles of pads lie: x, y in base_link [m]
_PAD_GAP_M = 0.105  # smallest distance between the middle of a pad and that of a block or another pad
_HELD_HIGH_M = 0.30  # a block in the hand is shown up to this height, by the tool point
_OPEN_M = 0.04  # position of the gripper joint when it is open


class Tabletop:
    """An arm over a table with coloured blocks, and with pads where they are asked for.

    Deterministic: the same seed and the same commands give the same states and byte-identical images.
    Not safe for threads: the caller holds a lock.
    """

    def __init__(self, contract: Contract, time_ns: int = 0, *, pads: int = 0) -> None:
        """``time_ns``: where simulated time begins; ``pads``: how many pads lie on the table.

        Raises UserError if the contract is not one of this arm, or if there are too many pads.
        """
        if not 0 <= pads <= MOST_PADS:
            raise UserError(f"pads must be from 0 to {MOST_PADS}, not {pads}")
        if contract.step_ns % CONTROL_STEP_NS:
            raise UserError(
                f"contract '{contract.name}': rate_hz {contract.rate_hz:g} does not fit the simulator: "
                "50 divided by a whole number is needed (50, 25, 12.5, 10, 5, ...)"
            )
        self.contract = contract
        self.time_ns = time_ns
        """Simulated time [ns]; it only grows, also over resets."""
        self._model = world_model(contract, PHYSICS_STEP_S, pads)
        self._data = mujoco.MjData(self._model)
        self._renderer = RayRenderer(self._model)
        self._kinematics = ArmKinematics()
        self._servo = Servo(contract, self._kinematics)
        self._sizes = {camera.name: (camera.width, camera.height) for camera in contract.cameras}
        self._joint_addresses = [int(self._model.joint(name).qposadr[0]) for name in JOINTS]
        self._mimic_address = int(self._model.joint(f"{GRIPPER_JOINT}_mimic").qposadr[0])
        self._block_addresses = [int(self._model.joint(block_body(i)).qposadr[0]) for i in range(BLOCK_COUNT)]
        self._tool = self._model.body(TOOL_BODY).id
        self._controls = [self._model.actuator(name).id for name in JOINTS]
        self._colours: tuple[str, ...] = COLOURS[:BLOCK_COUNT]
        self.pads: tuple[Pad, ...] = tuple(Pad(colour, np.zeros(3)) for colour in COLOURS[:pads])
        """The pads of this scene."""
        self._held: int | None = None
        self._look = Look.sample(np.random.default_rng(0))
        self.reset(0)

    # What happens to the scene

    def reset(self, seed: int) -> None:
        """A new scene: blocks, colours, start pose of the arm and light, all by ``seed``."""
        rng = np.random.default_rng(seed)
        self._arrange(rng, _START_BOX, _BLOCK_AREA)
        mujoco.mj_forward(self._model, self._data)

    def randomise(self, rng: np.random.Generator) -> None:
        """A random scene to be looked at, drawn wider than `reset` does and without running physics.

        With pads, where blocks are also carried: in some scenes the gripper is closed, in some around a block.
        """
        self._arrange(rng, _SCENE_BOX, _SCENE_BLOCK_AREA if self.pads else _BLOCK_AREA)
        self._held = None
        if self.pads:
            self._vary_hand(rng)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def show(self, joint_positions: NDArray[np.floating], blocks: Sequence[Block]) -> None:
        """Put arm (7,) and blocks where they were seen, for a picture of a past moment; no physics runs."""
        self._data.qpos[self._joint_addresses] = joint_positions
        self._data.qpos[self._mimic_address] = joint_positions[-1]
        addresses = dict(zip(self._colours, self._block_addresses, strict=True))
        for block in blocks:
            address = addresses[block.colour]
            self._data.qpos[address : address + 3] = block.position
            self._data.qpos[address + 3 : address + 7] = block.orientation[[3, 0, 1, 2]]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def move(self, moved: Sequence[Block]) -> None:
        """Put blocks, by their colours, where they are said to be, at rest; UserError for a colour that none has."""
        for block in moved:
            if block.colour not in self._colours:
                raise UserError(f"there is no {block.colour} block (blocks: {', '.join(self._colours)})")
            index = list(self._colours).index(block.colour)
            joint = self._model.joint(block_body(index))
            place, speed = int(joint.qposadr[0]), int(joint.dofadr[0])
            self._data.qpos[place : place + 3] = block.position
            self._data.qpos[place + 3 : place + 7] = block.orientation[[3, 0, 1, 2]]
            self._data.qvel[speed : speed + 6] = 0.0
        mujoco.mj_forward(self._model, self._data)

    def command(self, values: NDArray[np.floating]) -> None:
        """Set what the arm strives for until the next command.

        ``values`` (action_dim,) in the contract's order and units, binary ones 0 or 1; values beyond the
        contract's limits are brought within them. Raises ValueError for a wrong shape, NaN or infinity.
        """
        self._servo.command(values)

    @property
    def target(self) -> NDArray[np.float64]:
        """(action_dim,) what the arm strives for: the newest command, after a reset its start pose."""
        return self._servo.target

    def step(self, duration_s: float) -> None:
        """Simulate ``duration_s`` seconds, a whole number of control steps of 20 ms; ValueError otherwise."""
        count = round(duration_s * 1e9 / CONTROL_STEP_NS)
        if count < 0 or abs(count * CONTROL_STEP_NS - duration_s * 1e9) > 1e3:
            raise ValueError(f"duration_s must be a multiple of {CONTROL_STEP_NS / 1e9} s, not {duration_s}")
        for _ in range(count):
            joints, gripper = self._servo.step(CONTROL_STEP_NS / 1e9)
            self._strive(np.array([*joints, gripper]))
            self.time_ns += CONTROL_STEP_NS
        if count:
            mujoco.mj_forward(self._model, self._data)  # poses of the very end of the last step

    def _strive(self, goal: NDArray[np.float64]) -> None:
        """Let physics run for one control step towards joint targets (7,).

        With pads, where blocks are carried, the targets glide there; jumps of 20 ms would shake blocks loose.
        """
        steps = round(CONTROL_STEP_NS / 1e9 / PHYSICS_STEP_S)
        if not self.pads:
            self._data.ctrl[self._controls] = goal
            mujoco.mj_step(self._model, self._data, nstep=steps)
            return
        begin = self._data.ctrl[self._controls].copy()  # (7,)
        for part in range(1, steps + 1):
            self._data.ctrl[self._controls] = begin + (goal - begin) * (part / steps)
            mujoco.mj_step(self._model, self._data)

    # What can be measured

    @property
    def joint_positions(self) -> NDArray[np.float64]:
        """(7,) positions of JOINTS: six angles [rad] and the gripper's opening per finger [m]."""
        return np.array(self._data.qpos[self._joint_addresses], np.float64)

    @property
    def tool_position(self) -> NDArray[np.float64]:
        """(3,) the point between the finger tips in base_link [m]."""
        return np.array(self._data.xpos[self._tool], np.float64)

    @property
    def tool_orientation(self) -> NDArray[np.float64]:
        """(4,) orientation of the tool in base_link as (x, y, z, w)."""
        return np.array(self._data.xquat[self._tool][[1, 2, 3, 0]], np.float64)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks where they are now."""
        poses = [self._data.qpos[a : a + 7].copy() for a in self._block_addresses]
        return tuple(
            Block(colour, pose[:3], pose[[4, 5, 6, 3]]) for colour, pose in zip(self._colours, poses, strict=True)
        )

    @property
    def held(self) -> Block | None:
        """The block that `randomise` has put into the hand."""
        return None if self._held is None else self.blocks[self._held]

    def measured(self) -> dict[str, float]:
        """All that the arm measures, by the names that a contract uses: joints, and the tool's pose in base_link."""
        pose = (*self.tool_position.tolist(), *self.tool_orientation.tolist())
        return {
            **dict(zip(JOINTS, self.joint_positions.tolist(), strict=True)),
            **dict(zip(POSE_DIMS, pose, strict=True)),
        }

    # What can be seen

    def render(self, camera: str, width: int | None = None, height: int | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) RGB image of a contract camera, in its own size unless told, or of "overview"."""
        own_width, own_height = self._camera_size(camera)
        return self._renderer.render(self._data, camera, width or own_width, height or own_height, self._look)

    def project(
        self, camera: str, points: NDArray[np.floating], width: int | None = None, height: int | None = None
    ) -> NDArray[np.float64]:
        """(n, 2) column and row [px] at which points (n, 3) of base_link appear; NaN behind the camera.

        The first pixel's centre is at (0.5, 0.5); positions may lie outside the image.
        """
        own_width, own_height = self._camera_size(camera)
        return project(self._model, self._data, camera, points, width or own_width, height or own_height)

    def _camera_size(self, camera: str) -> tuple[int, int]:
        sizes = {OVERVIEW: (320, 320), **self._sizes}
        if camera not in sizes:
            raise UserError(f"the simulator has no camera '{camera}' (cameras: {', '.join(sizes)})")
        return sizes[camera]

    # How a scene is made

    def _arrange(self, rng: np.random.Generator, box: _Box, area: _Box) -> None:
        """Place everything at random: blocks within ``area``, the tool within ``box``, at rest and open."""
        mujoco.mj_resetData(self._model, self._data)
        self._colours = tuple(COLOURS[i] for i in rng.permutation(len(COLOURS))[:BLOCK_COUNT])
        self._look = Look.sample(rng)
        places, pad_places = _scatter(rng, area, len(self.pads))
        for index, colour in enumerate(self._colours):
            rgb = np.clip(np.array(RGB[colour]) + rng.uniform(-0.05, 0.05, 3), 0.0, 1.0)
            self._model.geom_rgba[self._model.geom(block_body(index)).id, :3] = rgb
            yaw = rng.uniform(-0.3, 0.3)
            pose = [*places[index], BLOCK_SIZE / 2, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
            address = self._block_addresses[index]
            self._data.qpos[address : address + 7] = pose
        if self.pads:
            self._lay_pads(rng, pad_places)
        tool = np.array([rng.uniform(low, high) for low, high in box])
        joints = self._servo.reset(tool, _OPEN_M)
        self._data.qpos[self._joint_addresses] = [*joints, _OPEN_M]
        self._data.qpos[self._mimic_address] = _OPEN_M
        self._data.ctrl[self._controls] = [*joints, _OPEN_M]

    def _lay_pads(self, rng: np.random.Generator, places: NDArray[np.float64]) -> None:
        """Pads of random colours, each at its place (pads, 2)."""
        colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))[: len(places)]]
        for index, (colour, place) in enumerate(zip(colours, places, strict=True)):
            geom = self._model.geom(pad_geom(index)).id
            self._model.geom_rgba[geom, :3] = np.clip(np.array(RGB[colour]) + rng.uniform(-0.05, 0.05, 3), 0.0, 1.0)
            self._model.geom_pos[geom, :2] = place
        self.pads = tuple(
            Pad(colour, np.array([*place, PAD_THICKNESS])) for colour, place in zip(colours, places, strict=True)
        )

    def _vary_hand(self, rng: np.random.Generator) -> None:
        """In most scenes the hand is where tasks bring it: closed, beside or over a block, or with one in it."""
        draw, index = rng.random(), int(rng.integers(BLOCK_COUNT))
        address = self._block_addresses[index]
        x, y, _ = self._data.qpos[address : address + 3]
        if draw < 0.30:
            return
        if draw < 0.40:  # closed, anywhere
            place, opening = [rng.uniform(low, high) for low, high in _SCENE_BOX], 0.0
        elif draw < 0.55:  # closed, beside a block, as before and in a push
            side = rng.choice((-1.0, 1.0)) * rng.uniform(0.034, 0.09)
            place, opening = [x + rng.uniform(-0.02, 0.02), y + side, rng.uniform(0.02, 0.10)], 0.0
        elif draw < 0.70:  # open, around a block or over it, as before a grasp
            place, opening = [x + rng.uniform(-0.015, 0.015), y + rng.uniform(-0.015, 0.015)], _OPEN_M
            place.append(rng.uniform(0.02, 0.10))
        else:
            place = [rng.uniform(low, high) for low, high in _SCENE_BOX[:2]] + [rng.uniform(0.02, _HELD_HIGH_M)]
            opening, self._held = BLOCK_SIZE / 2, index
        joints = self._servo.reset(np.array(place), opening)
        self._data.qpos[self._joint_addresses] = [*joints, opening]
        self._data.qpos[self._mimic_address] = opening
        if self._held is not None:
            offset = rng.uniform(-0.012, 0.012), 0.0, rng.uniform(-0.008, 0.004)  # between the fingers, along x and z
            self._data.qpos[address : address + 7] = [*(self._servo.tool + offset), 1.0, 0.0, 0.0, 0.0]


def _scatter(rng: np.random.Generator, area: _Box, pads: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places of blocks (BLOCK_COUNT, 2) within ``area``, no two nearer than _BLOCK_GAP_M, and of pads (pads, 2)."""
    (x_low, x_high), (y_low, y_high) = area
    while True:
        places = rng.uniform((x_low, y_low), (x_high, y_high), (BLOCK_COUNT, 2))
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(BLOCK_COUNT)
        if gaps.min() < _BLOCK_GAP_M:
            continue
        if not pads:
            return places, np.empty((0, 2))
        if (pad_places := _clear_of(places, rng, pads)) is not None:
            return places, pad_places


def _clear_of(blocks: NDArray[np.float64], rng: np.random.Generator, pads: int) -> NDArray[np.float64] | None:
    """(pads, 2) places clear of blocks (n, 2) and of each other; None if none are found soon."""
    low, high = np.array(_PAD_AREA).T
    placed = list(blocks)
    for place in rng.uniform(low, high, (60, 2)):
        if min(float(np.linalg.norm(place - other)) for other in placed) >= _PAD_GAP_M:
            placed.append(place)
        if len(placed) == len(blocks) + pads:
            return np.array(placed[len(blocks) :])
    return None
