"""The policy node's thread: it infers on the newest complete observation, and hands over what was decided."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from robovlm_ros.action import ActionChunk
from robovlm_ros.alignment import Aligner
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.control import Controller
from robovlm_ros.runtime.rtc import Committed

if TYPE_CHECKING:
    from robovlm_ros.runtime.engine import PolicyEngine

POLL_S = 0.05
"""How long inference sleeps at most before it looks whether an observation's grace period is over [s]."""
REMEMBERED = 10
"""An inference is expected to take as long as the longest of so many before it."""
JOIN_S = 10.0
"""How long an inference may take to end [s]."""


class Inference:
    """`_sensing` guards what arrives; it is not held while a decision is handed over."""

    def __init__(
        self,
        engine: PolicyEngine,
        contract: Contract,
        controller: Controller,
        *,
        lockstep: bool,
        now: Callable[[], int],
        delay_s: Callable[[], float],
        committed: Callable[[Observation, int], Committed | None],
        decided: Callable[[ActionChunk, Observation, int, int], bool],
        failed: Callable[[str, str], None],
    ) -> None:
        """`now`: the robot's time [ns]; `delay_s`: by how much to make an inference longer.

        `committed` says what a decision on an observation, that comes at a time [ns], is to go on from. `decided` takes
        a chunk, its observation, how long the inference took [ns] and the run that it belongs to, and says whether it
        came in time. `failed` takes one line and the whole story; then the thread has ended.
        """
        self._engine, self._controller, self._lockstep = engine, controller, lockstep
        self._now, self._delay_s, self._failed = now, delay_s, failed
        self._committed, self._decided = committed, decided
        self._lasted_ns: deque[int] = deque(maxlen=REMEMBERED)  # how long inferences took
        self._sensing = threading.Condition()
        self._aligner = Aligner(contract, engine.cameras)
        self._news = self._closing = False
        self._pending: Observation | None = None
        self._run = 0
        self.complaint: str | None = None
        """Why the samples that arrive are of no use; None: they are of use."""
        self.cameras = self._aligner.cameras
        """Cameras that the policy looks at."""
        self.places = self._aligner.newest_states
        """See `Aligner.newest_states`."""
        self._thread = threading.Thread(target=self._infer_until_closed, name="inference")

    def begin(self) -> None:
        """Infer from now on."""
        self._thread.start()

    def end(self) -> None:
        """Infer no more; waits for the inference that runs."""
        with self._sensing:
            self._closing = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)

    def add(self, topic: str, message: Any, now_ns: int) -> None:
        """A message on a topic of the contract that was received at `now_ns`."""
        try:
            with self._sensing:
                self._aligner.add_message(topic, message, now_ns)
                self._wake()
        except UserError as error:
            self.complaint = str(error)

    def wake(self) -> None:
        """Look again at what is to be done."""
        with self._sensing:
            self._wake()

    def ages(self, now_ns: int) -> dict[str, float]:
        """See `Aligner.ages`."""
        return self._aligner.ages(now_ns)

    def _wake(self) -> None:
        self._news = True
        self._sensing.notify()

    def _infer_until_closed(self) -> None:
        try:
            while not self._closing:
                observation = self._next_observation()
                if observation is not None:
                    self._decide(observation)
        except Exception as error:
            if not self._closing:
                self._failed(f"inference failed: {error}", traceback.format_exc())

    def _next_observation(self) -> Observation | None:
        """Wait for the newest complete observation that is to be answered."""
        with self._sensing:
            if not self._news:
                self._sensing.wait(POLL_S)
            self._news = False
            if self._run != self._controller.run:  # what comes next is another run
                self._run = self._controller.run
                self._engine.reset()
            try:
                observation = self._aligner.newest_observation(None if self._lockstep else self._now())
            except UserError as error:
                self.complaint = str(error)
                return None
        if observation is not None:
            self.complaint = None
        elif self._lockstep:  # the simulator waits for this answer, however long the person thinks
            observation = self._pending
        self._pending = observation if self._lockstep else None
        instruction = self._controller.instruction
        if not self._controller.wants(instruction):
            self._engine.reset()
            return None
        if observation is None:
            return None
        return dataclasses.replace(observation, instruction=instruction)

    def _decide(self, observation: Observation) -> None:
        committed = self._committed(observation, self._now() + max(self._lasted_ns, default=0))
        begin_ns = time.perf_counter_ns()
        chunk = self._engine.infer(observation, committed=committed)
        if self._delay_s():
            self._linger(observation, begin_ns)
        self._lasted_ns.append(time.perf_counter_ns() - begin_ns)
        if self._decided(chunk, observation, self._lasted_ns[-1], self._run):
            self._pending = None

    def _linger(self, observation: Observation, begin_ns: int) -> None:
        """Compute for longer, as a larger model would: infer again, and wait for less than an inference at the end."""
        once_ns = time.perf_counter_ns() - begin_ns
        end_ns = begin_ns + once_ns + round(self._delay_s() * 1e9)
        memory = self._engine.memory
        while (left_ns := end_ns - time.perf_counter_ns()) > once_ns and not self._closing:
            self._engine.infer(observation)
        self._engine.memory = memory
        time.sleep(max(left_ns, 0) / 1e9)
