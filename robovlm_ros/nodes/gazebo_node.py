"""What `sim_node` offers, for the tabletop in Gazebo: scenes by seed, and where the blocks truly are.

Runs under the name ``sim_node``, so that whoever works with the one works with the other. The arm is led by its own
commands, through `servo_node`; blocks are put by Gazebo's service ``set_pose``, which its command line calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.parameters import choice, declare, fixed, follow, limited
from robovlm_ros.nodes.services import answering
from robovlm_ros.nodes.sim_topics import LATCHED
from robovlm_ros.sim.gazebo import VERSIONS, WORLD, Gazebo, away, block_model, pad_away, pad_model, truth_topic
from robovlm_ros.sim.model import PAD_THICKNESS
from robovlm_ros.sim.tasks import COLOURS, MOST_PADS, Block, Pad
from robovlm_ros.sim.truth import fill_marker, fill_pad
from robovlm_ros.sim.world import Tabletop

LARGEST_SEED = 2**31 - 1
READY_S = 120.0
"""How long Gazebo may take to start [s]."""
GO_S = 10.0
"""How long the arm may take to where a scene begins [s of simulated time]."""
SLOW = 10.0
"""Gazebo may run so many times slower than real time before it is not waited for any longer."""
NEAR_M = 0.015
"""The arm is there when the tool is this near [m]."""
AGAIN_S = 3.0
"""A first scene that could not be made is tried again after this time [s]."""
CALL_S = 6.0
"""How long a service of Gazebo may take, and how soon a block must be where it was put [s]."""
TRIES = 3
"""So often a block is put before the refusal counts: on a busy machine, calls of Gazebo's services get lost."""
START_S = 30.0
"""How long Gazebo's program, which calls the service, may take in all [s]."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the tabletop in Gazebo."""

    contract: str = fixed("tabletop")
    """Contract of the robot, a YAML file or a shipped name."""
    seed: int = limited(0, 0, LARGEST_SEED)
    """Seed of the next scene; each reset adds 1. The scenes are those of the MuJoCo simulator."""
    pads: int = limited(0, 0, MOST_PADS, fixed=True)
    """Coloured pads on the table, for tasks that put a block on one."""
    gazebo: str = choice("harmonic", tuple(VERSIONS), fixed=True)
    """Version of Gazebo, which decides what its services are called."""


