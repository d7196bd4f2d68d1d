"""The policy as a ROS 2 node: cameras, state and an instruction in; commands at the contract's rate out.

Callbacks hand messages to the aligner; a thread infers on its newest complete observation; a timer sends the
command that is due, through the safety filter, and waits for neither.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger

from robovlm_ros import messages
from robovlm_ros.alignment import Aligner
from robovlm_ros.checkpoints import find_checkpoint, find_contract
from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.nodes.commands import CommandTopics
from robovlm_ros.nodes.diagnostics import in_words
from robovlm_ros.nodes.emergency import guard_topics
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.instruction import hear_instructions
from robovlm_ros.nodes.intervention import obey_interventions
from robovlm_ros.nodes.parameters import declare, follow
from robovlm_ros.nodes.policy_report import PolicyReport
from robovlm_ros.nodes.policy_settings import Settings
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.control import Controller

LONGEST_INSTRUCTION = 1000
"""Longer instructions are refused [characters]."""
POLL_S = 0.05
"""How long inference sleeps at most before it looks whether an observation's grace period is over [s]."""
SWITCH_S = 0.0005
"""How long threads may let each other wait [s]: with Python's 5 ms, inference now and then makes a command late by
as much (`benchmark control` measures it)."""


class PolicyNode(Node):  # type: ignore[misc, unused-ignore]
    """`_sensing` guards what arrives, `_acting` what is decided and sent; neither is held while the other is taken."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self.failure: str | None = None
        self._settings = settings = declare(self, Settings)
        folder = find_checkpoint(settings.checkpoint)
        self._contract = find_contract(folder, settings.contract)
        messages.check_contract(self._contract)
        messages.check_installed(self._contract)
        from robovlm_ros.runtime.engine import PolicyEngine  # takes seconds: what is wrong above is said at once

        self._engine = PolicyEngine.load(
            folder, settings.device, settings.threads, dtype=settings.dtype, attention=settings.attention
        )
        self._engine.warm_up()
        gc.freeze()  # collecting all that was loaded would cost tenths of a second, now and then and at the end
        self._sensing = threading.Condition()
        self._aligner = Aligner(self._contract, self._engine.cameras)
        self._news = self._closing = False
        self._told = bool(settings.instruction.strip())  # an empty instruction is one, too
        self._pending: Observation | None = None
        self._run = 0
        self._complaint: str | None = None
        self._acting = threading.Lock()
        self._controller = Controller(
            self._contract,
            max_chunk_age_ns=round(settings.max_chunk_age_s * 1e9),
            lockstep=settings.lockstep,
            now_ns=time.monotonic_ns(),
            strategy=settings.strategy_for(self._contract),
        )
        self._controller.instruct(settings.instruction.strip())
        timeout_ns = round(settings.dead_man_timeout_s * 1e9) if settings.dead_man_topic else None
        self._guard = Guard(dead_man_timeout_ns=timeout_ns)
        self._open_topics()
        follow(self, settings, self._change)
        self._thread = threading.Thread(target=self._infer_until_closed, name="inference")
        self._thread.start()

    def _open_topics(self) -> None:
        contract, lockstep = self._contract, self._settings.lockstep
        # Best effort receives from every camera driver, reliable or not, and never delays the newest frame for a
        # lost one. In lockstep a lost message would stop the world, and the simulator offers reliable.
        reliability = ReliabilityPolicy.RELIABLE if lockstep else ReliabilityPolicy.BEST_EFFORT
        sensors = QoSProfile(depth=20, reliability=reliability)
        inputs = [(camera.name, camera.topic, camera.type) for camera in self._aligner.cameras]
        inputs += [(source.name, source.topic, source.type) for source in contract.state]
        for _, topic, type_name in inputs:
            self._subscribe(type_name, topic, sensors)
        # With a depth of 1 the newest text is also the last one read, through whichever subscription it came.
        hear_instructions(self, contract, self._on_instruction)
        self._commands = CommandTopics(self, contract, dry_run=self._settings.dry_run)
        obey_interventions(self, contract, self._intervene)
        self._report = PolicyReport(self, contract, inputs)
        stops = (self._settings.emergency_stop_topic, self._settings.dead_man_topic)
        guard_topics(self, self._obey, stop_topic=stops[0], dead_man_topic=stops[1])
        self.create_service(Trigger, "~/start", lambda _request, response: self._switch(True, response))
        self.create_service(Trigger, "~/stop", lambda _request, response: self._switch(False, response))
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the robot's time does not
        self.create_timer(0.5, self._watch, MutuallyExclusiveCallbackGroup(), clock=steady)
        if not lockstep:
            self.create_timer(1.0 / contract.command_rate_hz, self._send_due, MutuallyExclusiveCallbackGroup())

    def _change(self, settings: Settings) -> None:
        with self._acting:
            self._controller.follow_strategy(settings.strategy_for(self._contract))
        self._settings = settings

    # --- callbacks: copy, check, hand off ---------------------------------------------------------------------

    def _subscribe(self, kind: str, topic: str, qos: QoSProfile) -> None:
        repeats = self._settings.lockstep and topic == self._aligner.cameras[0].topic

        def receive(message: Any) -> None:
            now_ns = self._now()
            try:
                with self._sensing:
                    self._aligner.add_message(topic, message, now_ns)
                    self._wake()
            except UserError as error:
                self._complaint = str(error)
            if repeats:
                self._answer_again(messages.stamp_ns(message) or now_ns)

        self.create_subscription(messages.message_class(kind), topic, receive, qos)

    def _on_instruction(self, message: Any, _latched: bool) -> None:
        text = messages.instruction(message)
        if len(text) > LONGEST_INSTRUCTION:
            self.get_logger().error(f"refused an instruction of {len(text)} characters (at most {LONGEST_INSTRUCTION})")
            return
        self._told = True
        with self._acting:
            self._controller.instruct(text)
        with self._sensing:
            self._wake()

    def _switch(self, running: bool, response: Any) -> Any:
        with self._acting:
            if running and self._guard.stopped:
                response.success, response.message = False, self._guard.refusal(time.monotonic_ns())
                return response
            self._controller.switch(running)
        with self._sensing:
            self._wake()
        response.success, response.message = True, "running" if running else "stopped: the robot holds"
        if running and self._controller.yielded:
            response.message = "running, once the person who has taken over hands back"
        return response

    def _obey(self, change: Callable[[Guard], None]) -> None:
        """Change the guard, and have the robot obey it at once."""
        with self._acting:
            change(self._guard)
            if self._guard.stopped and self._controller.running:
                self._controller.switch(False)  # a reset alone starts nothing
            self._send(self._now())

    def _intervene(self, yielded: bool) -> None:
        with self._acting:
            self._publish(self._controller.intervene(yielded, self._now()), self._now())
        with self._sensing:
            self._wake()

    def _wake(self) -> None:
        self._news = True
        self._sensing.notify()

    # --- inference thread -------------------------------------------------------------------------------------

    def _infer_until_closed(self) -> None:
        try:
            while not self._closing:
                observation = self._next_observation()
                if observation is not None:
                    self._decide(observation)
        except Exception as error:
            if self.context.ok() and not self._closing:  # otherwise the topics were closed under our hands: the end
                self.get_logger().error(traceback.format_exc())
                self._fail(f"inference failed: {error}")

    def _next_observation(self) -> Observation | None:
        """Wait for the newest complete observation that is to be answered."""
        lockstep = self._settings.lockstep
        with self._sensing:
            if not self._news:
                self._sensing.wait(POLL_S)
            self._news = False
            if self._run != self._controller.run:  # what comes next is another run
                self._run = self._controller.run
                self._engine.reset()
            try:
                observation = self._aligner.newest_observation(None if lockstep else self._now())
            except UserError as error:
                self._complaint = str(error)
                return None
        if observation is not None:
            self._complaint = None
        elif lockstep:  # the simulator waits for this answer, however long the person thinks
            observation = self._pending
        self._pending = observation if lockstep else None
        instruction = self._controller.instruction
        if not self._controller.wants(instruction):
            self._engine.reset()
            return None
        if observation is None:
            return None
        return dataclasses.replace(observation, instruction=instruction)

    def _decide(self, observation: Observation) -> None:
        begin_ns = time.perf_counter_ns()
        chunk = self._engine.infer(observation)
        if self._settings.inference_delay_s:
            self._linger(observation, begin_ns)
        inference_ns = time.perf_counter_ns() - begin_ns
        with self._acting:
            now_ns = observation.stamp_ns if self._settings.lockstep else self._now()
            if self._controller.decided(chunk, observation, inference_ns, self._run, now_ns):
                self._pending = None
                if self._settings.lockstep:  # otherwise the loop sends: a robot gets a steady stream
                    self._send(now_ns)

    def _linger(self, observation: Observation, begin_ns: int) -> None:
        """Compute for longer, as a larger model would: infer again, and wait for less than an inference at the end."""
        once_ns = time.perf_counter_ns() - begin_ns
        end_ns = begin_ns + once_ns + round(self._settings.inference_delay_s * 1e9)
        memory = self._engine.memory
        while (left_ns := end_ns - time.perf_counter_ns()) > once_ns and not self._closing:
            self._engine.infer(observation)
        self._engine.memory = memory
        time.sleep(max(left_ns, 0) / 1e9)

    # --- commands ---------------------------------------------------------------------------------------------

    def _send_due(self) -> None:
        with self._acting:
            self._send(self._now())

    def _answer_again(self, stamp_ns: int) -> None:
        """In lockstep, an observation that comes twice was answered by a command that got lost."""
        with self._acting:
            if self._controller.answered(stamp_ns):
                self._send(stamp_ns)

    def _send(self, now_ns: int) -> None:
        """Send what is due, unless all has ended; the caller holds `_acting`."""
        if self._closing or self.failure is not None:
            return
        self._controller.forbid(self._guard.refusal(time.monotonic_ns()))
        if self._publish(self._controller.command(now_ns, self._aligner.ages(now_ns)), now_ns):
            self._controller.sent(self._now())

    def _publish(self, values: NDArray[np.float64] | None, stamp_ns: int) -> bool:
        if values is not None:
            self._commands.publish(values, stamp_ns, self._controller.path, paths=True)
        return values is not None

    # --- what a person reads ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        now_ns = self._now()
        ages_s = self._aligner.ages(now_ns)
        self._report.watch(self._controller, now_ns, ages_s, self._complaint, self._settings.statistics_period_s)
        hopeless = self._report.wrong_types(ages_s, self._told)
        if hopeless is not None:
            self._fail(hopeless)

    def _fail(self, text: str) -> None:
        """End this node with a reason, and all motion before it."""
        self.failure = self.failure or text
        self._halt()
        self.context.try_shutdown()

    def close(self) -> None:
        """End all motion, join the inference thread and leave the figures of the whole run."""
        with self._sensing:
            self._closing = True
            self._wake()
        self._halt()
        self._thread.join(10.0)
        self.get_logger().info(in_words(self._controller.figures(time.monotonic_ns())))

    def _halt(self) -> None:
        if self.context.ok():
            with self._acting:
                self._publish(self._controller.halt(self._now()), self._now())

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main() -> int:
    sys.setswitchinterval(SWITCH_S)
    """Entry point of ``ros2 run robovlm_ros policy_node``."""
    return spin(PolicyNode, threads=4, last_words=True)


if __name__ == "__main__":
    sys.exit(main())
