"""The figures of `evaluate`: rates, their interval, and what a policy's own statistics say."""

from __future__ import annotations

import dataclasses

import pytest

from robovlm_ros.cli.episodes import Episode
from robovlm_ros.cli.evaluate import latency, summary, wilson
from robovlm_ros.contract import Contract
from robovlm_ros.nodes.diagnostics import in_words
from robovlm_ros.runtime.control import Controller
from robovlm_ros.sim.tasks import SUCCESS_RADII_M


def episode(distance_m: float, wrong_target: bool = False) -> Episode:
    return Episode(
        seed=1, instruction="reach it", target="red", distance_m=distance_m, wrong_target=wrong_target, seconds=2.0
    )


def test_the_interval_is_that_of_the_literature() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=5e-5)


def test_rates_count_episodes_within_each_radius_and_at_another_block() -> None:
    done = [episode(0.01), episode(0.025), episode(0.035), episode(0.2, wrong_target=True)]
    figures = summary(done, [episode(0.01), episode(0.3)], "realtime", 3, 12.34)
    assert figures["episodes"] == 4
    assert [figures[f"success_rate{end}"] for end in ("_2cm", "_3cm", "")] == [0.25, 0.5, 0.75]
    assert (figures["wrong_target_rate"], figures["no_language_success_rate"]) == (0.25, 0.5)
    assert (figures["mode"], figures["seconds"]) == ("realtime", 12.3)
    assert summary(done, [], "lockstep", 3, 1.0)["no_language_success_rate"] is None
    assert episode(SUCCESS_RADII_M[-1] - 1e-6).success
    assert not episode(SUCCESS_RADII_M[-1]).success


def test_each_task_has_figures_of_its_own() -> None:
    lift = {"task": "lift", "stages": {"held": True}}
    done = [
        episode(0.01),
        dataclasses.replace(episode(0.0), done=True, **lift),  # type: ignore[arg-type]
        dataclasses.replace(episode(0.01), done=False, **lift),  # type: ignore[arg-type]
    ]
    figures = summary(done, done[2:], "lockstep", 3, 1.0)
    assert figures["success_rate"] == pytest.approx(2 / 3)
    assert "success_rate_2cm" not in figures
    reach, lifts = figures["tasks"]["reach"], figures["tasks"]["lift"]
    assert (reach["success_rate"], reach["success_rate_2cm"], reach["no_language_success_rate"]) == (1.0, 1.0, None)
    assert (lifts["success_rate"], lifts["no_language_success_rate"], lifts["stages"]) == (0.5, 0.0, {"held": 1.0})
    assert lifts["success_interval_95"] == list(wilson(1, 2))


def test_latency_is_read_from_what_the_policy_really_says() -> None:
    controller = Controller(Contract.load("tabletop"), max_chunk_age_ns=10**9, lockstep=False, now_ns=0)
    assert latency(in_words(controller.figures(1))) == {}
    for milliseconds in (10, 20, 30):
        controller.latency.add(milliseconds * 1_000_000)
    assert latency(in_words(controller.figures(2)))["p50"] == 20.0