class GazeboNode(Node):  # type: ignore[misc, unused-ignore]
    """`_scene` is held while a scene is made."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        self._contract = contract = Contract.load(settings.contract)
        messages.check_contract(contract)
        self._gazebo = VERSIONS[settings.gazebo]
        self._tabletop = Tabletop(contract, pads=settings.pads)  # never moves: it says what a scene is
        self._tool_source = next((s for s in contract.state if s.type == "geometry_msgs/msg/PoseStamped"), None)
        if self._tool_source is None:
            raise UserError(f"contract '{contract.name}' has no PoseStamped state: where is the tool?")
        self._tool: tuple[int, NDArray[np.float64]] | None = None
        self._blocks: dict[str, tuple[int, Block]] = {}
        self._shown: tuple[str, ...] = ()
        self._pads: tuple[Pad, ...] = ()
        self._closing = threading.Event()
        self._scene = threading.Lock()
        self.create_subscription(PoseStamped, self._tool_source.topic, self._on_tool, 10)
        for colour in COLOURS:
            self.create_subscription(PoseStamped, truth_topic(colour), self._on_block(colour), 10)
        self._markers = self.create_publisher(MarkerArray, "~/blocks", LATCHED)
        self.create_timer(0.1, self._tell)
        reset = answering(lambda _request: self._reset())
        self.create_service(Trigger, "~/reset", reset, callback_group=MutuallyExclusiveCallbackGroup())
        follow(self, settings, self._change)
        self._thread = threading.Thread(target=self._begin, name="first scene")
        self._thread.start()

    def _change(self, settings: Settings) -> None:
        self._settings = settings

    # --- what Gazebo says ---------------------------------------------------------------------------------------

    def _on_tool(self, message: PoseStamped) -> None:
        place = message.pose.position
        self._tool = messages.stamp_ns(message) or 0, np.array([place.x, place.y, place.z])

    def _on_block(self, colour: str) -> Callable[[PoseStamped], None]:
        def receive(message: PoseStamped) -> None:
            place, turn = message.pose.position, message.pose.orientation
            block = Block(colour, np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
            self._blocks[colour] = messages.stamp_ns(message) or 0, block

        return receive

    def _tell(self) -> None:
        """Publish where the blocks of this scene are, each with the stamp of when it was there."""
        known = [self._blocks[colour] for colour in self._shown if colour in self._blocks]
        if known:
            markers = [fill_marker(Marker(), block, stamp) for stamp, block in known]
            markers += [fill_pad(Marker(), pad, known[0][0]) for pad in self._pads]
            self._markers.publish(MarkerArray(markers=markers))

    # --- scenes -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Make the first scene as soon as Gazebo tells where everything is; while it starts, its services may fail."""
        end = time.monotonic() + READY_S
        if self._wait(lambda: self._tool is not None and len(self._blocks) == len(COLOURS), READY_S):
            while not self._begun() and time.monotonic() < end and not self._closing.is_set():
                self._closing.wait(AGAIN_S)
        elif not self._closing.is_set():
            missing = [colour for colour in COLOURS if colour not in self._blocks]
            what = f"poses of blocks: {', '.join(missing)}" if missing else "pose of the tool (servo_node)"
            self.get_logger().error(f"Gazebo has not told the {what}, for {READY_S:.0f} s; is its bridge there?")

    def _begun(self) -> bool:
        try:
            self._reset()
        except UserError as error:
            self.get_logger().error(str(error))
            return False
        return True

    def _reset(self) -> str:
        """Make the scene of the next seed: bring the arm to its start, then put the blocks; seed and stamp as JSON."""
        if self._tool is None or len(self._blocks) < len(COLOURS):
            raise UserError("Gazebo, its bridge or servo_node are not there yet: not all poses are known")
        with self._scene:
            seed = self._settings.seed
            self._tabletop.reset(seed)
            blocks = self._tabletop.blocks
            self._shown = ()
            if not self._go(self._tabletop.target, self._tabletop.tool_position):
                self.get_logger().warning(f"scene {seed}: the arm has not come to its start")
            self._put(blocks, self._tabletop.pads)
            if self._settings.seed == seed:  # nobody has asked for another one meanwhile
                self.set_parameters([Parameter("seed", value=(seed + 1) % LARGEST_SEED)])
            self._shown, self._pads = tuple(block.colour for block in blocks), self._tabletop.pads
            stamp_ns = self._tool[0]
        self.get_logger().info(f"scene {seed}: blocks {', '.join(self._shown)}")
        return json.dumps({"seed": seed, "stamp_ns": stamp_ns})

    def _go(self, values: NDArray[np.float64], tool: NDArray[np.float64]) -> bool:
        """Command the arm (action_dim,) until its tool is at (3,); a command may be lost, so it is repeated."""
        topics = []
        try:
            for command in self._contract.commands:
                kind = messages.message_class(command.type)
                topics.append((command, kind, self.create_publisher(kind, command.topic, 10)))

            def there() -> bool:
                first, stamp_ns = 0, int(self.get_clock().now().nanoseconds)
                for command, kind, publisher in topics:
                    part = values[first : first + len(command.dims)]
                    first += len(command.dims)
                    publisher.publish(messages.fill_command(kind(), command, part, stamp_ns, self._contract.step_ns))
                return self._tool is not None and float(np.linalg.norm(self._tool[1] - tool)) < NEAR_M

            return self._wait(there, GO_S, simulated=True)
        finally:  # from now on only policies and people offer commands
            for _, _, publisher in topics:
                self.destroy_publisher(publisher)

    def _put(self, blocks: Sequence[Block], pads: Sequence[Pad]) -> None:
        """Put these blocks and pads where they are to be, and the others away; UserError if Gazebo does not."""
        lie = {block.colour: block for block in blocks}
        wanted = {c: lie[c] if c in lie else Block(c, np.array(away(c))) for c in COLOURS}
        places = {block_model(c): (block.position, block.orientation) for c, block in wanted.items()}
        if self._settings.pads:
            thin = np.array([0.0, 0.0, PAD_THICKNESS / 2])
            tops = {pad.colour: pad.position - thin for pad in pads}
            flat = np.array([0.0, 0.0, 0.0, 1.0])
            places |= {pad_model(c): (tops[c] if c in tops else np.array(pad_away(c)), flat) for c in COLOURS}
        self._put_models(places)
        if not self._wait(lambda: all(self._is_at(block) for block in wanted.values()), CALL_S, simulated=True):
            raise UserError("Gazebo has not put the blocks where they were to be")

    def _put_models(self, places: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """Put models at positions (3,) and orientations (4,), all at once."""
        left, tries = places, TRIES
        while left:
            calls = {name: start_call(set_pose(self._gazebo, name, *place)) for name, place in left.items()}
            failures = {name: why for name, call in calls.items() if (why := finish_call(call))}
            left, tries = {name: places[name] for name in failures}, tries - 1
            if left and (not tries or self._closing.is_set()):
                name, why = next(iter(failures.items()))
                raise UserError(f"putting the {name.replace('_', ' ')}: Gazebo's service says: {why}")

    def _is_at(self, wanted: Block) -> bool:
        found = self._blocks[wanted.colour][1].position
        return bool(np.linalg.norm((found - wanted.position)[:2]) < NEAR_M)

    def _wait(self, done: Callable[[], bool], seconds: float, *, simulated: bool = False) -> bool:
        """Whether it was done in time: real time, or that of Gazebo, which may run much slower (or stand still)."""
        end, end_ns = time.monotonic() + seconds * (SLOW if simulated else 1.0), self._simulated_ns() + seconds * 1e9
        while not (ready := done()) and time.monotonic() < end and not self._closing.is_set():
            if simulated and self._simulated_ns() > end_ns:
                break
            time.sleep(0.05)
        return ready

    def _simulated_ns(self) -> int:
        return self._tool[0] if self._tool is not None else 0

    def close(self) -> None:
        """Make no scene any more."""
        self._closing.set()
        self._thread.join(CALL_S)


def set_pose(gazebo: Gazebo, model: str, position: NDArray[np.float64], orientation: NDArray[np.float64]) -> list[str]:
    """The command that puts a model at a position (3,) with an orientation (4,) as (x, y, z, w)."""
    x, y, z = (f"{value:.6f}" for value in position)
    qx, qy, qz, qw = (f"{value:.9f}" for value in orientation)
    request = (
        f'name: "{model}", position: {{x: {x}, y: {y}, z: {z}}}, orientation: {{x: {qx}, y: {qy}, z: {qz}, w: {qw}}}'
    )
    types = ["--reqtype", f"{gazebo.messages}Pose", "--reptype", f"{gazebo.messages}Boolean"]
    service = f"/world/{WORLD}/set_pose"
    return [gazebo.command, "service", "-s", service, *types, "--timeout", f"{CALL_S * 1000:.0f}", "--req", request]


def start_call(command: Sequence[str]) -> subprocess.Popen[str]:
    """Begin to call a service; UserError if Gazebo's program is not there."""
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise UserError(f"Gazebo's program '{command[0]}' is not installed here: it puts the blocks") from error


def finish_call(call: subprocess.Popen[str]) -> str:
    """Wait for a service's answer: what it says unless that is true."""
    try:
        said, _ = call.communicate(timeout=START_S)
    except subprocess.TimeoutExpired:
        call.kill()
        said, _ = call.communicate()
    return "" if "data: true" in said else " ".join(said.split()) or "nothing"


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros gazebo_node``."""
    return spin(GazeboNode, threads=3)


if __name__ == "__main__":
    sys.exit(main())
