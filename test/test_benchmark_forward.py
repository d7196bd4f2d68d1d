"""What `benchmark forward` rests on: shapes of true size, a plain way that acts alike, costs counted right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from robovlm_ros.cli.benchmark import main
from robovlm_ros.cli.benchmark_forward import KEYS, with_cameras
from robovlm_ros.cli.forward import Frames, measure
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.costs import Ceilings, Cost, count
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.plain import PlainEngine
from robovlm_ros.vlm.shapes import SHAPES, Shape, make_policy, make_vlm

from .families import kosmos2

CONTRACT = Contract.load("tabletop")


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_as_many_parameters_as_the_published_model(name: str) -> None:
    model, _ = make_vlm(name, torch.bfloat16, "meta")
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(
        SHAPES[name].parameters, rel=3e-3
    )


@pytest.mark.parametrize(
    ("head", "history", "window"), [("mlp", "one_step", 1), ("lstm", "policy_head", 3), ("flow", "interleaved", 3)]
)
def test_the_plain_way_and_the_engine_decide_alike_over_a_whole_window(head: str, history: str, window: int) -> None:
    policy, processor = make_policy("tabletop", CONTRACT, head=head, history=history, window=window)
    plain, engine, frames = PlainEngine(policy, processor), PolicyEngine(policy, processor), Frames(CONTRACT)
    decided = []
    for number in range(2 * window):
        observation = frames.next()
        torch.manual_seed(number)
        wanted = plain.infer(observation)
        torch.manual_seed(number)
        decided.append(engine.infer(observation).actions)
        np.testing.assert_allclose(decided[-1], wanted, atol=1e-5)
    assert plain.stages_s["head"] > 0
    assert np.ptp(decided, axis=0).max() > 1e-6  # it looks
    scores, states = plain.module.scores, plain.module.states
    assert scores is not None  # what the plain way computes for nobody
    assert states is not None
    assert scores.shape[1] == states[0].shape[1]
    assert len(states) == 1 + len(policy.backbone.decoder_layers)


def test_operations_and_bytes_are_those_that_the_shapes_say() -> None:
    policy, processor = make_policy("tabletop", CONTRACT)
    inputs = processor.collate([processor(Frames(CONTRACT).next())])
    costs = count(policy, inputs)
    tokens = inputs["input_ids"].shape[1] + 2  # with state token and action token
    width, layers, dims = 128, 3, len(CONTRACT.state_names)
    products = layers * (4 * width * width + 3 * width * 3 * width)  # q, k, v, o; gate, up, down
    attention = layers * 2 * tokens * tokens * width  # scores, and the sum of values by them
    known = 2 * (tokens * products + attention + dims * width)
    assert 0 <= costs["language"].flops - known <= 2 * tokens * width  # angles of positions are a small product, too
    weights = sum(w.numel() for name, w in policy.named_parameters() if "text_model" in name and "embed" not in name)
    vectors = inputs["input_ids"].shape[1] + dims + 2  # words; weight and bias of the state token; the action token
    assert costs["language"].bytes == 4 * (weights + vectors * width)
    assert costs["head"].bytes == 4 * sum(w.numel() for w in policy.head.parameters())


def test_a_shape_sees_and_is_counted_in_a_family_whose_learned_queries_and_norms_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, words = kosmos2()
    monkeypatch.setitem(SHAPES, "small", Shape(0.0, "", lambda: (model.config, words)))
    policy, processor = make_policy("small", CONTRACT)
    plain, frames = PlainEngine(policy, processor), Frames(CONTRACT)
    assert np.ptp([plain.infer(frames.next()) for _ in range(3)], axis=0).max() > 1e-6
    costs = count(policy, processor.collate([processor(frames.next())]))
    assert min(cost.flops for cost in costs.values()) > 0
    assert all(weight.requires_grad for weight in policy.parameters())


def test_the_floor_is_set_by_what_is_scarcer() -> None:
    cost = Cost(flops=2000, bytes=30)
    assert cost.floor_s(Ceilings(bytes_per_s=10.0, flops_per_s=1000.0)) == 3.0
    assert cost.floor_s(Ceilings(bytes_per_s=100.0, flops_per_s=1000.0)) == 2.0


def test_an_engine_that_decides_otherwise_is_not_measured() -> None:
    policy, processor = make_policy("tabletop", CONTRACT)

    def wrong(*_: object) -> PolicyEngine:
        return PolicyEngine(*make_policy("tabletop", CONTRACT, seed=1))

    with pytest.raises(UserError, match="computes something else"):
        measure(policy, processor, Ceilings(bytes_per_s=1.0, flops_per_s=1.0), 0.1, compiled=False, make_engine=wrong)


def test_the_command_writes_what_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, picture = tmp_path / "forward.json", tmp_path / "forward.png"
    arguments = ["forward", "--seconds", "0.1", "--no-compile", "--history", "one_step", "policy_head"]
    assert main([*arguments, "--json", str(result), "--plot", str(picture)]) == 0
    told = json.loads(result.read_text(encoding="utf-8"))
    assert list(told)[: len(KEYS)] == list(KEYS)
    assert told["compiled_p50_ms"] is None
    (row,) = told["rows"]
    assert row["fast_p50_ms"] == pytest.approx(np.median(row["samples_ms"]["fast"]), rel=1e-3)
    assert told["speedup"] == pytest.approx(told["eager_p50_ms"] / told["fast_p50_ms"], rel=1e-2)
    assert 0 < told["share_of_floor"] < 1
    assert picture.stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "left out: tabletop, 1, mlp, policy_head: head 'mlp' looks at one observation" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--backbone", "gpt"], "backbone shape 'gpt' is not one of: tabletop"),
        (["--dtype", "int3"], "--dtype 'int3' is not one of"),
        (["--cameras", "0"], "--cameras at least 1"),
        (["--fast", "magic"], "fast 'magic' is not one of: auto, off"),
    ],
)
def test_bad_options_are_named_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forward", *arguments]) == 1
    assert complaint in capsys.readouterr().err


def test_a_contract_can_have_any_number_of_cameras() -> None:
    contract = with_cameras(CONTRACT, 3, 64, 48)
    assert [(camera.width, camera.height) for camera in contract.cameras] == [(64, 48)] * 3
