"""Instructions, the measure of success and the expert."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.expert import MAX_STEP_M, ReachExpert
from robovlm_ros.sim.tasks import (
    COLOURS,
    REACH,
    TASKS,
    Block,
    goal_position,
    outcome,
    parse_target,
    sample_instruction,
    vocabulary,
)
from robovlm_ros.sim.world import Tabletop

BLOCKS = (Block("red", np.array([0.30, 0.10, 0.02])), Block("blue", np.array([0.40, -0.10, 0.02])))


def test_every_sentence_names_its_target_in_words_of_the_vocabulary() -> None:
    for task in TASKS.values():
        for sentence in (*task.sentences, *task.held_out):
            for colour in COLOURS:
                text = sentence.format(colour=colour, pad="blue")
                assert task.names_pad or parse_target(text) == colour
                assert set(text.split()) <= set(vocabulary())


def test_held_out_sentences_are_never_used_for_demonstrations() -> None:
    rng = np.random.default_rng(0)
    shown = {sample_instruction(["red"], rng) for _ in range(300)}
    assert shown == {sentence.format(colour="red") for sentence in REACH.sentences}
    assert sample_instruction(["red"], rng, held_out=True) not in shown


@pytest.mark.parametrize("text", ["Reach the RED block!", "red", "  go to the 'red' cube, please."])
def test_case_and_punctuation_do_not_matter(text: str) -> None:
    assert parse_target(text) == "red"


@pytest.mark.parametrize("text", ["", "reach the pink block", "reddish", "put the red block on the blue one"])
def test_an_instruction_without_one_colour_is_refused_with_the_colours(text: str) -> None:
    with pytest.raises(UserError, match="red, green, blue, yellow"):
        parse_target(text)


@given(st.floats(0.0, 0.06), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_success_is_the_distance_to_the_point_above_the_block(far: float, x: float, y: float, z: float) -> None:
    way = np.array([x, y, z])
    way = way / np.linalg.norm(way) * far if np.linalg.norm(way) > 1e-6 else np.array([far, 0.0, 0.0])
    result = outcome(goal_position(BLOCKS[0]) + way, BLOCKS, "red")
    assert result.distance_m == pytest.approx(far, abs=1e-9)
    assert result.success_2cm == (result.distance_m < 0.02)
    assert result.success_3cm == (result.distance_m < 0.03)
    assert result.success_4cm == (result.distance_m < 0.04)
    assert not result.wrong_target


def test_ending_at_another_block_is_a_wrong_target() -> None:
    result = outcome(goal_position(BLOCKS[1]), BLOCKS, "red")
    assert result.wrong_target
    assert not result.success_4cm
    with pytest.raises(UserError, match="on the table: red, blue"):
        outcome(np.zeros(3), BLOCKS, "green")


@given(st.integers(0, 1000))
def test_the_expert_never_leads_by_more_than_its_step_nor_dives_among_the_blocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tool = rng.uniform([0.15, -0.3, 0.06], [0.6, 0.3, 0.4])
    action = ReachExpert(rng, noise=0.02).act(tool, BLOCKS, "blue")
    assert np.linalg.norm(action[:3] - tool) <= MAX_STEP_M + 1e-9
    assert action[2] >= 0.055
    assert action[3] == 1.0


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_expert_succeeds_in_fifty_scenes_and_knocks_nothing_over(noise: float) -> None:
    world = Tabletop(Contract.load("tabletop"))
    steps = []
    for seed in range(50):
        world.reset(seed)
        before = world.blocks
        target = before[seed % len(before)].colour
        expert = ReachExpert(np.random.default_rng(seed), noise)
        reached = []
        for _ in range(30):
            world.command(expert.act(world.tool_position, world.blocks, target))
            world.step(0.1)
            reached.append(outcome(world.tool_position, world.blocks, target).distance_m < 0.01)
        assert reached[-1], f"scene {seed}"
        steps.append(reached.index(True) + 1)
        assert all(reached[steps[-1] :]), f"scene {seed}: left the goal again"
        for old, new in zip(before, world.blocks, strict=True):
            np.testing.assert_allclose(new.position, old.position, atol=1e-3)
    assert max(steps) <= 25
