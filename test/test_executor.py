"""Chunk execution: the command in force is a function of time alone."""

from __future__ import annotations

import numpy as np
import pytest

from robovlm_ros.action import ActionChunk
from robovlm_ros.contract import Contract
from robovlm_ros.runtime.executor import ChunkExecutor

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


def test_a_chunk_for_a_new_instruction_is_never_mixed_with_the_old_one() -> None:
    kept = ChunkExecutor(CONTRACT, max_age_ns=10**9, strategy=lambda current, new: current or new)
    kept.set_chunk(make_chunk(first=0.2, instruction="reach the red block"))
    kept.set_chunk(make_chunk(first=0.3, instruction="reach the red block"))
    command = kept.command(START_NS)
    assert command is not None
    assert command[0] == pytest.approx(0.2)
    kept.set_chunk(make_chunk(first=0.4, instruction="reach the blue block"))
    command = kept.command(START_NS)
    assert command is not None
    assert command[0] == pytest.approx(0.4)


def test_a_malformed_chunk_is_refused() -> None:
    chunk = make_chunk()
    backwards = ActionChunk(actions=chunk.actions, due_ns=chunk.due_ns[::-1].copy(), instruction="reach")
    with pytest.raises(ValueError, match="increasing due times"):
        make_executor().set_chunk(backwards)
