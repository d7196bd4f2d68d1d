"""What an action depends on: take one thing away, or put another in its place, and see how far actions move.

Everything runs through `PolicyEngine`, as on the robot, over recorded observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovlm_ros.action import to_relative
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

RANDOM_DRAWS = 3
"""Random vectors that are tried in place of an action token."""
LAYERS = 6
"""Most layers after which an action token's hidden state is swapped."""
_STILL = 1e-9

Change = Callable[[Observation], Observation]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One observation and the commands that followed it."""

    observation: Observation
    actions: NDArray[np.float64]
    """(chunk_size, action_dim) absolute commands in force, 0 or 1 where binary."""
    valid: NDArray[np.bool_]
    """(chunk_size,) False where there were none."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one change did to the actions, over all observations and steps of their chunks."""

    name: str
    mean: NDArray[np.float64]
    """(action_dim,) mean absolute change [unit of the action]; where binary, the share of decisions that flipped."""
    largest: NDArray[np.float64]
    """(action_dim,) largest absolute change [unit of the action]."""
    error: NDArray[np.float64]
    """(action_dim,) mean absolute difference from the recorded actions [unit of the action]."""
    change_share: float
    """Mean change as a share of the recorded actions' deviation, mean over the dimensions that were used."""
    largest_share: float
    """Largest change of any action in such shares."""
    error_share: float
    """Mean error in such shares."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """All effects on one set of recorded observations."""

    deviation: NDArray[np.float64]
    """(action_dim,) standard deviation of the recorded actions, as the policy decides them: relative to a state
    where the contract says so [unit of the action]; 0 for a dimension that was never used."""
    observations: int
    effects: tuple[Effect, ...]
    """The policy as it is (changes are 0), and each thing that was changed."""


def ablate(
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    episodes: Sequence[Sequence[Recorded]],
    swaps: Sequence[str] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> Ablation:
    """Change one thing after the other and compare actions with those of the policy as it is.

    - *action token zeroed*, and *random*: other vectors of the same norm, `RANDOM_DRAWS` of them together.
    - *instruction swapped* for each of ``swaps``.
    - *token's state after layer n swapped*: the hidden states at the action tokens, and nothing else, are those of a
      run on the same observation with another instruction (interchange of activations, Vig et al. 2020, "Causal
      Mediation Analysis"). After the last layer these are the action latents. Where the effect begins is where
      tokens have read the instruction.
    - *images blank*: each camera shows nothing but its mean colour, all of them and each.
    - *state token zeroed*: its vector; the state that actions are relative to stays.

    The policy is left as it was. UserError when there is nothing to compare with.
    """
    steps = [step for episode in episodes for step in episode]
    valid = np.array([step.valid for step in steps], dtype=np.bool_)  # (T, C)
    if not valid.any():
        raise UserError("the episodes hold no observation with a command: there is nothing to compare with")
    recorded = np.array([step.actions for step in steps])  # (T, C, A)
    states = np.array([step.observation.state for step in steps], np.float64)  # (T, state_dim)
    contract = processor.contract

    def relative(actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of absolute actions (..., T, C, A), what the policy decides: in the axes of a tool where it decides so."""
        return to_relative(contract, actions, np.broadcast_to(states[:, None], (*valid.shape, states.shape[1])))

    decided = relative(recorded)
    deviation = decided[valid].std(0)  # (A,)
    plain = _run(policy, processor, episodes)  # (T, C, A)
    base = relative(plain)

    def effect(name: str, actions: NDArray[np.float64]) -> Effect:
        """Of actions (..., T, C, A)."""
        progress(name)
        numbers = relative(actions)  # (..., T, C, A)
        change = np.abs(numbers - base).reshape(-1, base.shape[-1])  # (..., A)
        error = np.abs(numbers - decided)[..., valid, :].reshape(-1, base.shape[-1])
        used = deviation > _STILL
        shares = change[:, used] / deviation[used]
        return Effect(
            name=name, mean=change.mean(0), largest=change.max(0), error=error.mean(0),
            change_share=_mean(shares), largest_share=float(shares.max()) if shares.size else 0.0,
            error_share=_mean(error[:, used] / deviation[used]),
        )  # fmt: skip

    effects = [effect("as it is", plain)]
    if policy.action_token is not None:
        token = policy.action_token.detach()
        effects.append(effect("action token zeroed", _run_with_token(policy, processor, episodes, token * 0)))
        if bool(token.any()):
            draws = [_same_norm(token, seed) for seed in range(RANDOM_DRAWS)]
            drawn = [_run_with_token(policy, processor, episodes, draw) for draw in draws]
            effects.append(effect("action token random, same norm", np.array(drawn)))
    for text in swaps:
        swapped = _run(policy, processor, episodes, partial(_told, text))
        effects.append(effect(f"instruction: {text}", swapped))
    if swaps and policy.action_token is not None:
        layers = len(policy.backbone.decoder_layers)
        chosen = sorted({round(i * (layers - 1) / (LAYERS - 1)) for i in range(LAYERS)}) if layers > LAYERS else None
        for layer in chosen or range(layers):
            mixed = np.array([_interchanged(policy, processor, episodes, text, layer) for text in swaps])
            effects.append(effect(f"token's state after layer {layer + 1} of {layers} swapped", mixed))
    for cameras in [
        processor.cameras,
        *([(name,) for name in processor.cameras] if len(processor.cameras) > 1 else []),
    ]:
        name = "images blank" if cameras == processor.cameras else f"image blank: {cameras[0]}"
        effects.append(effect(name, _run(policy, processor, episodes, partial(_blank, cameras))))
    if policy.state_token is not None:
        with _outputs(policy.state_token, torch.zeros_like):
            effects.append(effect("state token zeroed", _run(policy, processor, episodes)))
    return Ablation(
        deviation=np.where(deviation > _STILL, deviation, 0.0), observations=len(steps), effects=tuple(effects)
    )


def _run(
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    episodes: Sequence[Sequence[Recorded]],
    change: Change = lambda seen: seen,
    around: Callable[[Observation], AbstractContextManager[None]] = lambda seen: nullcontext(),
) -> NDArray[np.float64]:
    """(T, C, A) actions for all observations of all episodes, each changed before and inferred in a context."""
    engine = PolicyEngine(policy, processor, fast="off")  # what is changed are its own modules
    found = []
    for episode in episodes:
        engine.reset()
        for step in episode:
            with around(step.observation):
                found.append(engine.infer(change(step.observation)).actions)
    return np.array(found)


def _run_with_token(
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    episodes: Sequence[Sequence[Recorded]],
    token: torch.Tensor,
) -> NDArray[np.float64]:
    """(T, C, A) actions with other action tokens."""
    parameter = policy.action_token
    assert parameter is not None
    before = parameter.detach().clone()
    try:
        with torch.no_grad():
            parameter.copy_(token)
        return _run(policy, processor, episodes)
    finally:
        with torch.no_grad():
            parameter.copy_(before)


def _same_norm(token: torch.Tensor, seed: int) -> torch.Tensor:
    """Random directions with the norm of each action token (K, D)."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(token.shape, generator=generator).to(token)
    scaled: torch.Tensor = random * (token.norm(dim=-1, keepdim=True) / random.norm(dim=-1, keepdim=True))
    return scaled


def _interchanged(
    policy: ActionTokenPolicy,
    processor: ActionTokenProcessor,
    episodes: Sequence[Sequence[Recorded]],
    text: str,
    layer: int,
) -> NDArray[np.float64]:
    """(T, C, A) actions with the tokens' hidden states after a layer taken from a run with instruction ``text``.

    A single sample has no padding: its action tokens are the last of the sequence.
    """
    module, count = policy.backbone.decoder_layers[layer], int(policy.config.latent_num)
    module = module[-1] if isinstance(module, nn.ModuleList) else module  # Idefics: behind its cross-attention
    donor = PolicyEngine(
        policy, processor, fast="off"
    )  # a history of its own; at another episode's stamps it begins anew

    @contextmanager
    def swapped(seen: Observation) -> Iterator[None]:
        states: list[torch.Tensor] = []

        def keep(hidden: torch.Tensor) -> torch.Tensor:
            states[:] = [hidden[:, -count:].clone()]  # (1, K, D)
            return hidden

        with _outputs(module, keep, once=True):
            donor.infer(_told(text, seen))
        with _outputs(module, lambda hidden: torch.cat([hidden[:, :-count], states[0]], dim=1), once=True):
            yield

    return _run(policy, processor, episodes, around=swapped)


@contextmanager
def _outputs(
    module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], *, once: bool = False
) -> Iterator[None]:
    """Within, what a module gives, or the first of it, is changed: each time, or the first time alone.

    The first time is when the action tokens are read; an answer may go on behind them, word by word.
    """

    def hook(_module: nn.Module, _inputs: Any, result: Any) -> Any:
        if once:
            handle.remove()
        return (change(result[0]), *result[1:]) if isinstance(result, tuple) else change(result)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _told(text: str, seen: Observation) -> Observation:
    """With another instruction."""
    return replace(seen, instruction=text)


def _blank(cameras: Sequence[str], seen: Observation) -> Observation:
    """With images of one colour, the mean, from these cameras."""
    images = dict(seen.images)
    for name in cameras:
        image = images[name]
        images[name] = np.broadcast_to(image.mean((0, 1)).round().astype(np.uint8), image.shape).copy()
    return replace(seen, images=images)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0
