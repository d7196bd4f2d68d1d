"""History interleaved: a window as one sequence, at once in training and observation by observation when running."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robovlm_ros.cli import finetune as finetune_command
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, configure, train
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import WindowDataset
from robovlm_ros.vlm.backbones import FAMILIES as ADAPTERS
from robovlm_ros.vlm.checkpoint import load_vlm, save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.context import read_window
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .families import FAMILIES, save_family
from .makers import arm_contract, observation, small_policy, small_vlm
from .test_bags import CONTRACT as BAG_CONTRACT
from .test_bags import episode_messages
from .test_bags import record as record_bag
from .test_heads import SMALL, at, recordings
from .test_vlm_families import own_hidden_states

CONTRACT = arm_contract(4)
WINDOW = 3
INTERLEAVED: dict[str, Any] = {"history": "interleaved", "window": WINDOW}
HEADS: dict[str, dict[str, Any]] = {
    **{kind: SMALL[kind] for kind in ("mlp", "flow", "diffusion")},
    "discrete": {"type": "discrete", "bins": 16},
}
ADAPTER = {name: ADAPTERS[name.replace("paligemma2", "paligemma")] for name in FAMILIES}
READING = [name for name in FAMILIES if ADAPTER[name].not_interleaved == ""]
"""Families that can read on."""
QUICK = ("paligemma2", "gemma3", "qwen2_5_vl", "smolvlm", "llava")
"""Each with masks or positions of its own; the others are slow tests."""
MARKED = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in READING]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's checkpoint folder, made when it is first asked for."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            save_family(name, root / name)
        return root / name

    return folder


def policy_of(folder: Path, **settings: Any) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """An interleaved policy on the model in a folder, with two action tokens that have moved."""
    vlm, processor = load_vlm(folder)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=CONTRACT.to_dict(),
        cameras=["front", "side"],
        state=list(CONTRACT.state_names),
        chunk_size=5,
        latent_num=2,
        head={},
        **{**INTERLEAVED, **settings},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
        torch.nn.init.normal_(policy.action_token)
    return policy, ActionTokenProcessor(config, processor)


def frames(processor: ActionTokenProcessor, text: str = "reach the red block", seed: int = 0) -> list[Any]:
    """Model inputs of as many observations as a window holds."""
    return [processor(observation(processor.contract, text, 10 * seed + t)) for t in range(WINDOW)]


def windows(processor: ActionTokenProcessor, *samples: list[Any]) -> dict[str, torch.Tensor]:
    """A batch (B, W, ...) of them."""
    return processor.collate([processor.collate(sample) for sample in samples])


@torch.inference_mode()
def latents(policy: ActionTokenPolicy, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = policy(**batch).latents
    return found


@pytest.mark.parametrize("name", MARKED)
def test_reading_on_gives_what_the_whole_window_gives_in_any_family(saved: Callable[[str], Path], name: str) -> None:
    policy, processor = policy_of(saved(name))
    made = frames(processor)
    whole = latents(policy, windows(processor, made))  # (1, W, 2, D)
    history = None
    for t, frame in enumerate(made):
        with torch.inference_mode():
            kept = None if history is None else [layer[0].clone() for layer in history.layers]
            output = policy(**processor.collate([frame]), history=history)
            again = policy(**processor.collate([frame]), history=history).latents  # a context is a value
        torch.testing.assert_close(output.latents, whole[:, t], atol=2e-5, rtol=0)
        assert torch.equal(again, output.latents)
        assert kept is None or all(torch.equal(a, b[0]) for a, b in zip(kept, history.layers, strict=True))
        history = output.history
    assert history is None  # the window is full: the next observation begins anew
    # the past is seen, and the first frame is that of one_step
    other = windows(processor, [frames(processor, seed=1)[0], *made[1:]])
    assert not torch.allclose(latents(policy, other)[:, 2], whole[:, 2], atol=1e-3)
    alone, _ = policy_of(saved(name), history="one_step", window=1)
    torch.testing.assert_close(latents(alone, processor.collate(made[:1])), whole[:, 0], atol=2e-5, rtol=0)
    # what comes later is not
    other = windows(processor, [*made[:2], frames(processor, seed=1)[2]])
    torch.testing.assert_close(latents(policy, other)[:, :2], whole[:, :2], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", MARKED)
def test_windows_of_a_batch_do_not_depend_on_each_others_length(saved: Callable[[str], Path], name: str) -> None:
    policy, processor = policy_of(saved(name))
    samples = [frames(processor, text, seed) for seed, text in enumerate(("go", "move above the yellow cube now"))]
    alone = torch.cat([latents(policy, windows(processor, sample)) for sample in samples])
    together = latents(policy, windows(processor, *samples))
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    # filled up, as at an episode's begin
    short = latents(policy, windows(processor, [samples[0][0], samples[0][1], samples[0][1]]))
    torch.testing.assert_close(short[:, :2], alone[:1, :2], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "name", [one for one in MARKED if one.values[0] not in ("kosmos-2", "paligemma", "paligemma2")]
)
def test_a_window_of_prompts_is_what_the_classs_own_forward_makes_of_them(
    saved: Callable[[str], Path], name: str
) -> None:
    policy, processor = policy_of(saved(name))
    made = frames(processor)
    one = processor.collate(made)  # (W, ...)
    joined = {key: one[key].flatten(0, 1)[None] for key in ("input_ids", "attention_mask")}  # (1, W L)
    is_image = joined["input_ids"] == policy.backbone.image_token_id
    family = processor.family
    for key in (*family.image_keys, *family.text_keys[2:]):
        if key in one:
            joined[key] = one[key].flatten(0, 1)  # (W images, ...)
    if name == "smolvlm":
        joined["pixel_values"] = joined["pixel_values"][None]
    if name == "llava_onevision":
        joined["batch_num_images"] = torch.tensor([2 * WINDOW])
    if name == "gemma3":
        joined["token_type_ids"] = is_image.long()
    if name.startswith("qwen"):
        joined["mm_token_type_ids"] = is_image.int()
    own = own_hidden_states(policy, joined)
    with torch.inference_mode():
        backbone = policy.backbone
        images = policy.image_embeddings(**{key: one[key] for key in family.image_keys if key in one})
        layout = {key: one[key] for key in family.text_keys[2:]}
        tokens = backbone.embed(one["input_ids"], one["attention_mask"], images, **layout)
        ours = read_window(backbone, tokens, WINDOW).flatten(0, 1)[None]
    torch.testing.assert_close(ours, own, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["paligemma", "paligemma2"])
def test_every_frames_prompt_stays_a_prefix_of_its_own(saved: Callable[[str], Path], name: str) -> None:
    policy, processor = policy_of(saved(name))
    one = processor.collate(frames(processor))
    with torch.inference_mode():
        backbone = policy.backbone
        images = policy.image_embeddings(one["pixel_values"])
        tokens = backbone.embed(one["input_ids"], one["attention_mask"], images)
        before = read_window(backbone, tokens, WINDOW)
        embeddings = tokens.embeddings.clone()
        embeddings[1, -1] += 1.0  # the last word of the second frame
        after = read_window(backbone, dataclasses.replace(tokens, embeddings=embeddings), WINDOW)
    changed = (after - before).abs().amax(-1) > 1e-4  # (W, L)
    assert changed.tolist()[0] == [False] * changed.shape[1]
    assert changed[1].all()
    assert changed[2].all()


@pytest.mark.parametrize("kind", HEADS)
def test_an_interleaved_policy_trains_on_every_frame_is_saved_and_acts_as_before(tmp_path: Path, kind: str) -> None:
    options = FinetuneOptions(
        head=HEADS[kind],
        latent_num=20 if kind == "discrete" else 1,
        steps=2,
        batch_size=3,
        chunk_size=5,
        warmup_steps=1,
        device="cpu",
        **INTERLEAVED,
    )
    vlm, backbone = small_vlm()
    policy = ActionTokenPolicy.from_vlm(vlm, configure(options, vlm.config, CONTRACT))
    apply_switches(policy, options)
    processor = ActionTokenProcessor(policy.config, backbone)
    trained = train(options, policy, processor, recordings(processor), Report("test"))
    assert 0 < trained.figures["validation_error"] < 10
    save_policy(tmp_path / "policy", policy, trained.processor)
    engines = PolicyEngine(policy, trained.processor), PolicyEngine.load(tmp_path / "policy")
    seen = [at(observation(CONTRACT, seed=t), t) for t in range(5)]
    made = [trained.processor(one) for one in seen]
    for t in range(5):
        chunks = [engine.infer(seen[t]).actions for engine in engines]
        np.testing.assert_allclose(chunks[1], chunks[0], atol=1e-6)
        begin = t - t % WINDOW  # when three are full, the context begins anew
        with torch.inference_mode():
            whole = policy(**windows(trained.processor, made[begin : t + 1])).actions[0, -1]
        np.testing.assert_allclose(chunks[0], trained.processor.actions(whole, seen[t].state), atol=1e-5)


def test_every_valid_frame_of_a_window_is_supervised_and_no_other() -> None:
    policy, processor = small_policy(head=SMALL["mlp"], **INTERLEAVED)
    dataset = WindowDataset(recordings(processor, count=1), processor)
    batch = processor.collate([dataset[1]])  # two observations, and one that fills up
    batch.pop("item")
    with torch.inference_mode():
        whole = policy(**batch).loss
        first, second = (
            policy(**{**batch, "valid": batch["valid"] * torch.eye(3)[t][None, :, None]}).loss for t in range(2)
        )
        counts = batch["valid"][0].sum(-1)
        changed = {**batch, "actions": batch["actions"].clone()}
        changed["actions"][:, 2] += 9.0
        assert float(policy(**changed).loss) == pytest.approx(float(whole), rel=1e-6)
    assert counts.tolist()[2] == 0.0
    # masked means: of binary and continuous parts alike
    expected = (first * counts[0] + second * counts[1]) / counts.sum()
    assert float(whole) == pytest.approx(float(expected), rel=1e-5)


def test_running_reads_one_frame_a_step() -> None:
    policy, processor = small_policy(head=SMALL["mlp"], **INTERLEAVED)
    engine = PolicyEngine(policy, processor)
    engine.warm_up()  # reads more, to compare
    read: list[int] = []
    policy.backbone.decoder_layers[0].register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    for t in range(4):
        engine.infer(at(observation(processor.contract, seed=t), t))
    length = processor(observation(processor.contract))["input_ids"].shape[-1]
    assert read == [length + 2] * 4  # with state and action token


def test_finetune_makes_an_interleaved_policy_from_bags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, processor = small_vlm()
    vlm.save_pretrained(tmp_path / "vlm")
    processor.save_pretrained(tmp_path / "vlm")
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(5))
    flags = ["--history", "interleaved", "--window", "3", "--steps", "2", "--batch-size", "2", "--chunk-size", "3"]
    base = ["--base", str(tmp_path / "vlm"), "--output", str(tmp_path / "policy")]
    monkeypatch.setattr(
        sys, "argv", ["finetune", "--episodes", str(tmp_path / "episodes"), *base, *flags, "--device", "cpu"]
    )
    assert finetune_command.main() == 0
    engine = PolicyEngine.load(tmp_path / "policy")
    for t in range(4):
        chunk = engine.infer(at(observation(BAG_CONTRACT, seed=t), t))
        assert np.isfinite(chunk.actions).all()
        assert (engine.memory is None) == (t == 2)


@pytest.mark.parametrize("kind", ["lstm", "gpt"])
def test_heads_that_join_a_window_leave_it_to_the_vlm(kind: str) -> None:
    with pytest.raises(UserError, match=f"head '{kind}' joins a window of latents"):
        small_policy(head=SMALL[kind], **INTERLEAVED)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in READING])
def test_a_family_that_cannot_read_on_is_refused_with_the_reason(saved: Callable[[str], Path], name: str) -> None:
    with pytest.raises(UserError, match=f"'interleaved' is not for '{name}': .*; choose history one_step") as error:
        policy_of(saved(name))
    assert ADAPTER[name].not_interleaved in str(error.value)
