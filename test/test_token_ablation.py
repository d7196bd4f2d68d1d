"""What actions depend on, how far action tokens have moved, and the command that says both."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.cli.inspect_attention import Look, looks_along
from robovlm_ros.cli.overlay import Panel, draw, spread
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.ablation import Ablation, Effect, Recorded, ablate
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.occlusion import occlude
from robovlm_ros.vlm.attention import attend
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.grid import ImageGrid
from robovlm_ros.vlm.movement import movement
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .families import save_family
from .makers import observation, small_policy, small_vlm
from .test_bags import CONTRACT as TABLETOP
from .test_bags import episode_messages
from .test_bags import record as record_bag
from .test_vlm_families import policy_of

OTHER = "go to the blue cube now"


def episode(processor: ActionTokenProcessor, steps: int = 4, seed: int = 0) -> list[Recorded]:
    """Random observations at the contract's rate with random commands, the last of which were cut off."""
    contract, rng = processor.contract, np.random.default_rng(seed)
    chunk, dims = int(processor.config.chunk_size), len(contract.action_dims)
    found = []
    for step in range(steps):
        seen = observation(contract, seed=100 * seed + step)
        actions = rng.normal(0, 0.5, (chunk, dims))
        actions[:, contract.binary] = rng.integers(0, 2, (chunk, int(contract.binary.sum())))
        valid = np.arange(chunk) < (chunk if step + 1 < steps else 2)
        stamp = seen.stamp_ns + step * contract.step_ns
        found.append(Recorded(observation=dataclasses.replace(seen, stamp_ns=stamp), actions=actions, valid=valid))
    return found


def by_name(ablation: Ablation) -> dict[str, Effect]:
    return {effect.name: effect for effect in ablation.effects}


def test_effects_are_those_that_two_engines_show_beside_each_other() -> None:
    policy, processor = small_policy(cameras=["front", "side"])
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    episodes = [episode(processor), episode(processor, seed=1)]
    found = ablate(policy, processor, episodes, [OTHER])
    effects = by_name(found)
    steps = [step for one in episodes for step in one]

    def decided(text: str | None) -> NDArray[np.float64]:
        engine = PolicyEngine(policy, processor, fast="off")
        told = [
            step.observation if text is None else dataclasses.replace(step.observation, instruction=text)
            for step in steps
        ]
        return np.array([engine.infer(seen).actions for seen in told])  # (T, C, A)

    plain, other = decided(None), decided(OTHER)
    recorded, valid = np.array([step.actions for step in steps]), np.array([step.valid for step in steps])
    state = np.array([step.observation.state for step in steps])
    relative = recorded[valid].copy()
    relative[:, :3] -= np.repeat(state[:, None, :3], valid.shape[1], axis=1)[valid]  # the gripper is absolute
    deviation = relative.std(0)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-9)
    swap = effects[f"instruction: {OTHER}"]
    np.testing.assert_allclose(swap.mean, np.abs(other - plain).mean((0, 1)), atol=1e-9)
    np.testing.assert_allclose(swap.largest, np.abs(other - plain).max((0, 1)), atol=1e-9)
    np.testing.assert_allclose(swap.error, np.abs(other - recorded)[valid].mean(0), atol=1e-9)
    assert swap.change_share == pytest.approx(float((np.abs(other - plain) / deviation).mean()))
    assert swap.largest_share == pytest.approx(float((np.abs(other - plain) / deviation).max()))
    np.testing.assert_allclose(effects["as it is"].error, np.abs(plain - recorded)[valid].mean(0), atol=1e-9)
    assert effects["as it is"].change_share == 0
    changed = [
        "action token zeroed", "action token random, same norm", f"instruction: {OTHER}", "images blank",
        "image blank: front", "image blank: side", "state token zeroed",
    ]  # fmt: skip
    assert all(effects[name].change_share > 1e-4 for name in changed)
    assert len({round(effects[name].change_share, 9) for name in changed}) == len(changed)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    np.testing.assert_array_equal(decided(None), plain)  # no hook was left behind


def test_a_token_at_zero_can_be_zeroed_without_effect() -> None:
    policy, processor = small_policy(state=[])
    torch.nn.init.zeros_(policy.action_token)
    effects = by_name(ablate(policy, processor, [episode(processor)]))
    assert effects["action token zeroed"].change_share == 0
    assert set(effects) == {"as it is", "action token zeroed", "images blank"}
    moved = movement(policy, processor.backbone.tokenizer)
    assert moved.at_zero
    assert moved.nearest == ((),)


