"""Several processes learn what one learns from the same observations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robovlm_ros.errors import UserError
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.steps import Look, StepBatches, check_parts, deal, drawn, shuffled
from robovlm_ros.vlm.checkpoint import load_policy

from .runs import make_base, make_episodes, make_questions, small_run, torchrun, weights

# chunks at the end of an episode are valid in part only, and the last step of an epoch is a short one: means over what
# counts are no means of means
VARIANTS: dict[str, dict[str, Any]] = {
    "masks, clipped, drawn and moved": {
        "clip": 0.01, "head": {"type": "mlp", "hidden": [16], "loss": "huber"}, "mixture": [1.0], "batch_size": 6,
        "augment_shift": [3], "cache_features": False, "lora_rank": 2, "lora_dropout": 0.0,
    },
    "losses beside, in parts": {
        "alignment_weight": 0.5, "cotrain_weight": 0.5, "cotrain_batch_size": 3, "accumulate": 2,
    },
    "windows, with the vision tower": {
        "history": "policy_head", "window": 2, "head": {"type": "lstm", "width": 8, "depth": 1, "hidden": [8]},
        "alignment_weight": 0.5, "train_vision": True, "gradient_checkpointing": True,
    },
}  # fmt: skip


@pytest.mark.timeout(900)  # four processes on a machine that may be busy
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    make_base(tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    questions = make_questions(tmp_path / "questions")
    variants = {name: dict(variant) for name, variant in VARIANTS.items()}
    variants["losses beside, in parts"]["cotrain_data"] = str(questions)
    variants["no number"] = {"learning_rate": 1e30, "clip": 1e30, "warmup_steps": 0}
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    process = torchrun(2, Path(__file__).with_name("together.py"), tmp_path, tmp_path / "results.json")
    own = {}
    for name, variant in variants.items():
        if name == "no number":
            continue
        report = Report(name, every=1)
        own[name] = (report.log, weights(small_run(tmp_path, f"{name}_alone", report, **variant)))
    output, errors = process.communicate(timeout=800)
    assert process.returncode == 0, errors
    found = json.loads((tmp_path / "results.json").read_text())
    refused = found.pop("no number")["error"]
    assert len(set(refused)) == 1  # all say the same
    assert "the loss is nan at step" in refused[0] or "the loss is inf at step" in refused[0]
    assert "for episode_" in refused[0]
    for name, (log, learned) in own.items():
        assert found[name]["same"], name  # both processes have the same weights
        for key in ("loss", "validation_error"):
            values = ([entry[key] for entry in lines if key in entry] for lines in (log, found[name]["log"]))
            expected, together = map(np.array, values)
            assert len(expected) == 7 if key == "loss" else len(expected) > 0
            np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        for key, value in learned.items():
            assert found[name]["weights"][key] == pytest.approx(float(abs(value).sum()), rel=1e-3, abs=1e-3), (
                name,
                key,
            )
    assert output.count("read 4/4 episodes") == len(variants)  # one of them speaks


@pytest.mark.slow
def test_weights_that_are_spread_over_processes_learn_the_same_and_go_on(tmp_path: Path) -> None:
    make_base(tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    saved = {"save_every": 2, "schedule": "constant", "train_vision": True}
    variants = {
        "whole": {**saved, "steps": 4},
        "begun": {**saved, "steps": 2, "output": "run"},
        "resumed": {**saved, "steps": 4, "output": "run", "resume": True},
    }
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    process = torchrun(2, Path(__file__).with_name("sharded.py"), tmp_path, tmp_path / "results.json")
    report = Report("alone", every=1)
    alone = small_run(tmp_path, "alone", report, **variants["whole"])
    _, errors = process.communicate(timeout=1000)
    assert process.returncode == 0, errors
    found = json.loads((tmp_path / "results.json").read_text())
    expected = [entry["loss"] for entry in report.log]
    for name in ("whole", "resumed"):
        losses = [entry["loss"] for entry in found[name]["log"]]
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        run = "run" if name == "resumed" else "whole_together"
        for folder in (tmp_path / name, tmp_path / run / "checkpoints" / "step_4"):
            policy, _ = load_policy(folder)
            for key, value in policy.state_dict().items():
                learned = alone.policy.state_dict()[key]
                np.testing.assert_allclose(value, learned, rtol=1e-2, atol=1e-3, err_msg=f"{folder} {key}")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("order", ["shuffled", "drawn"])
def test_a_step_looks_at_the_same_observations_however_it_is_dealt_out(
    processes: int, accumulate: int, order: str
) -> None:
    length, size = 14, 6
    make = shuffled(length, 3) if order == "shuffled" else drawn(np.arange(1.0, length + 1), 3)
    dealt = [
        StepBatches(make, length, size, accumulate=accumulate, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    whole = StepBatches(make, length, size)
    for epoch in range(2):
        for batches in (whole, *dealt):
            batches.epoch = epoch
        parts = [list(batches) for batches in dealt]
        assert {len(part) for part in parts} == {len(whole) * accumulate} == {len(dealt[0])}
        for step, looks in enumerate(whole):
            together = [
                look
                for part in range(accumulate)
                for own in parts
                for look in own[step * accumulate + part]
                if look.counts
            ]
            assert together == looks
    if order == "shuffled":
        assert sorted(look.item for looks in whole for look in looks) == list(range(length))


def test_a_part_without_an_observation_counts_nothing() -> None:
    assert deal([Look(5, 20)], 0, 2) + deal([Look(5, 20)], 1, 2) == [Look(5, 20, counts=False), Look(5, 20)]


def test_steps_that_cannot_be_dealt_out_evenly_are_refused() -> None:
    with pytest.raises(UserError, match=r"cannot be dealt out evenly to 3 processes x 2 parts .* a multiple of 6"):
        check_parts(64, 2, 3)
