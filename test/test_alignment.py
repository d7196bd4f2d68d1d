"""Alignment: what arrives in which order makes no difference, old data make no observation."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robovlm_ros.alignment import MAX_IMAGES, Aligner
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.safety import SafetyFilter

CONTRACT = Contract.load("tabletop")
STEP = CONTRACT.step_ns
START = 10**15
SIZES = {camera.name: (camera.height, camera.width, 3) for camera in CONTRACT.cameras}
WIDTHS = {source.name: len(source.dims) for source in CONTRACT.state}


def add(aligner: Aligner, source: str, stamp: int, value: float) -> None:
    if source in SIZES:
        aligner.add_image(source, stamp, lambda: np.full(SIZES[source], int(value) % 256, np.uint8))
    else:
        aligner.add_state(source, stamp, np.full(WIDTHS[source], value))


def add_all(aligner: Aligner, stamp: int, value: float = 0.0, but: tuple[str, ...] = ()) -> None:
    for source in ("joints", "ee", "static", "wrist"):
        if source not in but:
            add(aligner, source, stamp, value)


def drain(aligner: Aligner) -> list[Observation]:
    found = []
    while (observation := aligner.next_observation()) is not None:
        found.append(observation)
    return found


def same(a: Observation, b: Observation) -> bool:
    return (
        a.stamp_ns == b.stamp_ns
        and a.instruction == b.instruction
        and a.state.tobytes() == b.state.tobytes()
        and {k: v.tobytes() for k, v in a.images.items()} == {k: v.tobytes() for k, v in b.images.items()}
    )


def test_an_observation_is_given_out_once_every_source_has_its_stamp() -> None:
    aligner = Aligner(CONTRACT)
    aligner.set_instruction("reach the red block")
    add_all(aligner, START, 1.0, but=("wrist",))
    assert aligner.next_observation() is None
    add(aligner, "wrist", START, 1.0)
    observation = aligner.next_observation()
    assert observation is not None
    assert (observation.stamp_ns, observation.instruction) == (START, "reach the red block")
    assert observation.state.dtype == np.float32
    assert observation.state.tolist() == [1.0] * len(CONTRACT.state_names)
    assert {name: image.shape for name, image in observation.images.items()} == SIZES
    assert aligner.next_observation() is None
    assert aligner.last_stamp_ns == START


def test_other_sources_give_their_newest_sample_that_is_not_younger() -> None:
    aligner = Aligner(CONTRACT)
    for source, ahead in (("joints", -3), ("joints", 1), ("ee", -1), ("ee", 40), ("wrist", -7), ("wrist", 5)):
        add(aligner, source, START + ahead, 100 + ahead)
    add(aligner, "static", START, 0)
    observation = aligner.next_observation()
    assert observation is not None
    assert observation.state.tolist() == [97.0] * 7 + [99.0] * 3
    assert int(observation.images["wrist"][0, 0, 0]) == 93


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_arrival_order_duplicates_and_pauses_change_nothing(data: st.DataObject) -> None:
    """Within what may be late, any order of arrival gives the observations that the right order gives."""
    samples: list[tuple[int, str, int]] = [(START - STEP, source, 0) for source in (*SIZES, *WIDTHS)]
    for i in range(1, 8):
        present = [source for source in (*SIZES, *WIDTHS) if source == "static" or data.draw(st.integers(0, 5))]
        samples += [(START + i * STEP - data.draw(st.integers(0, 3)) * STEP // 10, name, i) for name in present]
    samples += [(START + 9 * STEP, source, 9) for source in (*SIZES, *WIDTHS)]

    def run(order: list[tuple[int, str, int]]) -> list[Observation]:
        aligner = Aligner(CONTRACT)
        for stamp, source, value in order:
            add(aligner, source, stamp, value)
        return drain(aligner)

    shuffled = data.draw(st.permutations(samples))
    twice = [item for sample in shuffled for item in [sample] * data.draw(st.integers(1, 2))]
    expected, found = run(sorted(samples)), run(twice)
    assert len(expected) >= 3
    assert len(expected) == len(found)
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_topics_may_arrive_in_any_order_among_each_other_while_observations_are_taken() -> None:
    streams = {source: [(START + i * STEP, i) for i in range(20)] for source in (*SIZES, *WIDTHS)}

    def run(seed: int) -> list[Observation]:
        aligner, rng, found = Aligner(CONTRACT), np.random.default_rng(seed), []
        left = {source: list(items) for source, items in streams.items()}
        while left:
            source = str(rng.choice(sorted(left)))
            stamp, value = left[source].pop(0)
            add(aligner, source, stamp, value)
            found += drain(aligner)
            left = {name: items for name, items in left.items() if items}
        return found

    first = run(0)
    assert len(first) == 20
    for seed in range(1, 6):
        assert all(same(a, b) for a, b in zip(first, run(seed), strict=True))


def test_acting_takes_the_newest_and_drops_the_older() -> None:
    aligner = Aligner(CONTRACT)
    for i in range(5):
        add_all(aligner, START + i * STEP, i)
    observation = aligner.newest_observation()
    assert observation is not None
    assert observation.stamp_ns == START + 4 * STEP
    assert aligner.newest_observation() is None
    assert aligner.next_observation() is None


def test_acting_takes_an_older_one_where_the_newest_would_rest_on_old_data_and_goes_on() -> None:
    aligner = Aligner(CONTRACT)
    late = START + round(CONTRACT.state[0].max_age_s * 1e9) + 1
    add_all(aligner, START - STEP, but=("static",))
    for stamp in (START - STEP // 2, late):  # a machine that stood still delivers all at once
        add_all(aligner, stamp, but=("joints",))
    add(aligner, "joints", late + 1, 1.0)
    add_all(aligner, late + 1, but=("joints", "static"))
    found = aligner.newest_observation()
    assert found is not None
    assert found.stamp_ns == START - STEP // 2
    assert aligner.newest_observation() is None
    add_all(aligner, late + STEP)
    found = aligner.newest_observation()
    assert found is not None
    assert found.stamp_ns == late + STEP


def test_acting_goes_on_without_a_late_source_after_the_grace_period() -> None:
    aligner = Aligner(CONTRACT, grace_s=0.05)
    add_all(aligner, START, 1)
    assert aligner.newest_observation(START) is not None
    add_all(aligner, START + STEP, 2, but=("wrist",))
    now = START + STEP + 5_000_000
    assert aligner.newest_observation(now) is None
    assert aligner.newest_observation(now + 49_000_000) is None
    assert aligner.newest_observation() is None  # without a clock only what is complete is given
    observation = aligner.newest_observation(now + 50_000_000)
    assert observation is not None
    assert observation.stamp_ns == START + STEP
    assert int(observation.images["wrist"][0, 0, 0]) == 1


def test_a_source_older_than_its_limit_makes_no_observation() -> None:
    aligner = Aligner(CONTRACT)
    add_all(aligner, START)
    drain(aligner)
    late = START + round(CONTRACT.cameras[1].max_age_s * 1e9) + 1
    add_all(aligner, late, but=("wrist",))
    assert aligner.newest_observation(late) is None
    assert aligner.newest_observation(late + 10**9) is None
    assert aligner.ages(late)["wrist"] > CONTRACT.cameras[1].max_age_s
    add_all(aligner, late + STEP)
    assert [o.stamp_ns for o in drain(aligner)] == [late + STEP]


def test_images_before_the_first_state_are_left_out() -> None:
    aligner = Aligner(CONTRACT)
    add(aligner, "static", START, 0)
    add_all(aligner, START + STEP)
    assert [o.stamp_ns for o in drain(aligner)] == [START + STEP]


def test_an_instruction_holds_from_its_stamp_on_and_the_first_also_before() -> None:
    aligner = Aligner(CONTRACT)
    aligner.set_instruction("second", START + 3 * STEP)
    aligner.set_instruction("first", START + STEP)
    for i in range(5):
        add_all(aligner, START + i * STEP)
    assert [o.instruction for o in drain(aligner)] == ["first", "first", "first", "second", "second"]
    aligner.set_instruction("at once")
    add_all(aligner, START + 5 * STEP)
    assert [o.instruction for o in drain(aligner)] == ["at once"]


def test_of_instructions_with_one_stamp_the_last_holds() -> None:
    aligner = Aligner(CONTRACT)
    for text in ("old", "", "reach the red block"):  # simulated time stood still meanwhile
        aligner.set_instruction(text, START)
    add_all(aligner, START)
    assert [o.instruction for o in drain(aligner)] == ["reach the red block"]


def test_without_an_instruction_it_is_empty() -> None:
    aligner = Aligner(CONTRACT)
    add_all(aligner, START)
    assert [o.instruction for o in drain(aligner)] == [""]


def test_a_jump_back_in_time_begins_a_new_run_and_keeps_the_instruction() -> None:
    aligner = Aligner(CONTRACT)
    aligner.set_instruction("reach the red block", START)
    add_all(aligner, START)
    add_all(aligner, START + STEP, but=("wrist",))
    assert len(drain(aligner)) == 1
    add_all(aligner, START - 5 * 10**9, 3.0)
    add_all(aligner, START - 5 * 10**9 + STEP, 4.0)
    found = drain(aligner)
    assert [o.stamp_ns - START for o in found] == [-5 * 10**9, -5 * 10**9 + STEP]
    assert [o.instruction for o in found] == ["reach the red block"] * 2


def test_an_image_that_was_given_out_is_not_given_out_again() -> None:
    aligner = Aligner(CONTRACT)
    add_all(aligner, START)
    assert len(drain(aligner)) == 1
    add_all(aligner, START)
    add_all(aligner, START - STEP)
    assert drain(aligner) == []


def test_cameras_that_are_not_used_are_neither_decoded_nor_waited_for() -> None:
    def never() -> Any:
        raise AssertionError("decoded")

    aligner = Aligner(CONTRACT, ["wrist"])
    for i in range(2):
        aligner.add_image("static", START + i, never)
        add_all(aligner, START + i * STEP, but=("static",))
    assert [set(o.images) for o in drain(aligner)] == [{"wrist"}] * 2
    lazy = Aligner(CONTRACT)
    lazy.add_image("static", START, never)
    add_all(lazy, START, but=("static",))
    add_all(lazy, START + STEP)
    assert lazy.newest_observation() is not None  # the older image is never looked at


def test_ages_count_from_the_newest_stamp_and_begin_infinite() -> None:
    aligner = Aligner(CONTRACT)
    assert set(aligner.ages(START).values()) == {math.inf}
    add(aligner, "ee", START, 0)
    add(aligner, "ee", START - 5, 0)
    assert aligner.ages(START + 10**9)["ee"] == pytest.approx(1.0)
    aligner.reset()
    assert set(aligner.ages(START).values()) == {math.inf}


def test_memory_is_bounded_when_a_source_stays_away() -> None:
    aligner = Aligner(CONTRACT)
    for i in range(5 * MAX_IMAGES):
        add_all(aligner, START + i * STEP, but=("ee",))
    assert max(len(track.stamps) for track in aligner._images.values()) <= MAX_IMAGES


def test_a_changed_resolution_is_said_and_does_not_block_what_follows() -> None:
    aligner = Aligner(CONTRACT)
    add_all(aligner, START, but=("static",))
    aligner.add_image("static", START, np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(UserError, match=r"camera 'static' .*: image of 5x4, the contract says 96x96"):
        aligner.next_observation()
    add_all(aligner, START + STEP)
    assert [o.stamp_ns for o in drain(aligner)] == [START + STEP]


def test_unknown_and_ambiguous_names_are_refused() -> None:
    with pytest.raises(UserError, match="no camera 'left'"):
        Aligner(CONTRACT, ["left"])
    with pytest.raises(UserError, match="no state 'arm'"):
        Aligner(CONTRACT).add_state("arm", 0, np.zeros(1))
    joints, ee = CONTRACT.state
    twice = dataclasses.replace(CONTRACT, state=(dataclasses.replace(joints, name="wrist"), ee))
    with pytest.raises(UserError, match="rename"):
        Aligner(twice)


def test_the_age_of_an_images_change_is_told_where_the_contract_watches_for_it() -> None:
    values = CONTRACT.to_dict()
    values["cameras"][0]["max_frozen_s"] = 0.5
    contract = Contract.from_dict(values)
    camera, aligner = contract.cameras[0], Aligner(contract)
    assert camera.unchanged not in aligner.ages(START)
    for i, data in enumerate((b"one", b"two", b"two", b"two")):
        message = types.SimpleNamespace(header=None, data=data)
        aligner.add_message(camera.topic, message, START + i * 10**9)
    ages = aligner.ages(START + 4 * 10**9)
    assert (ages[camera.name], ages[camera.unchanged]) == (1.0, 3.0)
    gate = SafetyFilter(contract, period_ns=10**7)
    assert gate.stale({camera.unchanged: 0.4}) == ()
    assert gate.stale({camera.unchanged: 0.6}) == ("camera 'static' shows the same image for 0.60 s (limit 0.5 s)",)
