"""The simulated tabletop as a ROS 2 node: the contract's commands in; images, state and the truth out.

A thread runs physics and rendering. Callbacks only leave commands in a mailbox, which rendering never holds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from robovlm_ros import messages
from robovlm_ros.contract import Command, Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.parameters import declare, fixed, follow, limited
from robovlm_ros.nodes.sim_topics import RELIABLE, SimTopics
from robovlm_ros.sim.tasks import MOST_PADS
from robovlm_ros.sim.truth import blocks_of
from robovlm_ros.sim.world import CONTROL_STEP_NS, Tabletop

REPEAT_S = 5.0
"""In lockstep, an observation that nobody answered is published again after this time [s]."""
LATE_S = 0.25
"""Real time that is missed by more than this is given up rather than caught up [s]."""
GRAPH_S = 1.0
"""How long to look for another simulator of the same name [s]."""
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the simulator."""

    contract: str = fixed("tabletop")
    """Contract of the robot, a YAML file or a shipped name."""
    seed: int = limited(0, 0, LARGEST_SEED)
    """Seed of the next scene; each reset adds 1."""
    pads: int = limited(0, 0, MOST_PADS, fixed=True)
    """Coloured pads on the table, for tasks that put a block on one."""
    lockstep: bool = fixed(False)
    """Wait for one command per topic after each observation, and simulate one step as fast as possible."""
    publish_clock: bool = fixed(False)
    """Publish simulated time on ``/clock`` and stamp with it; always so in lockstep."""
    real_time_factor: float = limited(1.0, 0.05, 20.0, fixed=True)
    """Simulated seconds per second; others than 1 need ``publish_clock``."""


