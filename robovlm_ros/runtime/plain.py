"""A control step the plain way: what the engine is measured against, and what it must agree with.

It is what a straightforward program does with transformers, and what systems with action tokens do that are in use
(RoboVLMs among them): the backbone's own image processor on each frame on the host, the tokenizer on each prompt,
attention written out ("eager"), hidden states of all layers kept and scores of all words computed for the whole
sequence, an interleaved history read anew from its first frame on. Its actions are those of the policy.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from robovlm_ros.observation import Observation
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

STAGES = ("preprocess", "vision", "language", "head", "restore")
"""What a step consists of: images and text to tensors; image features; from features to action latents; from latents
to a chunk; from the chunk to the contract's units."""


def twin(policy: ActionTokenPolicy) -> ActionTokenPolicy:
    """Another policy with the same weights, the very same ones; what else is set on one does not reach the other."""
    shared = {id(tensor): tensor for tensor in (*policy.parameters(), *policy.buffers())}
    made: ActionTokenPolicy = copy.deepcopy(policy, shared)
    return made


def written_out(policy: ActionTokenPolicy) -> ActionTokenPolicy:
    """Its `twin` with attention written out, to be run."""
    made = twin(policy)
    made.eval()
    made.vlm.set_attn_implementation("eager")
    return made


class PlainForward(nn.Module):
    """The policy's own forward, which also gives what nobody reads: all hidden states, and scores of all words."""

    def __init__(self, policy: ActionTokenPolicy) -> None:
        """Shares the policy's weights, which must stay what they are."""
        super().__init__()
        self.policy = written_out(policy)
        self.states: tuple[torch.Tensor, ...] | None = None
        """(B, L, D) hidden states of each layer, of the newest forward."""
        self.scores: torch.Tensor | None = None
        """(B, L, V) scores of all words, of the newest forward."""
        decoder = self.policy.backbone.decoder
        decoder.register_forward_pre_hook(self._ask, with_kwargs=True)
        decoder.register_forward_hook(self._keep)

    def _ask(self, _decoder: nn.Module, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, {**named, "output_hidden_states": True}

    def _keep(self, _decoder: nn.Module, _arguments: Any, output: Any) -> None:
        self.states = output.hidden_states
        backbone = self.policy.backbone
        self.scores = None if backbone.head is None else backbone.logits(output.last_hidden_state)

    def forward(self, inputs: dict[str, torch.Tensor], history: Any = None) -> Any:
        """What `ActionTokenPolicy.forward` gives."""
        return self.policy(**inputs, history=history)


class PlainEngine:
    """Observation in, normalised chunk out, without any of the engine's ways to be fast."""

    def __init__(
        self,
        policy: ActionTokenPolicy,
        processor: ActionTokenProcessor,
        wrap: Callable[[PlainForward], Callable[..., Any]] | None = None,
    ) -> None:
        """``wrap``: what is done to the forward, `torch.compile` for instance."""
        self.module = PlainForward(policy)
        self.processor = processor
        self._forward = None if wrap is None else wrap(self.module)
        self._prepared: deque[dict[str, torch.Tensor]] = deque(maxlen=int(processor.config.window))
        self._history: Any = None
        self._head_s = 0.0
        self._clock: Callable[[], float] = time.perf_counter
        self.stages_s: dict[str, float] = {}
        """Seconds that each of `STAGES` took in the newest `infer`; of a wrapped forward, all of it is ``language``."""
        if wrap is None:
            head = self.module.policy.head
            head.register_forward_pre_hook(lambda *_: self._mark(-1.0))
            head.register_forward_hook(lambda *_: self._mark(1.0))

    def _mark(self, sign: float) -> None:
        self._head_s += sign * self._clock()

    def reset(self) -> None:
        """Forget what was seen before."""
        self._prepared.clear()
        self._history = None

    @torch.no_grad()
    def infer(self, observation: Observation, clock: Callable[[], float] = time.perf_counter) -> Any:
        """(C, A) absolute actions in the contract's units. ``clock`` [s] only measures `stages_s`."""
        policy, processor = self.module.policy, self.processor
        self._clock, self._head_s = clock, 0.0
        marks = [clock()]
        processor.backbone.tokenizer(processor.text(observation.instruction, len(processor.cameras)))
        inputs = processor.collate([processor(observation)])
        inputs = {key: value.to(policy.device) for key, value in inputs.items()}
        marks.append(clock())
        rereads = processor.config.history == "interleaved"
        if rereads:
            if len(self._prepared) == processor.config.window:
                self._prepared.clear()  # a full sequence is followed by a new one, as the policy was trained
            self._prepared.append(inputs)
            inputs = {key: torch.stack([item[key] for item in self._prepared], 1) for key in inputs}  # (1, W, ...)
        if self._forward is not None:
            marks.append(clock())
            output = self._forward(inputs, self._history)
        else:
            family = processor.family
            images = {key: value for key, value in inputs.items() if key in family.image_keys}
            features = policy.image_embeddings(
                **{key: value.flatten(0, 1) if rereads else value for key, value in images.items()}
            )  # (W, N, D)
            marks.append(clock())
            known = {*family.text_keys, "state"}
            rest = {key: value for key, value in inputs.items() if key in known}
            rest["image_embeds"] = features[None] if rereads else features
            output = self.module(rest, self._history)
        self._history = None if rereads else output.history
        decided = output.actions[0, -1] if rereads else output.actions[0]  # (C, A)
        marks.append(clock())
        actions = processor.actions(decided, observation.state)
        marks.append(clock())
        spans = [after - before for before, after in itertools.pairwise(marks)]
        self.stages_s = dict(
            zip(STAGES, (spans[0], spans[1], spans[2] - self._head_s, self._head_s, spans[3]), strict=True)
        )
        return actions
