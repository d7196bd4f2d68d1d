"""The policy engine: an observation in, a chunk of actions with due times out. Free of ROS and of clocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.fast import FastStages, PlainStages
from robovlm_ros.runtime.graph import GraphStages
from robovlm_ros.runtime.quantised import Quantiser
from robovlm_ros.runtime.rtc import Committed, soft_mask
from robovlm_ros.runtime.starting import fast_parts, make_stages
from robovlm_ros.vlm.checkpoint import load_policy, resolve_device
from robovlm_ros.vlm.context import Context
from robovlm_ros.vlm.heads.generative import GenerativeHead, Guide
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a policy with a history remembers from one decision to the next."""

    history: torch.Tensor | Context
    """What the policy's forward gave of the newest observations, at most window - 1 of them: their action latents
    (1, H, latent_num, D), or what the VLM has read."""
    stamp_ns: int
    """Stamp of the newest of them [ns]."""
    instruction: str
    """The instruction that all of them follow."""

    def serves(self, observation: Observation, longest_ns: int) -> bool:
        """Whether the observation goes on from here: same instruction, later, and by no more than that [ns]."""
        return observation.instruction == self.instruction and 0 < observation.stamp_ns - self.stamp_ns <= longest_ns


class PolicyEngine:
    """One loaded policy. Not for several threads at once: inference has one thread of its own."""

    def __init__(
        self,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        *,
        fast: str = "auto",
        precision: str = "auto",
    ) -> None:
        """``fast`` and ``precision`` as in `load`; what they need is made with the first inference.

        From then on the weights must stay as they are, unless ``fast`` is off.
        """
        self.policy = policy.eval()
        self.processor = processor
        self._wanted = fast_parts(fast, precision)
        self._stages: PlainStages | None = None
        self.stages_s: dict[str, float] = {}
        """Seconds that each stage of the newest `infer` took: prepare, vision, decode, restore; where it is known, also
        head, the last part of decode."""
        self.memory: Memory | None = None
        """What the next `infer` may rest on; None at the beginning, and for a policy without history."""
        self._longest_ns = round(self.contract.camera(self.cameras[0]).max_age_s * 1e9)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        device: str = "cpu",
        threads: int = 1,
        dtype: str = "auto",
        attention: str = "auto",
        fast: str = "auto",
        precision: str = "auto",
    ) -> PolicyEngine:
        """Load a checkpoint folder; UserError if it cannot be. For dtype and attention see `load_policy`.

        ``fast``: see `robovlm_ros.runtime.starting.fast_parts`. ``precision``: how the text tower multiplies, one of
        `robovlm_ros.checkpoints.PRECISIONS`.

        ``threads`` is PyTorch's number of threads in this process: one is fastest for small models, for
        threads that wait for each other spin.
        """
        if threads < 1:
            raise UserError(f"threads must be at least 1, not {threads}")
        fast_parts(fast, precision)  # what is wrong with it is said before minutes of loading
        place = resolve_device(device)
        torch.set_num_threads(threads)
        return cls(*load_policy(folder, str(place), dtype, attention=attention), fast=fast, precision=precision)

    @property
    def contract(self) -> Contract:
        """The contract that the policy was trained for."""
        return self.processor.contract

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that the policy looks at."""
        return self.processor.cameras

    @property
    def chunk_size(self) -> int:
        """Actions of one chunk [steps]."""
        return int(self.policy.config.chunk_size)

    @property
    def draws(self) -> bool:
        """Whether its head draws chunks from noise, so that they can go on from what is committed."""
        return isinstance(self.policy.head, GenerativeHead)

    @property
    def stages(self) -> PlainStages:
        """How a step is computed: fast where that is wanted and equals the plain forward; made when first asked for."""
        if self._stages is None:
            self._stages = make_stages(self.policy, self.processor, self._wanted)
        return self._stages

    @property
    def described(self) -> str:
        """How a step is computed, in a line."""
        if not isinstance(self.stages, FastStages):
            return "plain forward"
        kind = "one program" if isinstance(self.stages, GraphStages) else "fast"
        apart = max(self.stages.errors.values(), default=0.0)
        return f"{kind}: {', '.join(self.stages.parts)}; within {apart:.1g} of a deviation of the plain forward"

    def reset(self) -> None:
        """Forget what was seen before, as an episode's end asks.

        A new instruction, time that runs backwards and a gap longer than the first camera's ``max_age_s`` do so by
        themselves.
        """
        self.memory = None

    @torch.inference_mode()
    def calibrate(self, observations: Iterable[Observation]) -> None:
        """Take the scales of inputs in eight bits from recorded observations, rather than of each token as it comes.

        UserError for a precision that has no scales.
        """
        if not isinstance(self.stages, FastStages) or not isinstance(self.stages.make, Quantiser):
            raise UserError("precision 'auto' has no scales to calibrate: choose int8 or float8")
        with self.stages.make.calibrating():
            for observation in observations:
                self.stages.look(observation)
        self.stages.renew()

    @torch.inference_mode()
    def infer(
        self,
        observation: Observation,
        clock: Callable[[], float] = time.perf_counter,
        committed: Committed | None = None,
    ) -> ActionChunk:
        """The actions that this observation calls for, due from its stamp on.

        With ``committed`` they begin with what is frozen of it, and go on from the rest of it; that needs `draws`. A
        NaN that the model makes stays in the chunk; whoever sends commands must refuse it. ``clock`` [s] only
        measures `stages_s`.
        """
        stages = self.stages
        marks = [clock()]
        inputs = stages.prepare(observation)
        marks.append(clock())
        features = stages.see(inputs)
        marks.append(clock())
        memory = self.memory if self.memory and self.memory.serves(observation, self._longest_ns) else None
        history = None if memory is None else memory.history
        guide = None if committed is None else self._guide(committed, observation)
        output = stages.decide(observation, inputs, features, history, guide, clock)
        assert output.actions is not None
        assert output.latents is not None
        decided = output.actions[0]  # (C, A)
        self.memory = None
        if output.history is not None and bool(output.latents.isfinite().all()):
            self.memory = Memory(
                history=output.history, stamp_ns=observation.stamp_ns, instruction=observation.instruction
            )
        marks.append(clock())
        actions = self.processor.actions(decided, observation.state)
        if committed is not None and np.isfinite(actions).all():
            frozen = min(committed.frozen, len(actions))
            actions[:frozen] = committed.actions[:frozen]
        marks.append(clock())
        names = ("prepare", "vision", "decode", "restore")
        self.stages_s = {name: marks[i + 1] - marks[i] for i, name in enumerate(names)}
        if stages.head_from is not None:
            self.stages_s["head"] = marks[3] - stages.head_from
        due = observation.stamp_ns + np.arange(len(actions), dtype=np.int64) * self.contract.step_ns
        return ActionChunk(actions=actions, due_ns=due, instruction=observation.instruction)

    def _guide(self, committed: Committed, observation: Observation) -> Guide:
        """What is committed, in the numbers of the head."""
        reach, size = min(len(committed.actions), self.chunk_size), self.chunk_size
        known = np.concatenate(
            [committed.actions[:reach], np.repeat(committed.actions[reach - 1 : reach], size - reach, 0)]
        )
        wanted = self.processor.targets(known, observation.state)  # (C, A)
        weights = torch.from_numpy(soft_mask(size, reach, committed.frozen).astype(np.float32))  # (C,)
        place = self.policy.device
        return Guide(chunk=wanted.to(place), weights=weights.to(place), limit=committed.guidance)

    def warm_up(self, count: int = 3) -> None:
        """Run on blank observations, so that the first real one takes no longer than the next."""
        images = {
            name: np.zeros((self.contract.camera(name).height, self.contract.camera(name).width, 3), np.uint8)
            for name in self.cameras
        }
        state = np.zeros(len(self.contract.state_names), np.float32)
        for _ in range(count):
            self.infer(Observation(stamp_ns=0, images=images, state=state, instruction=""))
        self.reset()
