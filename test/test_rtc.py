"""Real-time chunking: a decision goes on from what the one before it has committed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.executor import ChunkExecutor
from robovlm_ros.runtime.rtc import Committed, soft_mask
from robovlm_ros.runtime.strategies import FIRST, make_strategy
from robovlm_ros.vlm.heads.generative import GenerativeHead, Guide

from .makers import observation, small_policy
from .test_heads import GENERATIVE, head

CONTRACT = Contract.load("tabletop")
STEP = CONTRACT.step_ns
START = 10**15
RTC = make_strategy("rtc", step_ns=STEP, execute_steps=4, ensemble_decay=0.0, blend_s=0.2, rtc_guidance=5.0)


def generative(kind: str, **options: Any) -> GenerativeHead:
    made = head(kind, **options)
    assert isinstance(made, GenerativeHead)
    return made


def test_the_mask_is_one_where_frozen_falls_behind_and_is_zero_where_the_chunk_before_ends() -> None:
    mask = soft_mask(10, overlap=8, frozen=3)
    assert mask[:3].tolist() == [1.0] * 3
    assert (np.diff(mask[2:8]) < 0).all()
    assert mask[8:].tolist() == [0.0, 0.0]
    left = (8 - 3) / (8 - 3 + 1)  # c_3 of the paper's equation 5
    assert mask[3] == pytest.approx(left * (np.exp(left) - 1) / (np.e - 1))
    assert soft_mask(4, overlap=9, frozen=9).tolist() == [1.0] * 4
    assert soft_mask(4, overlap=0, frozen=2).tolist() == [0.0] * 4


@pytest.mark.parametrize("kind", GENERATIVE)
def test_without_weight_or_without_guidance_it_is_what_the_head_generates(kind: str) -> None:
    made = generative(kind)
    latents = torch.randn(1, 1, 2, 8, generator=torch.Generator().manual_seed(1))
    wanted = torch.ones(5, 4)
    with torch.inference_mode():
        plain = made(latents)
        for weights, limit in ((torch.zeros(5), 5.0), (torch.ones(5), 0.0)):
            guided = made(latents, Guide(chunk=wanted, weights=weights, limit=limit))
            torch.testing.assert_close(guided, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GENERATIVE)
def test_what_has_weight_comes_nearer_to_what_is_committed_and_more_of_it_does_with_more_guidance(kind: str) -> None:
    made = generative(kind, steps=10)
    latents = torch.randn(1, 1, 2, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = made(latents)[0, 0, :, :3]  # (C, n); the last action is binary
        wanted = torch.cat([plain + 0.5, torch.zeros(5, 1)], dim=1)
        weights = torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0])
        away = []
        for limit in (0.0, 1.0, 5.0):
            found = made(latents, Guide(chunk=wanted, weights=weights, limit=limit))[0, 0, :, :3]
            away.append((found - wanted[:, :3]).abs()[:2].mean().item())
    assert away[0] == pytest.approx(0.5, abs=1e-4)
    assert away[2] < away[1] < away[0]
    assert away[2] < 0.15


@pytest.mark.parametrize("kind", GENERATIVE)
def test_a_perfect_head_is_led_to_what_is_committed_as_the_formula_says(kind: str) -> None:
    """Where the network says a = J x + b with J = 0, nothing can pull: it stays at the chunk that it is sure of."""
    made, sure = generative(kind), torch.full((1, 1, 5, 3), 0.7)
    made.estimate = lambda mixed, step, latents: (  # type: ignore[method-assign]
        sure + 0.0 * mixed,
        (mixed - made.ladder()[step][0] * sure) / (1 - made.ladder()[step][0]),
    )
    latents = torch.zeros(1, 1, 2, 8)
    found = made(latents, Guide(chunk=torch.zeros(5, 4), weights=torch.ones(5)))
    torch.testing.assert_close(found[..., :3], sure, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", GENERATIVE)
def test_an_engine_freezes_what_is_committed_exactly_and_goes_on_near_it(kind: str) -> None:
    policy, processor = small_policy(head={"type": kind, "width": 16, "steps": 6})
    engine = PolicyEngine(policy, processor)
    seen = observation(engine.contract)
    free = engine.infer(seen)
    before = free.actions[:4] + np.array([0.3, 0.3, 0.3, 0.0])
    before[:, -1] = 1.0 - free.actions[:4, -1]  # the gripper, too, goes on as committed
    found = engine.infer(seen, committed=Committed(actions=before, frozen=2))
    np.testing.assert_array_equal(found.actions[:2], before[:2])
    assert abs(found.actions[2, :3] - before[2, :3]).mean() < abs(free.actions[2, :3] - before[2, :3]).mean()
    np.testing.assert_array_equal(engine.infer(seen).actions, free.actions)  # nothing is left behind
    assert engine.draws


def test_a_head_that_draws_nothing_says_so() -> None:
    assert not PolicyEngine(*small_policy(head={"type": "mlp"})).draws


def chunk(stamp_ns: int, rng: np.random.Generator) -> ActionChunk:
    actions = np.concatenate([rng.normal(size=(8, 3)), np.ones((8, 1))], axis=1)
    return ActionChunk(actions=actions, due_ns=stamp_ns + STEP * np.arange(8, dtype=np.int64), instruction="go")


@pytest.mark.parametrize("in_step", [True, False])
def test_a_decision_that_freezes_what_is_committed_takes_over_without_a_jump_whenever_it_comes(in_step: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=RTC)
        executor.set_chunk(chunk(START, rng), START)
        seen_ns = START + (STEP * int(rng.integers(1, 4)) if in_step else int(rng.integers(1, 4 * STEP)))
        expected_ns = seen_ns + int(rng.integers(0, 2 * STEP))
        committed = executor.committed(seen_ns, expected_ns)
        assert committed is not None
        assert committed.frozen >= 2
        new = chunk(seen_ns, rng)
        actions = new.actions.copy()
        actions[: committed.frozen] = committed.actions[: committed.frozen]
        arrival_ns = int(rng.integers(seen_ns, expected_ns + 1))
        ahead = arrival_ns + np.arange(0, expected_ns - arrival_ns + 1, STEP // 7)
        before = np.array([executor.command(int(now)) for now in ahead])
        executor.set_chunk(dataclasses.replace(new, actions=actions), arrival_ns)
        after = np.array([executor.command(int(now)) for now in ahead])
        if in_step:  # observations come in steps of the chunk: what is said between due times is the same, too
            np.testing.assert_allclose(after, before, atol=1e-9)
        at_due = [int(due) for due in new.due_ns[: committed.frozen] if due >= arrival_ns]
        for due in at_due:
            place = (due - seen_ns) // STEP
            np.testing.assert_allclose(executor.command(due), committed.actions[place], atol=1e-12)


def test_nothing_is_committed_without_a_decision_after_another_instruction_and_by_other_strategies() -> None:
    rng = np.random.default_rng(0)
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=RTC)
    assert executor.committed(START, START) is None
    executor.set_chunk(chunk(START, rng), START)
    assert executor.committed(START + STEP, START + STEP) is not None
    assert executor.committed(START - 1, START) is None  # time ran backwards
    assert executor.committed(START + 2 * 10**9, START + 2 * 10**9) is None  # it is stale
    in_lockstep = executor.committed(START + STEP, None)
    assert in_lockstep is not None
    assert in_lockstep.frozen == 0
    broken = chunk(START, rng)
    broken.actions[3, 0] = np.nan
    executor.set_chunk(broken, START)
    assert executor.committed(START + STEP, START + STEP) is None  # what is not a number is not passed on
    executor.set_chunk(chunk(START, rng), START)
    executor.strategy = FIRST
    assert executor.committed(START + STEP, START + STEP) is None
    executor.strategy = RTC
    executor.clear()
    assert executor.committed(START + STEP, START + STEP) is None