class SimNode(Node):  # type: ignore[misc, unused-ignore]
    """`_scene` guards the world, `_mail` the newest command; whoever takes both takes `_scene` first."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        self._contract = contract = Contract.load(settings.contract)
        if contract.simulator != "mujoco":
            raise UserError(f"contract '{contract.name}' names the simulator '{contract.simulator}', not mujoco")
        messages.check_contract(contract)
        self._own_time = settings.publish_clock or settings.lockstep
        if settings.real_time_factor != 1.0 and not self._own_time:
            raise UserError("parameter 'real_time_factor': values other than 1.0 need publish_clock:=true")
        if self.get_parameter("use_sim_time").value and not self._own_time:
            raise UserError("parameter 'use_sim_time': the simulator makes the time, it needs publish_clock:=true")
        self._refuse_twin()
        self._scene = threading.RLock()
        self._mail = threading.Condition()
        self._closing = threading.Event()
        # time begins with the clock's, so that a new run's times follow the last one's
        self._world = Tabletop(contract, time.time_ns(), pads=settings.pads)
        self._topics = SimTopics(self, contract, self._world, clock=self._own_time)
        self._answer = self._world.target  # (action_dim,) the newest command
        self._answered_ns = [0] * len(contract.commands)
        self._observed_ns = self._oldest_ns = self._seen_ns = 0
        self._open_topics()
        follow(self, settings, self._change)
        self._new_scene()
        mode = "in lockstep" if settings.lockstep else f"at {settings.real_time_factor:g} x real time"
        self.get_logger().info(f"simulating '{contract.name}' {mode}, observations at {contract.rate_hz:g} Hz")
        self._thread = threading.Thread(target=self._simulate, name="simulation")
        self._thread.start()

    def _refuse_twin(self) -> None:
        """Two simulators would fight over the same topics."""
        own, deadline = (self.get_name(), self.get_namespace()), time.monotonic() + GRAPH_S
        while time.monotonic() < deadline:
            if self.get_node_names_and_namespaces().count(own) > 1:
                raise UserError(
                    f"a node {self.get_fully_qualified_name()} already runs in ROS domain "
                    f"{self.context.get_domain_id()}: end it, or choose another ROS_DOMAIN_ID"
                )
            time.sleep(0.05)

    def _open_topics(self) -> None:
        commands = MutuallyExclusiveCallbackGroup()
        first = 0
        for index, command in enumerate(self._contract.commands):
            place = slice(first, first := first + len(command.dims))
            self._subscribe(index, command, place, commands)
        self.create_subscription(MarkerArray, "~/move", self._move, RELIABLE, callback_group=commands)
        self.create_service(Trigger, "~/reset", self._reset, callback_group=MutuallyExclusiveCallbackGroup())

    def _change(self, settings: Settings) -> None:
        self._settings = settings

    # --- callbacks ------------------------------------------------------------------------------------------

    def _subscribe(self, index: int, command: Command, place: slice, group: Any) -> None:
        def receive(message: Any) -> None:
            try:
                values = messages.command_values(message, command)
            except UserError as error:
                self.get_logger().error(f"ignored: {error}", throttle_duration_sec=REPEAT_S)
                return
            if not np.isfinite(values).all():
                self.get_logger().error(
                    f"ignored: command '{command.name}' ({command.topic}) holds NaN or infinity",
                    throttle_duration_sec=REPEAT_S,
                )
                return
            with self._mail:
                stamp_ns = messages.stamp_ns(message)
                if stamp_ns is None:
                    stamp_ns = self._observed_ns
                if stamp_ns < self._oldest_ns:
                    return  # meant for an observation, or a scene, that is over
                self._answer[place] = values
                self._answered_ns[index] = stamp_ns
                self._mail.notify_all()

        kind = messages.message_class(command.type)
        self.create_subscription(kind, command.topic, receive, RELIABLE, callback_group=group)

    def _move(self, message: Any) -> None:
        """Somebody puts blocks elsewhere: markers as on ``~/blocks``."""
        try:
            with self._scene:
                self._world.move(blocks_of(message))
        except UserError as error:
            self.get_logger().error(f"ignored: {error}")

    def _reset(self, _request: Any, response: Any) -> Any:
        seed, stamp_ns = self._new_scene()
        response.success, response.message = True, json.dumps({"seed": seed, "stamp_ns": stamp_ns})
        return response

    # --- the scene ------------------------------------------------------------------------------------------

    def _new_scene(self) -> tuple[int, int]:
        """Make the scene of the next seed and show it; that seed and the stamp [ns] of its first observation."""
        with self._scene:
            seed = self._settings.seed
            self._world.reset(seed)
            self._world.time_ns += self._contract.step_ns  # time goes on, and no stamp comes twice
            self.set_parameters([Parameter("seed", value=(seed + 1) % LARGEST_SEED)])
            with self._mail:
                self._answer = self._world.target
                self._oldest_ns = self._now()
            stamp_ns = self._observe()
        colours = ", ".join(block.colour for block in self._world.blocks)
        self.get_logger().info(f"scene {seed}: blocks {colours}")
        return seed, stamp_ns

    def _now(self) -> int:
        return self._world.time_ns if self._own_time else int(self.get_clock().now().nanoseconds)

    def _observe(self) -> int:
        """Publish what is measured and seen now, the images last; the stamp of it all [ns]."""
        stamp_ns = self._now()
        with self._mail:
            self._observed_ns = stamp_ns
            if self._settings.lockstep:
                self._oldest_ns = stamp_ns
        self._seen_ns = self._world.time_ns
        self._topics.publish(stamp_ns)
        return stamp_ns

    # --- simulation thread ----------------------------------------------------------------------------------

    def _simulate(self) -> None:
        try:
            if self._settings.lockstep:
                self._run_in_lockstep()
            else:
                self._run_in_real_time()
        except Exception as error:
            if self.context.ok() and not self._closing.is_set():
                self.get_logger().error(traceback.format_exc())
                self.failure = f"simulation failed: {error}"
                self.context.try_shutdown()

    def _step(self, duration_ns: int) -> None:
        with self._mail:
            answer = self._answer.copy()
        self._world.command(answer)
        self._world.step(duration_ns / 1e9)

    def _run_in_real_time(self) -> None:
        period_s = CONTROL_STEP_NS / 1e9 / self._settings.real_time_factor
        due_s = time.monotonic()
        while not self._closing.is_set():
            due_s += period_s
            late_s = time.monotonic() - due_s
            if late_s > LATE_S:
                self.get_logger().warning(f"too slow for real time by {late_s:.1f} s", throttle_duration_sec=REPEAT_S)
                due_s += late_s
            with self._scene:
                self._step(CONTROL_STEP_NS)
                if self._world.time_ns - self._seen_ns >= self._contract.step_ns:
                    self._observe()
                else:
                    self._topics.tell_time(self._world.time_ns)
            self._closing.wait(max(0.0, due_s - time.monotonic()))

    def _run_in_lockstep(self) -> None:
        while not self._closing.is_set():
            if self._wait_for_answer():
                with self._scene:
                    if self._is_answered():  # a reset may have come between
                        self._step(self._contract.step_ns)
                        self._observe()
            elif not self._closing.is_set():
                with self._scene:
                    self._topics.publish(self._observed_ns)

    def _is_answered(self) -> bool:
        return min(self._answered_ns) >= self._observed_ns

    def _wait_for_answer(self) -> bool:
        """True as soon as each command topic has answered the newest observation; False when it is to be repeated.

        Whoever comes later has missed the observation that waits for an answer: it is repeated for them, too.
        """
        listeners, end_s = self._topics.listeners(), time.monotonic() + REPEAT_S
        while not self._closing.is_set() and time.monotonic() < end_s and self._topics.listeners() <= listeners:
            with self._mail:
                if self._mail.wait_for(lambda: self._closing.is_set() or self._is_answered(), timeout=0.25):
                    return not self._closing.is_set()
        return False

    def close(self) -> None:
        """Stop simulating."""
        self._closing.set()
        with self._mail:
            self._mail.notify_all()
        self._thread.join(10.0)


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros sim_node``."""
    return spin(SimNode, threads=3)


if __name__ == "__main__":
    sys.exit(main())
