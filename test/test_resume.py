"""A fine-tuning that is stopped goes on as if it had not been, from checkpoints that are whole."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robovlm_ros.cli import finetune as finetune_command
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.runs import Checkpoints

from .makers import observation
from .runs import command, make_base, make_episodes, small_options, small_run, weights
from .test_bags import CONTRACT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_base(folder / "vlm")
    make_episodes(folder / "episodes")
    return folder


def stop(*_: Any) -> float:
    raise KeyboardInterrupt


# whatever rests on random numbers or on something that is kept from step to step
VARIANTS: dict[str, dict[str, Any]] = {
    "noise, dropout and moving images": {
        "head": {"type": "flow", "width": 16, "depth": 1}, "lora_rank": 2, "lora_dropout": 0.3,
        "augment_shift": (4,), "cache_features": False, "alignment_weight": 0.1,
    },
    "a window, a mixture and parts": {
        "head": {"type": "lstm", "width": 8, "depth": 1, "hidden": [8]}, "history": "policy_head", "window": 2,
        "accumulate": 2, "mixture": (1.0,), "schedule": "constant", "gradient_checkpointing": True,
        "train_text_embedding": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stopped", [3, 4])  # within an epoch, and at its end
def test_a_run_that_is_resumed_learns_what_the_uninterrupted_one_learns(
    variant: str, stopped: int, place: Path, tmp_path: Path
) -> None:
    options = {**VARIANTS[variant], "save_every": 2, "evaluate_every": stopped}
    for name in ("vlm", "episodes"):
        (tmp_path / name).symlink_to(place / name)
    whole, resumed = (Report("test", every=2) for _ in range(2))
    expected = weights(small_run(tmp_path, "whole", whole, **{**VARIANTS[variant], "save_every": 2}))
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, "stopped", Report("test", every=2), evaluate=stop, **options)
    found = weights(small_run(tmp_path, "stopped", resumed, resume=True, evaluate=lambda *_: 0.5, **options))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    kept = [{key: entry[key] for key in ("step", "loss")} for entry in whole.log]
    assert [{key: e[key] for key in ("step", "loss")} for e in resumed.log if "loss" in e] == kept


def test_the_last_checkpoints_and_the_best_are_kept_and_act(place: Path) -> None:
    success = {"step_2": 0.5, "step_4": 0.75, "step_6": 0.25, "step_7": 0.25}
    trained = small_run(
        place, "kept", save_every=1, keep_last=2, evaluate_every=2, evaluate=lambda folder, _: measure(folder, success)
    )
    checkpoints = place / "kept" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best", "run.json", "step_4", "step_6", "step_7"]
    assert (checkpoints / "best").resolve().name == "step_4"
    assert (trained.figures["best"]["step"], trained.figures["best"]["success_rate"]) == (4, 0.75)
    seen = observation(CONTRACT)
    last, best = (PolicyEngine.load(checkpoints / name).infer(seen).actions for name in ("step_7", "best"))
    assert np.isfinite(best).all()
    assert not np.array_equal(last, best)


def measure(folder: Path, success: dict[str, float]) -> float:
    """Play the command evaluate: write its results into a checkpoint that must be one already."""
    PolicyEngine.load(folder)
    value = success[folder.name]
    (folder / "evaluation.json").write_text(json.dumps({"success_rate": value}))
    return value


def test_a_failed_evaluation_costs_no_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: Any) -> float:
        raise UserError("no simulator here")

    trained = small_run(place, "unmeasured", steps=2, evaluate_every=2, evaluate=fail)
    assert "step 2 could not be evaluated: no simulator here" in capsys.readouterr().out
    assert trained.figures["best"]["validation_error"] > 0  # the best is told by something else


def test_without_evaluation_the_best_has_the_least_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for step, error in ((1, 3.0), (2, 1.0), (3, 2.0)):
        partial = checkpoints.begin(step)
        assert checkpoints.steps() == [*range(max(1, step - 1), step)] or step == 3  # what is written is no checkpoint
        (partial / "training" / "progress.json").write_text(json.dumps({"validation_error": error}))
        checkpoints.finish(step)
        checkpoints.settle()
    assert checkpoints.steps() == [2, 3]
    assert (tmp_path / "best").readlink() == Path("step_2")
    checkpoints.begin(4)
    checkpoints.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "step_2", "step_3"]


@pytest.fixture(scope="module")
def begun(place: Path) -> Path:
    """A run that stands at its fourth step of seven."""
    with pytest.raises(KeyboardInterrupt):
        small_run(place, "begun", evaluate=stop, save_every=4, evaluate_every=4)
    return place


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learning_rate": 0.002}, "learning_rate was 0.001 when the run began, not 0.002"),
        ({"head": "lstm"}, "head was {'type': 'mlp', 'hidden': [16]} when the run began"),
        ({"steps": 9}, "steps was 7 when the run began, not 9, on which the schedule 'cosine' depends"),
        ({"steps": 3}, "steps was 7 when the run began, not 3, and 4 are done"),
        ({"seed": 1}, "seed was 0 when the run began, not 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_does_not_go_on_with_other_options(begun: Path, changed: dict[str, Any], said: str) -> None:
    before = sorted((begun / "begun").rglob("*"))
    with pytest.raises(UserError) as refused:
        small_run(begun, "begun", resume=True, save_every=4, **changed)
    assert str(refused.value).startswith(f"--resume: {said}")
    assert sorted((begun / "begun").rglob("*")) == before


def test_a_run_does_not_go_on_with_other_episodes_or_another_base(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun / "begun", tmp_path / "begun")
    (tmp_path / "vlm").symlink_to(begun / "vlm")
    make_episodes(tmp_path / "episodes", count=5)
    with pytest.raises(UserError, match=r"the run began with other episodes: episodes/episode_4 is new$"):
        small_run(tmp_path, "begun", resume=True, save_every=4)
    shutil.rmtree(tmp_path / "episodes")
    make_episodes(tmp_path / "episodes", steps=5)
    with pytest.raises(UserError, match=r"other episodes: episodes/episode_0 is changed$"):
        small_run(tmp_path, "begun", resume=True, save_every=4)
    (tmp_path / "vlm").unlink()
    make_base(tmp_path / "vlm", seed=1)
    with pytest.raises(UserError, match="other weights than those of the base"):
        small_run(tmp_path, "begun", resume=True, save_every=4)


def finetune(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["finetune", *map(str, arguments)])
    return finetune_command.main()


def test_the_command_goes_on_with_what_the_run_began_with(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "policy"
    assert finetune(monkeypatch, "--output", output, "--resume") == 1
    assert "--episodes is missing: there is no checkpoint in" in capsys.readouterr().err
    shutil.copytree(begun / "begun", output)
    given = ["--episodes", begun / "episodes", "--base", begun / "vlm", "--output", output]
    assert finetune(monkeypatch, *given) == 1
    assert "holds checkpoints of an earlier run (up to step_4): go on with it by --resume" in capsys.readouterr().err
    assert finetune(monkeypatch, "--output", output, "--resume", "--chunk-size", 9) == 1
    assert (
        capsys.readouterr().err == "error: --resume: chunk_size was 3 when the run began, not 9: leave it as it was\n"
    )
    assert finetune(monkeypatch, "--output", output, "--resume", "--evaluate-every", 0, "--save-every", 2) == 0
    assert "goes on behind step 4 of 7" in capsys.readouterr().out
    assert [entry["step"] for entry in json.loads((output / "train_log.json").read_text())] == [7]
    assert (output / "loss.png").stat().st_size > 1000
    PolicyEngine.load(output)
    finished = (output / "model.safetensors").read_bytes()
    assert finetune(monkeypatch, "--output", output, "--resume") == 0  # there is nothing left to do
    assert (output / "model.safetensors").read_bytes() == finished


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_leaves_whole_checkpoints_and_goes_on(place: Path) -> None:
    options = {**small_options(save_every=1, steps=60).__dict__}
    small_run(place, "unkilled", save_every=1, steps=60)
    flags = ["--episodes", place / "episodes", "--base", place / "vlm", "--output", place / "killed", "--resume"]
    for name in ("cameras", "state"):
        flags += [f"--{name}", ",".join(options[name])]
    for name in ("chunk_size", "batch_size", "warmup_steps", "validation_share", "device", "save_every", "steps"):
        flags += [f"--{name.replace('_', '-')}", options[name]]
    yaml = place / "head.yaml"
    yaml.write_text("head: {type: mlp, hidden: [16]}\n")
    checkpoints, kills = Checkpoints(place / "killed" / "checkpoints"), 0
    rng = np.random.default_rng(0)
    while not checkpoints.steps() or checkpoints.steps()[-1] < 60:
        process = command("--config", yaml, *flags)
        before = checkpoints.steps()
        while checkpoints.steps() == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        for step in checkpoints.steps():
            PolicyEngine.load(checkpoints.path(step))
    assert kills > 3
    assert command("--config", yaml, *flags).communicate()[1].count("error") == 0
    for name in ("model.safetensors", "training/weights.safetensors"):
        expected = place / "unkilled" / "checkpoints" / "step_60" / name
        assert (place / "killed" / "checkpoints" / "step_60" / name).read_bytes() == expected.read_bytes()
