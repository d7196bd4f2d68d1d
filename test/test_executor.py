"""Chunk execution: the command in force is a function of time alone."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.runtime.executor import ChunkExecutor
from robovlm_ros.runtime.strategies import STRATEGIES, Decision, Strategy, make_strategy

CONTRACT = Contract.load("tabletop")
STEP_NS = CONTRACT.step_ns
START_NS = 1_700_000_000_000_000_000


def make_chunk(start_ns: int = START_NS, first: float = 0.2, instruction: str = "reach", steps: int = 4) -> ActionChunk:
    actions = np.zeros((steps, 4))
    actions[:, 0] = first + 0.1 * np.arange(steps)
    actions[:, 3] = np.arange(steps) % 2
    return ActionChunk(
        actions=actions, due_ns=start_ns + STEP_NS * np.arange(steps, dtype=np.int64), instruction=instruction
    )


def make_executor() -> ChunkExecutor:
    return ChunkExecutor(CONTRACT, max_age_ns=1_000_000_000)


@pytest.mark.parametrize(
    ("steps_later", "x", "gripper"),
    [
        (-1.0, 0.2, 0.0),
        (0.0, 0.2, 0.0),
        (0.5, 0.25, 0.0),
        (1.0, 0.3, 1.0),
        (1.99, 0.399, 1.0),
        (3.0, 0.5, 1.0),
        (9.0, 0.5, 1.0),
    ],
)
def test_the_command_in_force_is_interpolated_by_due_times(steps_later: float, x: float, gripper: float) -> None:
    executor = make_executor()
    executor.set_chunk(make_chunk())
    command = executor.command(START_NS + round(steps_later * STEP_NS))
    assert command is not None
    np.testing.assert_allclose(command, [x, 0.0, 0.0, gripper], atol=1e-9)


def test_a_chunk_that_arrives_late_is_joined_where_time_has_got_to() -> None:
    executor = make_executor()
    executor.set_chunk(make_chunk(first=0.2))
    now_ns = START_NS + 5 * STEP_NS // 2
    late = make_chunk(start_ns=START_NS + STEP_NS, first=0.3)  # the same motion, observed one step later
    before = executor.command(now_ns)
    executor.set_chunk(late)
    after = executor.command(now_ns)
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after[:3], before[:3])


def test_without_a_chunk_or_with_one_too_old_the_robot_holds() -> None:
    executor = make_executor()
    assert executor.command(START_NS) is None
    executor.set_chunk(make_chunk())
    assert executor.command(START_NS + 1_000_000_000) is not None
    assert executor.command(START_NS + 1_000_000_001) is None
    assert executor.command(START_NS - 1_000_000_001) is None  # the clock has jumped
    executor.clear()
    assert executor.command(START_NS) is None


def make_strategies(**options: float) -> list[Strategy]:
    values = {"execute_steps": 3, "ensemble_decay": 0.5, "blend_s": 0.2, **options}
    return [make_strategy(name, step_ns=STEP_NS, **values) for name in STRATEGIES]  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", make_strategies(), ids=STRATEGIES)
def test_a_chunk_for_a_new_instruction_is_never_mixed_with_the_old_one(strategy: Strategy) -> None:
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=strategy)
    executor.set_chunk(make_chunk(first=0.2, instruction="reach the red block"))
    executor.set_chunk(make_chunk(first=0.4, instruction="reach the blue block"))
    command = executor.command(START_NS)
    assert command is not None
    assert command[0] == pytest.approx(0.4)


decisions = st.lists(
    st.tuples(
        st.integers(0, 3 * STEP_NS),  # after the decision before
        st.integers(0, 2 * STEP_NS),  # inference took
        st.integers(1, 8),  # actions
        st.floats(-1, 1),
        st.floats(-0.1, 0.1),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(decisions, st.sampled_from(STRATEGIES), st.integers(1, 8))
def test_every_instant_is_served_by_the_newest_permitted_actions_and_by_none_that_is_over(
    sequence: list[tuple[int, int, int, float, float]], name: str, execute: int
) -> None:
    """An action is over one step after it was due; unless nothing newer is there, it has no say."""
    strategy = make_strategy(name, step_ns=STEP_NS, execute_steps=execute, ensemble_decay=0.5, blend_s=0.15)
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=strategy)
    now_ns, came = START_NS, []
    for later_ns, took_ns, steps, x, slope in sequence:
        now_ns += later_ns
        actions = np.zeros((steps, 4))
        actions[:, 0] = x + slope * np.arange(steps)
        actions[:, 3] = np.arange(steps) % 2
        due_ns = now_ns - took_ns + STEP_NS * np.arange(steps, dtype=np.int64)
        chunk = ActionChunk(actions=actions, due_ns=due_ns, instruction="reach")
        before = executor.command(now_ns)
        executor.set_chunk(chunk, now_ns)
        came.append(Decision(chunk=chunk, taken_ns=now_ns))
        after = executor.command(now_ns)
        assert after is not None
        assert after[3] in (0.0, 1.0)
        if name == "blend" and before is not None:
            np.testing.assert_allclose(after[:3], before[:3], atol=1e-9)  # no jump when a decision comes
        for look_ns in range(now_ns, now_ns + later_ns, STEP_NS // 3):
            kept = executor._in_force(look_ns)
            weights = strategy.weights(kept, look_ns)
            assert (weights >= 0).all()
            assert weights.sum() == pytest.approx(1.0)
            assert kept[-1].chunk is chunk  # the newest is never forgotten
            for weight, decision in zip(weights, kept, strict=True):
                over = look_ns > int(decision.chunk.due_ns[-1]) + STEP_NS
                ends_ns = kept[-1].taken_ns + (150_000_000 if name == "blend" else 0)
                if weight > 0 and over:  # only what is newest, or what a newer one takes over from right now
                    assert decision is kept[-1] or (name == "blend" and look_ns < ends_ns)
            if name == "first":
                assert weights.tolist() == [1.0]
            if name == "receding" and weights[0] == 1 and len(kept) > 1:
                assert look_ns < int(kept[0].chunk.due_ns[0]) + execute * STEP_NS
            if name == "ensemble":
                reach = [d for d in came if int(d.chunk.due_ns[0]) <= look_ns <= int(d.chunk.due_ns[-1]) + STEP_NS]
                recent = [d for d in reach if look_ns - int(d.chunk.due_ns[0]) <= 10**9]
                assert [d for w, d in zip(weights, kept, strict=True) if w > 0] == (recent or [came[-1]])


def test_an_ensemble_weighs_the_oldest_most_and_a_blend_goes_over_in_its_time() -> None:
    first, second = make_chunk(first=0.2), make_chunk(start_ns=START_NS + STEP_NS, first=0.5)
    now_ns = START_NS + 2 * STEP_NS  # the first says 0.4, the second 0.6
    old, new = 1.0, np.exp(-0.5)
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=make_strategies()[2])
    for chunk in (first, second):
        executor.set_chunk(chunk, now_ns)
    command = executor.command(now_ns)
    assert command is not None
    assert command[0] == pytest.approx((old * 0.4 + new * 0.6) / (old + new))
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=make_strategies(blend_s=0.1)[3])
    executor.set_chunk(first, START_NS)
    executor.set_chunk(second, now_ns - 50_000_000)
    for later_ns, x in ((-50_000_000, 0.35), (0, 0.5), (50_000_000, 0.65)):
        command = executor.command(now_ns + later_ns)
        assert command is not None
        assert command[0] == pytest.approx(x)


def test_what_is_left_of_a_chunk_is_what_would_be_commanded_then() -> None:
    executor = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=make_strategies()[3])
    executor.set_chunk(make_chunk(first=0.2), START_NS)
    executor.set_chunk(make_chunk(start_ns=START_NS + STEP_NS, first=0.5), START_NS + STEP_NS)
    actions, due_ns = executor.ahead(START_NS + STEP_NS)
    assert len(due_ns) == 3
    for values, due in zip(actions, due_ns, strict=True):
        np.testing.assert_array_equal(values, executor.command(int(due)))


def test_a_malformed_chunk_is_refused() -> None:
    chunk = make_chunk()
    backwards = ActionChunk(actions=chunk.actions, due_ns=chunk.due_ns[::-1].copy(), instruction="reach")
    with pytest.raises(ValueError, match="increasing due times"):
        make_executor().set_chunk(backwards)
