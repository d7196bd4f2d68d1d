"""From decisions to safe commands: chunk execution, the safety filter, and what a person should know of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.executor import ChunkExecutor
from robovlm_ros.runtime.rtc import Committed
from robovlm_ros.runtime.strategies import FIRST, Strategy
from robovlm_ros.safety import SafetyFilter, Verdict, measured_action
from robovlm_ros.statistics import Durations, Rate, Shares
from robovlm_ros.workspace import Places

STOPPING_S = 0.5
"""What ends a motion is sent again and again for this time, should a message be lost [s]."""


Path = tuple[NDArray[np.float64], NDArray[np.int64]]
"""(n, action_dim) safe values and the (n,) times when they are due [ns], n > 0."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the controller is doing, for people."""

    key: str
    """What kind of situation this is; it stays while the sentence changes."""
    sentence: str
    """The situation in words."""
    well: bool
    """True: an instruction is being followed."""
    holding: bool
    """True: the robot holds although there is something to do."""


class Controller:
    """Executes decisions for one instruction at a time. Pure (time is an argument) and not thread-safe."""

    def __init__(
        self, contract: Contract, *, max_chunk_age_ns: int, lockstep: bool, now_ns: int, strategy: Strategy = FIRST
    ) -> None:
        """`max_chunk_age_ns`: see ChunkExecutor; `lockstep`: each decision is executed once, at its observation's
        time; `now_ns`: any steady time, from which rates are counted [ns]."""
        period_ns = contract.step_ns if lockstep else round(1e9 / contract.command_rate_hz)
        self.instruction = ""
        """What to do; empty: nothing."""
        self.running = True
        """False after a person's stop: nothing is sent."""
        self.yielded = False
        """True while a person commands the robot: nothing is sent."""
        self.run = 0
        """Counts starts, stops and changes of who commands: what was seen before one is no ground to act after it."""
        self.latency = Durations()
        """From the observation's stamp to the first command that rests on it."""
        self.inference = Durations()
        """Of one inference."""
        self.forbidden: str | None = None
        """Why nothing may be sent, whoever wants it; None: it may."""
        self._topic = contract.instruction_topic
        self._contract = contract
        self._lockstep = lockstep
        self._executor = ChunkExecutor(contract, max_age_ns=max_chunk_age_ns, strategy=strategy)
        self._gate = SafetyFilter(contract, period_ns=period_ns)
        self._decisions, self._commands = Rate(now_ns), Rate(now_ns)
        self._disagreement = Shares()
        self._missed, self._ticked_ns = 0, 0
        self._verdict: Verdict | None = None
        self._measured: NDArray[np.float64] | None = None
        self._velocity = contract.velocity  # (action_dim,)
        self._range = np.where(contract.binary, np.inf, np.ptp(contract.limits, axis=1))  # (action_dim,)
        self._whole = any(command.trajectory == "chunk" for command in contract.commands)
        moves = self._whole or bool(self._velocity.any())  # by itself, when nothing more is sent
        self._stops = max(1, round(STOPPING_S * 1e9 / period_ns)) if moves else 0
        self._period_ns = period_ns
        self.path: Path | None = None
        """What trajectories of whole chunks are to hold since the last `command`; None: what was said last holds."""
        self._path_is_due = False
        self._stops_left = 0
        self._safe: NDArray[np.float64] | None = None
        self._decided_ns: int | None = None
        self._unanswered_ns: int | None = None

    def instruct(self, text: str) -> None:
        """Follow another instruction: what was decided for the old one is dropped."""
        if text != self.instruction:
            self.instruction = text
            self._executor.clear()
            self._verdict = None
            if not text:
                self._gate.restart()  # what comes next starts from where the robot stands by then

    def switch(self, running: bool) -> None:
        """A person's start or stop."""
        self.running = running
        self._begin_run()

    def intervene(self, yielded: bool, now_ns: int) -> NDArray[np.float64] | None:
        """A person takes over (True) or hands back (False): the policy then begins anew, where the robot stands.

        What is returned is to be sent before the person commands: see `halt`.
        """
        self.yielded = yielded
        self._begin_run()
        return self.halt(now_ns) if yielded else None

    def halt(self, now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) what ends all motion at once, and is this controller's last word; None: nothing is needed."""
        stop = self._stop(now_ns)
        self._stops_left = 0
        return stop

    def forbid(self, reason: str | None) -> None:
        """While there is a reason nothing is sent but what ends all motion; after it the policy begins anew."""
        if (reason is None) != (self.forbidden is None):
            self._begin_run()
        self.forbidden = reason

    def _begin_run(self) -> None:
        self.run += 1
        self._executor.clear()
        self._verdict = None
        self._gate.restart()

    def wants(self, instruction: str) -> bool:
        """Whether a decision that follows this instruction would be executed."""
        free = self.running and not self.yielded and self.forbidden is None
        return free and bool(self.instruction) and instruction == self.instruction

    def follow_strategy(self, strategy: Strategy) -> None:
        """From now on make commands of decisions in this way."""
        self._executor.strategy = strategy

    def decided(
        self,
        chunk: ActionChunk,
        observation: Observation,
        inference_ns: int,
        run: int | None = None,
        now_ns: int | None = None,
    ) -> bool:
        """Take a decision; False if it came too late, because the robot is to do something else by now.

        `run`: that of the observation; None: this one. `now_ns`: see `ChunkExecutor.set_chunk`.
        """
        self.inference.add(inference_ns)
        self._decisions.add()
        if not self.wants(chunk.instruction) or run not in (None, self.run):
            return False
        before = None if now_ns is None else self._executor.command(now_ns)
        self._executor.set_chunk(chunk, now_ns)
        if before is not None and now_ns is not None:
            difference = np.abs(self._executor.said(now_ns) - before) / self._range  # (action_dim,)
            self._disagreement.add(float(difference.max()))
        self._path_is_due = True
        self._measured = measured_action(self._contract, observation.state)
        self._decided_ns = self._unanswered_ns = observation.stamp_ns
        return True

    def committed(self, stamp_ns: int, arrival_ns: int) -> Committed | None:
        """See `ChunkExecutor.committed`; in lockstep decisions come at once."""
        return self._executor.committed(stamp_ns, None if self._lockstep else arrival_ns)

    def tick(self, now_ns: int) -> None:
        """The loop that sends has come round, at this steady time [ns]: counts the periods that it missed."""
        if self._ticked_ns:
            self._missed += max(round((now_ns - self._ticked_ns) / self._period_ns) - 1, 0)
        self._ticked_ns = now_ns

    def command(
        self, now_ns: int, ages_s: Mapping[str, float], places: Places | None = None
    ) -> NDArray[np.float64] | None:
        """(action_dim,) what to send now, in chunk units; None: nothing. `places`: see `SafetyFilter.check`.

        In lockstep, `now_ns` is the stamp of the observation that is answered, and a refused command is answered
        with the last safe one, since the simulator waits for an answer. Positions are held by sending nothing; where
        an action is a velocity, motion ends with 0, and a trajectory's where it has got to, at once and for
        `STOPPING_S`.
        """
        wanted = self._executor.command(now_ns)
        if wanted is None:
            return self._stop(now_ns)
        self._verdict = verdict = self._gate.check(
            wanted, now_ns, ages_s={} if self._lockstep else ages_s, measured=self._measured, places=places
        )
        if verdict.holding:
            stop = self._stop(now_ns)
            return verdict.values if self._lockstep else stop
        assert verdict.values is not None
        self._safe, self._stops_left = verdict.values, self._stops
        self.path = None
        if self._whole and (self._path_is_due or self._lockstep):
            self.path, self._path_is_due = self._ahead(verdict.values, now_ns), False
        return verdict.values

    def _ahead(self, values: NDArray[np.float64], now_ns: int) -> Path:
        """What is left of the chunk behind `values`, which are sent now; at its end, those."""
        wanted, due_ns = self._executor.ahead(now_ns)
        safe = self._gate.path(wanted, due_ns)  # (n, action_dim)
        return (safe, due_ns[: len(safe)]) if len(safe) else self._rest(values, now_ns)

    def _rest(self, values: NDArray[np.float64], now_ns: int) -> Path:
        return values[None], np.array([now_ns + self._period_ns], np.int64)

    def _stop(self, now_ns: int) -> NDArray[np.float64] | None:
        """(action_dim,) what ends all motion, for as long as it is to be said; None: the robot rests."""
        if self._stops_left <= 0 or self._safe is None:
            return None
        self._stops_left -= 1
        self._unanswered_ns = None  # this command rests on no decision
        self._gate.halt(now_ns)
        resting = np.where(self._velocity, 0.0, self._safe)
        self.path, self._path_is_due = self._rest(resting, now_ns), True
        return resting

    def sent(self, now_ns: int) -> None:
        """A command has left at `now_ns` on the clock of the observations [ns]."""
        self._commands.add()
        if self._unanswered_ns is not None:
            self.latency.add(now_ns - self._unanswered_ns)
            self._unanswered_ns = None

    def answered(self, stamp_ns: int) -> bool:
        """Whether the decision in execution is the one for the observation of this stamp."""
        return self._executor.chunk is not None and self._decided_ns == stamp_ns

    def situation(self, now_ns: int, ages_s: Mapping[str, float], complaint: str | None = None) -> Situation:
        """`complaint`: why the samples that arrive are of no use."""
        refused = self._verdict.reasons if self._verdict is not None and self._verdict.holding else ()
        stale = self._gate.stale(ages_s)
        if self.forbidden is not None:
            return Situation(key="forbidden", sentence=self.forbidden, well=False, holding=True)
        if not self.running:
            return Situation(key="stopped", sentence="stopped; ~/start goes on", well=False, holding=False)
        if self.yielded:
            sentence = f"a person commands the robot ({self._contract.intervention_topic}), until they hand back"
            return Situation(key="yielded", sentence=sentence, well=True, holding=False)
        if not self.instruction:
            sentence = f"waiting for an instruction on {self._topic}"
            return Situation(key="waiting", sentence=sentence, well=False, holding=False)
        for key, reasons in (("complaint", (complaint,) if complaint else ()), ("stale", stale), ("refused", refused)):
            if reasons:
                return Situation(key=key, sentence=f"holding: {'; '.join(reasons)}", well=False, holding=True)
        if not self._lockstep and self._executor.command(now_ns) is None:
            return Situation(
                key="undecided", sentence="holding: no decision is recent enough", well=False, holding=True
            )
        sentence = f"following '{self.instruction}'"
        return Situation(key=sentence, sentence=sentence, well=True, holding=False)

    def figures(self, now_ns: int) -> dict[str, str]:
        """Name → figure of the run so far; rates count since the last call (`now_ns`: steady time [ns])."""
        interventions = [f"{cause} {count}" for cause, count in self._gate.interventions.items() if count]
        return {
            "camera stamp to command": "not measured in lockstep" if self._lockstep else str(self.latency.summary()),
            "inference": str(self.inference.summary()),
            "decisions": f"{self._decisions.read(now_ns):.1f} Hz",
            "commands": f"{self._commands.read(now_ns):.1f} Hz",
            "missed periods": "not measured in lockstep" if self._lockstep else str(self._missed),
            "disagreement of decisions": str(self._disagreement),
            "interventions": ", ".join(interventions) or "none",
        }
