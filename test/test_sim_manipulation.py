"""The tasks beside reaching: how they are said, when they are done, the expert, and scenes with pads."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from robovlm_ros.cli import collect, evaluate
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.manipulation import Expert
from robovlm_ros.sim.measure import Moment, Verdict, find_scene, judge, possible
from robovlm_ros.sim.questions import ALL_LABELS, HELD, LABELS, ask, render_shard
from robovlm_ros.sim.tasks import (
    COLOURS,
    LIFT,
    PUSH_LEFT,
    PUSH_RIGHT,
    PUT,
    TASKS,
    Block,
    Order,
    Pad,
    Task,
    blank_instruction,
    parse_order,
    sample_instruction,
)
from robovlm_ros.sim.truth import blocks_of, fill_marker, fill_pad, pads_of
from robovlm_ros.sim.world import Tabletop

CONTRACT = Contract.load("tabletop")


def moment(
    red: tuple[float, float, float] = (0.3, 0.1, 0.02),
    blue: tuple[float, float, float] = (0.4, -0.1, 0.02),
    *,
    opening: float = 0.04,
    tool: tuple[float, float, float] = (0.3, 0.1, 0.1),
) -> Moment:
    blocks = (Block("red", np.array(red)), Block("blue", np.array(blue)))
    pads = (Pad("red", np.array([0.45, 0.1, 0.002])), Pad("green", np.array([0.3, -0.05, 0.002])))
    return Moment(tool=np.array(tool), opening=opening, blocks=blocks, pads=pads)


def seen(world: Tabletop) -> Moment:
    return Moment(
        tool=world.tool_position, opening=float(world.joint_positions[6]), blocks=world.blocks, pads=world.pads
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_sentence_says_its_task_its_block_and_its_pad(task: Task) -> None:
    for sentence in (*task.sentences, *task.held_out):
        for colour, pad in zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True):
            order = parse_order(sentence.format(colour=colour, pad=pad).upper() + "!")
            assert order == Order(task=task, colour=colour, pad=pad if task.names_pad else "")


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_held_out_sentences_are_kept_from_demonstrations_and_a_blank_one_names_nothing(task: Task) -> None:
    rng = np.random.default_rng(0)
    shown = {sample_instruction(["red"], rng, task=task, pads=["blue"]) for _ in range(300)}
    kept = {sample_instruction(["red"], rng, task=task, pads=["blue"], held_out=True) for _ in range(100)}
    assert len(shown) == len(task.sentences)
    assert len(kept) == len(task.held_out)
    assert not shown & kept
    assert not any(colour in blank_instruction(text).split() for text in shown for colour in COLOURS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("put the red block on the pad", "names no pad"),
        ("put it on the red pad", "names no colour"),
        ("push the red block left or right", "both sides"),
        ("lift the block", "names no colour"),
    ],
)
def test_an_instruction_that_leaves_something_open_is_refused_with_what_is_missing(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_order(text)


@pytest.mark.parametrize(
    ("task", "end", "success", "wrong"),
    [
        (PUSH_RIGHT, moment(red=(0.32, 0.16, 0.02)), True, False),
        (PUSH_LEFT, moment(red=(0.32, 0.16, 0.02)), False, False),
        (PUSH_RIGHT, moment(red=(0.30, 0.14, 0.02)), False, False),
        (PUSH_RIGHT, moment(red=(0.34, 0.16, 0.02)), False, False),
        (PUSH_RIGHT, moment(red=(0.30, 0.16, 0.02), blue=(0.4, -0.05, 0.02)), False, True),
        (LIFT, moment(red=(0.3, 0.1, 0.10), opening=0.02), True, False),
        (LIFT, moment(red=(0.3, 0.1, 0.10), opening=0.04), False, False),
        (LIFT, moment(red=(0.3, 0.1, 0.05), opening=0.02, tool=(0.3, 0.1, 0.05)), False, False),
        (LIFT, moment(blue=(0.4, -0.1, 0.1), opening=0.02, tool=(0.4, -0.1, 0.1)), False, True),
        (PUT, moment(red=(0.31, -0.06, 0.02)), True, False),
        (PUT, moment(red=(0.31, -0.06, 0.02), opening=0.02), False, False),
        (PUT, moment(red=(0.31, -0.06, 0.12)), False, False),
        (PUT, moment(red=(0.45, 0.10, 0.02)), False, True),
    ],
)
def test_a_task_is_done_by_what_became_of_the_blocks(task: Task, end: Moment, success: bool, wrong: bool) -> None:
    verdict = judge(Order(task=task, colour="red", pad="green"), moment(), end)
    assert (verdict.success, verdict.wrong_target) == (success, wrong)


def test_a_push_is_asked_for_only_where_its_way_is_free() -> None:
    assert possible(PUSH_LEFT, moment()) == ["red", "blue"]
    assert possible(PUSH_LEFT, moment(blue=(0.3, -0.02, 0.02))) == ["blue"]  # blue stands in red's way
    assert possible(PUSH_RIGHT, moment(red=(0.3, 0.2, 0.02))) == ["blue"]  # red would leave the picture
    assert possible(LIFT, moment(blue=(0.3, 0.0, 0.02))) == ["red", "blue"]
    crowded = moment(red=(0.3, 0.2, 0.02), blue=(0.3, 0.05, 0.02))
    scene = find_scene(7, [PUSH_RIGHT], lambda seed: crowded if seed == 7 else moment())
    assert (scene[0], scene[2]) == (1_000_007, ["red", "blue"])


def show(world: Tabletop, task: Task, seed: int, noise: float) -> Verdict:
    def look(seed: int) -> Moment:
        world.reset(seed)
        return seen(world)

    seed, start, colours = find_scene(seed, [task], look)
    rng = np.random.default_rng(seed)
    order = parse_order(sample_instruction(colours, rng, task=task, pads=[pad.colour for pad in world.pads]))
    expert, verdict, done = Expert(rng, noise), None, 0
    for _ in range(100):
        world.command(expert.act(seen(world), order))
        world.step(0.1)
        verdict = judge(order, start, seen(world))
        done += verdict.success
        if done > 4:
            break
    assert verdict is not None
    return verdict


@pytest.mark.parametrize("task", [PUSH_LEFT, PUSH_RIGHT, LIFT, PUT], ids=lambda task: task.name)
def test_the_expert_does_every_task(task: Task) -> None:
    world = Tabletop(CONTRACT, pads=2)
    for seed in range(3):
        verdict = show(world, task, seed, noise=0.006)
        assert verdict.success, f"scene {seed}: {verdict}"
        assert not verdict.wrong_target


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.006])
@pytest.mark.parametrize("task", [PUSH_LEFT, PUSH_RIGHT, LIFT, PUT], ids=lambda task: task.name)
def test_the_expert_succeeds_in_97_of_100_scenes(task: Task, noise: float) -> None:
    world = Tabletop(CONTRACT, pads=2)
    assert sum(show(world, task, seed, noise).success for seed in range(100)) >= 97


def test_pads_lie_clear_of_blocks_and_of_each_other_and_are_seen_in_their_colours() -> None:
    world = Tabletop(CONTRACT, pads=2)
    for seed in range(20):
        world.reset(seed)
        places = [thing.position[:2] for thing in (*world.blocks, *world.pads)]
        gaps = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]]
        assert min(gaps) > 0.089
        assert len({pad.colour for pad in world.pads}) == 2
    world.show(world.joint_positions * [0, 0, 0, 0, 0, 0, 1], world.blocks)  # the arm out of the picture's middle
    image = world.render("static")
    for pad in world.pads:
        column, row = world.project("static", pad.position[None])[0].astype(int)
        red, green, blue = image[row, column].astype(int)
        brightest = {"red": red, "green": green, "blue": blue, "yellow": min(red, green)}[pad.colour]
        assert brightest > 1.3 * (blue if pad.colour == "yellow" else sorted((red, green, blue))[1])
    with pytest.raises(UserError, match="pads must be from 0 to 2, not 3"):
        Tabletop(CONTRACT, pads=3)


def test_blocks_and_pads_keep_apart_in_the_truth_that_is_published() -> None:
    def marker() -> SimpleNamespace:
        stamp = SimpleNamespace(sec=0, nanosec=0)
        point, turn = SimpleNamespace(x=0, y=0, z=0), SimpleNamespace(x=0, y=0, z=0, w=1)
        return SimpleNamespace(
            header=SimpleNamespace(stamp=stamp, frame_id=""),
            lifetime=SimpleNamespace(sec=0),
            pose=SimpleNamespace(position=point, orientation=turn),
            scale=SimpleNamespace(x=0, y=0, z=0),
            color=SimpleNamespace(r=0, g=0, b=0, a=0),
        )

    now = moment()
    turned = Block("red", now.blocks[0].position, np.array([0.0, 0.0, 0.6, 0.8]))
    message = SimpleNamespace(markers=[fill_marker(marker(), turned, 5), *(fill_pad(marker(), p, 5) for p in now.pads)])
    (block,) = blocks_of(message)
    assert block.colour == "red"
    np.testing.assert_allclose(block.orientation, turned.orientation)
    assert [pad.colour for pad in pads_of(message)] == ["red", "green"]
    np.testing.assert_allclose([pad.position for pad in pads_of(message)], [pad.position for pad in now.pads])


def test_questions_about_scenes_with_pads_know_pads_and_what_is_held() -> None:
    scenes = render_shard(CONTRACT, "static", 0, 0, 24, pads=0.7)
    assert scenes.labels == ALL_LABELS
    assert render_shard(CONTRACT, "static", 0, 0, 1).labels == LABELS
    held = ~np.isnan(scenes.points[:, ALL_LABELS.index(HELD), 0])
    padded = ~np.isnan(scenes.points[:, [ALL_LABELS.index(f"{colour} pad") for colour in COLOURS], 0])
    assert 0 < held.sum() < 12 < (padded.sum(1) > 0).sum() < 24
    assert not held[padded.sum(1) == 0].any()
    rng = np.random.default_rng(0)
    for index in np.flatnonzero(held):
        points = dict(zip(scenes.labels, scenes.points[index].tolist(), strict=True))
        colour = next(colour for colour in COLOURS if points[colour] == points[HELD])
        led = {}
        for _ in range(60):
            for question in ask(scenes, int(index), rng, 4):
                words = question.text.split()
                if words[0] == "to" and "pad" in words and "go" in words[-2:]:
                    order = parse_order(question.text)
                    led[order.colour, order.pad] = question.point
        assert led
        for (block, pad), point in led.items():
            assert point == tuple(points[f"{pad} pad" if block == colour else block])


@pytest.mark.parametrize("command", [collect, evaluate])
def test_a_task_that_does_not_exist_or_cannot_be_done_is_refused_before_anything_starts(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    def said(*flags: str) -> str:
        where = ["--output", f"{tmp_path}/new"] if command is collect else []
        monkeypatch.setattr(sys, "argv", ["command", *where, *flags])
        assert command.main() == 1  # type: ignore[attr-defined]
        return capsys.readouterr().err

    assert "no task 'fly' (tasks: reach, push_left, push_right, lift, put, push, all)" in said("--task", "fly")
    assert "--pads is 0" in said("--task", "put", "--pads", "0")
    assert "--pads must be from 0 to 2" in said("--pads", "3")