def interchanged(policy: ActionTokenPolicy, processor: ActionTokenProcessor, **options: Any) -> tuple[Effect, Effect]:
    """Effects of swapping the token's state after the last layer, and of swapping the instruction."""
    effects = by_name(ablate(policy, processor, [episode(processor, **options), episode(processor, 2, 5)], [OTHER]))
    layers = len(policy.backbone.decoder_layers)
    first = effects[f"token's state after layer 1 of {layers} swapped"]
    last = effects[f"token's state after layer {layers} of {layers} swapped"]
    assert first.change_share != pytest.approx(last.change_share, rel=1e-3)
    return last, effects[f"instruction: {OTHER}"]


@pytest.mark.parametrize("name", ["gemma3", "qwen3_vl", "idefics", "florence2"])
def test_after_the_last_layer_the_tokens_state_carries_all_of_the_instruction(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path)
    last, swap = interchanged(*policy_of(tmp_path), steps=1)
    np.testing.assert_allclose(last.mean, swap.mean, atol=1e-5)
    assert swap.change_share > 1e-4


def test_swapped_states_stay_in_the_history() -> None:
    policy, processor = small_policy(history="policy_head", window=3, head={"type": "gpt"})
    last, swap = interchanged(policy, processor, steps=5)
    np.testing.assert_allclose(last.mean, swap.mean, atol=1e-5)


def test_behind_earlier_observations_the_token_looks_as_it_does_when_running() -> None:
    policy, processor = small_policy(history="interleaved", window=3)
    engine = PolicyEngine(policy, processor, fast="off")
    observations = [step.observation for step in episode(processor, 5)]
    looks = looks_along(engine, observations)
    assert [look.attention.frames for look in looks] == [1, 2, 3, 1, 2]
    for look, seen in zip(looks, observations, strict=True):
        decided = look.attention.output.actions.reshape(-1, *look.attention.output.actions.shape[-2:])[-1]
        np.testing.assert_allclose(processor.actions(decided, seen.state), engine.infer(seen).actions, atol=1e-5)
        shares = look.attention.shares(look.views["all layers"])
        assert sum(float(share) for share in shares.values()) == pytest.approx(1.0, abs=1e-5)
        assert (float(shares["earlier"]) > 0.01) == (look.attention.frames > 1)
        grids = [ImageGrid(first=0, rows=2, columns=2)]
        newest = look.attention.maps(look.views["layer 1"], grids)[0]
        assert float(newest.sum()) == pytest.approx(float(shares_of_layer(look)["images"]), abs=1e-5)
    words = [dataclasses.replace(observations[0], instruction=text) for text in ("go", OTHER)]
    padded = processor.collate([processor(seen) for seen in words])
    with pytest.raises(UserError, match="without padding"):
        attend(policy, padded)
    effects = by_name(ablate(policy, processor, [episode(processor, 5)], [OTHER]))
    assert effects["token's state after layer 2 of 2 swapped"].change_share > 1e-4


def shares_of_layer(look: Look) -> dict[str, torch.Tensor]:
    return look.attention.shares(look.views["layer 1"])


def test_movement_finds_the_words_that_tokens_resemble() -> None:
    policy, processor = small_policy(latent_num=3)
    words = policy.backbone.text_embedding.weight.detach()
    tokenizer = processor.backbone.tokenizer
    with torch.no_grad():
        policy.action_token[0] = 3 * words[tokenizer.convert_tokens_to_ids("red")]
        policy.action_token[1] = 0.0
    moved = movement(policy, tokenizer, words=2)
    assert moved.nearest[0][0] == ("red", pytest.approx(1.0))
    assert moved.nearest[0][1][1] < 0.99
    assert moved.nearest[1] == ()
    assert moved.norms[0] == pytest.approx(moved.distances[0][1])
    assert moved.norms[0] == pytest.approx(3 * float(words[tokenizer.convert_tokens_to_ids("red")].norm()))
    assert moved.word_norm == pytest.approx(float(words.norm(dim=1).median()), rel=0.05)
    assert 0 < moved.chance < 1
    assert not moved.at_zero


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (1, 1)])
def test_the_cell_that_is_looked_at_stays_lit(row: int, column: int) -> None:
    weights = np.zeros((2, 3))
    weights[row, column] = 0.5
    image = np.full((40, 60, 3), 200, np.uint8)
    drawn = np.asarray(draw(Panel(title="", image=image, weights=weights)).resize((3, 2), Image.Resampling.BOX))
    assert np.unravel_index(int(drawn[..., 0].argmax()), (2, 3)) == (row, column)
    dark = np.asarray(draw(Panel(title="", image=image, weights=weights * 1e-3)))
    assert dark.max() < 60, "what gets next to nothing is not lit"


def test_a_map_covers_its_box_alone() -> None:
    over = spread(np.ones((2, 2)), (100, 60), (0.25, 0.0, 0.75, 1.0))
    assert over.shape == (60, 100)
    assert over[:, 26:74].min() == pytest.approx(1.0)
    assert over[:, :24].max() == over[:, 76:].max() == 0.0


