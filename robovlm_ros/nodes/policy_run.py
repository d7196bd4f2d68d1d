"""What there is of the policy node while it is configured: topics, the thread that infers and the loop that commands.

Callbacks hand messages to the aligner; a thread infers on its newest complete observation; another one sends the
command that is due, through the safety filter, and waits for neither.
"""

from __future__ import annotations

import gc
import threading
import time
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
from robovlm_ros.action import ActionChunk
from robovlm_ros.checkpoints import find_checkpoint, find_contract
from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.nodes.command_loop import CommandLoop
from robovlm_ros.nodes.commands import CommandTopics
from robovlm_ros.nodes.description import within_description
from robovlm_ros.nodes.diagnostics import in_words
from robovlm_ros.nodes.instruction import hear_instructions
from robovlm_ros.nodes.intervention import obey_interventions
from robovlm_ros.nodes.overrides import overridable
from robovlm_ros.nodes.policy_inference import Inference
from robovlm_ros.nodes.policy_report import PolicyReport
from robovlm_ros.nodes.policy_settings import Settings
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.control import Controller
from robovlm_ros.runtime.rtc import Committed
from robovlm_ros.runtime.strategies import STRATEGIES, Strategy

INACTIVE = "inactive: nothing is sent until the node is activated"


class PolicyRun:
    """`_acting` guards what is decided and sent; `Inference` what arrives; neither is held while the other is taken."""

    def __init__(self, node: Node, settings: Settings, guard: Guard, fail: Callable[[str], None]) -> None:
        """Load the policy and open its topics; this takes time. UserError says what cannot be.

        `fail` is called with one line when the node can do nothing more.
        """
        self._node, self._settings, self._guard, self._fail = node, settings, guard, fail
        folder = find_checkpoint(settings.checkpoint)
        contract = find_contract(folder, settings.contract)
        messages.check_contract(contract)
        messages.check_installed(contract)
        self._contract = contract = within_description(node, contract)
        strategy = settings.strategy_for(contract)
        from robovlm_ros.runtime.engine import PolicyEngine  # takes seconds: what is wrong above is said at once

        self.engine = PolicyEngine.load(
            folder,
            settings.device,
            settings.threads,
            dtype=settings.dtype,
            attention=settings.attention,
            fast=settings.fast,
            precision=settings.precision,
        )
        self._check(strategy)
        self.engine.warm_up()
        node.get_logger().info(f"inference: {self.engine.described}")
        gc.freeze()  # collecting all that was loaded would cost tenths of a second, now and then and at the end
        self.told = bool(settings.instruction.strip())  # an empty instruction is one, too
        """Whether an instruction was ever given."""
        self._active = self._closing = False
        self._acting = threading.Lock()
        self.controller = Controller(
            contract,
            max_chunk_age_ns=round(settings.max_chunk_age_s * 1e9),
            lockstep=settings.lockstep,
            now_ns=time.monotonic_ns(),
            strategy=strategy,
        )
        self.controller.instruct(settings.instruction.strip())
        self.controller.forbid(INACTIVE)
        self._inference = Inference(
            self.engine,
            contract,
            self.controller,
            lockstep=settings.lockstep,
            now=self._now,
            delay_s=lambda: self._settings.inference_delay_s,
            committed=self._committed,
            decided=self._decided,
            failed=self._thread_failed,
        )
        self._loop = CommandLoop(contract.command_rate_hz, self._send_due, self._thread_failed)
        self._open_topics()
        self._inference.begin()

    def _open_topics(self) -> None:
        node, contract, lockstep = self._node, self._contract, self._settings.lockstep
        # Best effort receives from every camera driver, reliable or not, and never delays the newest frame for a
        # lost one. In lockstep a lost message would stop the world, and the simulator offers reliable.
        reliability = ReliabilityPolicy.RELIABLE if lockstep else ReliabilityPolicy.BEST_EFFORT
        sensors = QoSProfile(depth=20, reliability=reliability)
        inputs = [(camera.name, camera.topic, camera.type) for camera in self._inference.cameras]
        inputs += [(source.name, source.topic, source.type) for source in contract.state]
        self._report = PolicyReport(node, contract, inputs)
        for name, topic, type_name in inputs:
            self._subscribe(name, type_name, topic, sensors)
        # With a depth of 1 the newest text is also the last one read, through whichever subscription it came.
        hear_instructions(node, contract, self._on_instruction)
        self._commands = CommandTopics(node, contract, dry_run=self._settings.dry_run, managed=True)
        obey_interventions(node, contract, self._intervene)
        node.create_service(Trigger, "~/start", lambda _request, response: self._switch(True, response))
        node.create_service(Trigger, "~/stop", lambda _request, response: self._switch(False, response))
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the robot's time does not
        node.create_timer(0.5, self._watch, MutuallyExclusiveCallbackGroup(), clock=steady)
        if lockstep:
            return
        if node.get_parameter("use_sim_time").value:  # a period of the simulator's time, which only timers know
            node.create_timer(1.0 / contract.command_rate_hz, self._send_due, MutuallyExclusiveCallbackGroup())
        else:
            self._loop.begin()
            self._hurry()

    def _hurry(self) -> None:
        if self._settings.realtime_priority:
            try:
                self._loop.hurry(self._settings.realtime_priority)
            except UserError as error:
                self._node.get_logger().info(str(error))

    def activate(self, active: bool) -> None:
        """Commands leave from now on (True), or motion is ended and nothing leaves any more (False)."""
        with self._acting:
            if self._active and not active:
                self._publish(self.controller.halt(self._now()), self._now())
            self._active = active
            self._send(self._now())
        self._inference.wake()

    def change(self, settings: Settings) -> None:
        """Other parameters, while running; UserError when they cannot be."""
        strategy = settings.strategy_for(self._contract)
        self._check(strategy)
        with self._acting:
            self.controller.follow_strategy(strategy)
        self._settings = settings

    def _check(self, strategy: Strategy) -> None:
        """UserError when this policy's decisions cannot go on from one another."""
        if strategy.guidance is not None and not self.engine.draws:
            head = (self.engine.policy.config.head or {}).get("type", "mlp")
            others = ", ".join(name for name in STRATEGIES if name != "rtc")
            raise UserError(
                f"strategy 'rtc' needs a policy with head flow or diffusion, not '{head}' (others: {others})"
            )

    def obey(self, change: Callable[[Guard], None]) -> None:
        """Change the guard, and have the robot obey it at once."""
        with self._acting:
            change(self._guard)
            if self._guard.stopped and self.controller.running:
                self.controller.switch(False)  # a reset alone starts nothing
            self._send(self._now())

    # --- callbacks: copy, check, hand off ---------------------------------------------------------------------

    def _subscribe(self, name: str, kind: str, topic: str, qos: QoSProfile) -> None:
        repeats = self._settings.lockstep and topic == self._inference.cameras[0].topic

        def receive(message: Any) -> None:
            now_ns = self._now()
            self._report.heard(name, messages.frame_of(message))
            self._inference.add(topic, message, now_ns)
            if repeats:
                self._answer_again(messages.stamp_ns(message) or now_ns)

        self._node.create_subscription(messages.message_class(kind), topic, receive, qos, **overridable())

    def _on_instruction(self, message: Any, _latched: bool) -> None:
        text = messages.instruction(message)
        try:
            messages.check_instruction(text)
        except UserError as error:
            self._node.get_logger().error(f"{error}; the one before it holds")
            return
        self.told = True
        with self._acting:
            self.controller.instruct(text)
        self._inference.wake()

    def _switch(self, running: bool, response: Any) -> Any:
        with self._acting:
            if running and self._guard.stopped:
                response.success, response.message = False, self._guard.refusal(time.monotonic_ns())
                return response
            self.controller.switch(running)
        self._inference.wake()
        response.success, response.message = True, "running" if running else "stopped: the robot holds"
        if running and self.controller.yielded:
            response.message = "running, once the person who has taken over hands back"
        elif running and not self._active:
            response.message = "running, once the node is activated"
        return response

    def _intervene(self, yielded: bool) -> None:
        with self._acting:
            self._publish(self.controller.intervene(yielded, self._now()), self._now())
        self._inference.wake()

    # --- commands ---------------------------------------------------------------------------------------------

    def _committed(self, observation: Observation, arrival_ns: int) -> Committed | None:
        with self._acting:
            return self.controller.committed(observation.stamp_ns, arrival_ns)

    def _decided(self, chunk: ActionChunk, observation: Observation, inference_ns: int, run: int) -> bool:
        lockstep = self._settings.lockstep
        with self._acting:
            now_ns = observation.stamp_ns if lockstep else self._now()
            taken = self.controller.decided(chunk, observation, inference_ns, run, now_ns)
            if taken and lockstep:  # otherwise the loop sends: a robot gets a steady stream
                self._send(now_ns)
        return taken

    def _send_due(self) -> None:
        with self._acting:
            self.controller.tick(time.monotonic_ns())
            self._send(self._now())

    def _answer_again(self, stamp_ns: int) -> None:
        """In lockstep, an observation that comes twice was answered by a command that got lost."""
        with self._acting:
            if self.controller.answered(stamp_ns):
                self._send(stamp_ns)

    def _send(self, now_ns: int) -> None:
        """Send what is due, unless all has ended; the caller holds `_acting`."""
        if self._closing:
            return
        self.controller.forbid(self._guard.refusal(time.monotonic_ns()) or (None if self._active else INACTIVE))
        if self._publish(self.controller.command(now_ns, self._inference.ages(now_ns), self._inference.places), now_ns):
            self.controller.sent(self._now())

    def _publish(self, values: NDArray[np.float64] | None, stamp_ns: int) -> bool:
        if values is not None:
            self._commands.publish(values, stamp_ns, self.controller.path, paths=True)
        return values is not None

    # --- what a person reads, and the end ---------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._active:
            return
        now_ns = self._now()
        ages_s, period_s = self._inference.ages(now_ns), self._settings.statistics_period_s
        self._report.watch(self.controller, now_ns, ages_s, self._inference.complaint, period_s)
        hopeless = self._report.wrong_types(ages_s, self.told)
        if hopeless is not None:
            self._fail(hopeless)

    def _thread_failed(self, text: str, story: str) -> None:
        if self._node.context.ok() and not self._closing:  # otherwise the topics were closed under our hands: the end
            self._node.get_logger().error(story)
            self._fail(text)

    def end(self) -> None:
        """End all motion: nothing is sent any more."""
        if self._node.context.ok():
            with self._acting:
                self._publish(self.controller.halt(self._now()), self._now())
        self._closing = True

    def close(self) -> None:
        """`end`, join the inference thread and leave the figures of the whole run."""
        self.end()
        self._loop.end()
        self._inference.end()
        self._node.get_logger().info(in_words(self.controller.figures(time.monotonic_ns())))

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)