def test_covering_a_part_of_an_image_is_what_it_says_and_leaves_the_memory_alone() -> None:
    policy, processor = small_policy(cameras=["front", "side"], history="policy_head", window=3, head={"type": "lstm"})
    engine, steps = PolicyEngine(policy, processor, fast="off"), [step.observation for step in episode(processor, 3)]
    for seen in steps[:2]:
        engine.infer(seen)
    memory, seen = engine.memory, steps[2]
    found = occlude(engine, seen, "side", 3)  # of 40 x 30 px
    assert engine.memory is memory
    image = seen.images["side"]
    covered = image.copy()
    covered[10:20, 27:40] = image.mean((0, 1)).round()
    chunks = []
    for shown in (image, covered):
        engine.memory = memory
        chunks.append(engine.infer(dataclasses.replace(seen, images={**seen.images, "side": shown})).actions)
    scale = processor.action_normaliser.scale
    assert found[1, 2] == pytest.approx(np.abs((chunks[1] - chunks[0]) / scale).mean())
    assert len(np.unique(found)) == 9
    with pytest.raises(UserError, match="camera 'side' has 40 x 30 px, which make no 31 x 31 parts"):
        occlude(engine, seen, "side", 31)


def write_policy(folder: Path) -> ActionTokenProcessor:
    """A policy for the tabletop in a folder, with two action tokens that have moved."""
    vlm, words = small_vlm()
    config = ActionTokenConfig(
        vlm_config=vlm.config, contract=TABLETOP.to_dict(), cameras=["static", "wrist"], state=["ee.x", "ee.y"],
        chunk_size=3, latent_num=2, head={},
    )  # fmt: skip
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    torch.nn.init.normal_(policy.action_token)
    processor = ActionTokenProcessor(config, words)
    save_policy(folder, policy, processor)
    return processor


def test_inspect_token_says_and_draws_what_was_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(tmp_path / "policy")
    for name in ("one", "two"):
        record_bag(tmp_path / "episodes" / name, episode_messages())
    path, output, figures = tmp_path / "episodes" / "one", tmp_path / "out", tmp_path / "figures.json"
    flags = ["--episode", str(path), "--output", str(output), "--film", "gif", "--frames", "2", "--swap", OTHER]
    flags += ["--occlusion", "2", "--json", str(figures)]
    assert inspect(["token", str(tmp_path / "policy"), *flags]) == 0
    printed = capsys.readouterr().out
    for words in (
        "nearest words",
        "all layers",
        "state token zeroed",
        f"instruction: {OTHER}",
        "deviation of recorded",
    ):
        assert words in printed
    found = json.loads(figures.read_text())
    assert len(found["movement"]["norms"]) == 2
    assert not found["movement"]["at_zero"]
    views = found["attention"][0]["views"]
    assert set(views) == {"layer 1", "layer 2", "all layers"}
    for view in views.values():
        assert sum(view["shares"].values()) == pytest.approx(1.0, abs=1e-4)
        assert set(view["brightest"]) == {"static", "wrist"}
    assert len(found["ablation"]["effects"][0]["mean"]) == len(TABLETOP.action_dims)
    films = Image.open(output / "one.gif")
    assert films.n_frames == len(views["layer 1"]["brightest"]["static"]) == 5
    assert np.shape([one["change"] for one in found["occlusion"][0]["maps"]]) == (8, 2, 2)  # instants x cameras x texts
    for kind, panels in (("layers", 4), ("instructions", 3), ("occlusion", 3)):
        with Image.open(output / f"one_{kind}.png") as picture:
            assert picture.width == panels * 246 + 6
            assert picture.height > 2 * 2 * 240


def test_inspect_token_refuses_what_cannot_work_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(tmp_path / "policy")
    episode_path = record_bag(tmp_path / "one", episode_messages())
    assert inspect(["token", str(tmp_path / "policy"), "--output", str(tmp_path / "out")]) == 1
    assert "name an episode with --episode" in capsys.readouterr().err
    policy, processor = small_policy()
    save_policy(tmp_path / "arm", policy, processor)
    assert inspect(["token", str(tmp_path / "arm"), "--episode", str(episode_path)]) == 1
    assert "contract 'tabletop', whose state or actions are not those" in capsys.readouterr().err


def test_the_shipped_policys_token_looks_at_the_block_that_is_named() -> None:
    root = Path(__file__).resolve().parent.parent
    views = runpy.run_path(str(root / "tools" / "token_gaze.py"))["gaze"](root / "checkpoints" / "tabletop", 4)
    assert len(views["all layers"]) == 12
    assert np.mean(views["all layers"]) > 0.5
