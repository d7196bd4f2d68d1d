"""Other sources of latents and image tokens: pooled hidden states, a shared action token, the resampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.loop import initialise
from robovlm_ros.training.preview import preview
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import Switches, apply_switches, trainable
from robovlm_ros.vlm.agreement import check_family
from robovlm_ros.vlm.backbones import FAMILIES as ADAPTERS
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, name_base, save_policy, save_vlm
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads import HEADS
from robovlm_ros.vlm.latents import POOLED, pool
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.resampler import Resampler, ResamplerOptions

from .families import FAMILIES, save_family
from .makers import arm_contract, observation, small_policy, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag

TEXTS = ("reach the red block", "go", "move above the yellow cube now please")
TINY = {"queries": 3, "depth": 2, "heads": 2, "head_width": 8}
"""A tiny resampler."""


def family_policy(name: str, folder: Path, **settings: Any) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """A policy with two latents on a family's tiny model."""
    save_family(name, folder)
    vlm, words = load_vlm(folder)
    contract = arm_contract(4)
    values: dict[str, Any] = {
        "cameras": ["front", "side"],
        "state": list(contract.state_names),
        "chunk_size": 5,
        "latent_num": 2,
        "prompt": "{images}what should the robot do to {instruction} ?",
        "head": {},
        **settings,
    }
    config = ActionTokenConfig(vlm_config=vlm.config, contract=contract.to_dict(), **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
        if policy.action_token is not None:
            torch.nn.init.normal_(policy.action_token)
    return policy, ActionTokenProcessor(config, words)


def check_whole_way(policy: ActionTokenPolicy, processor: ActionTokenProcessor, folder: Path) -> None:
    """Padding changes nothing, two steps of training lower the loss, and the saved policy acts the same live."""
    items = [processor(observation(processor.contract, text, seed)) for seed, text in enumerate(TEXTS)]
    batch = processor.collate(items)
    with torch.inference_mode():
        alone = torch.cat([policy(**processor.collate([item])).latents for item in items])
        right = policy(**batch).latents
        shifted = {key: value.clone() for key, value in batch.items()}
        for row, mask in enumerate(batch["attention_mask"]):
            for key in ("input_ids", "attention_mask"):
                shifted[key][row] = batch[key][row].roll(int((mask == 0).sum()))
        left = policy(**shifted).latents
    assert alone.shape[1:] == (policy.config.latent_num, policy.backbone.hidden_size)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    torch.testing.assert_close(right, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(left, alone, atol=1e-5, rtol=0)

    apply_switches(policy, Switches())
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(3):
        torch.manual_seed(0)  # some heads draw noise
        loss = policy(**batch, actions=torch.full((3, 5, 4), 0.5)).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in policy.new_parameters)
        optimizer.step()
    assert losses[2] < losses[0]

    save_policy(folder, policy, processor)
    engine = PolicyEngine.load(folder)
    with torch.inference_mode():
        plain = policy.eval()(**batch).actions
    for row, (seed, text) in enumerate(enumerate(TEXTS)):
        seen = observation(processor.contract, text, seed)
        np.testing.assert_allclose(
            engine.infer(seen).actions, processor.actions(plain[row], seen.state), atol=2e-5, err_msg=text
        )


@pytest.mark.parametrize(("count", "slots"), [(1, 1), (5, 1), (5, 2), (7, 3), (2, 5), (6, 6), (0, 2)])
def test_pooling_is_the_adaptive_mean_of_the_chosen_alone(count: int, slots: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 11, 4, generator=generator)
    chosen = torch.zeros(2, 11, dtype=torch.bool)
    chosen[0, torch.randperm(11, generator=generator)[:count]] = True
    chosen[1, 4:] = True
    expected = [
        functional.adaptive_avg_pool1d(row[mask].T[None], slots)[0].T if mask.any() else torch.zeros(slots, 4)
        for row, mask in zip(values, chosen, strict=True)
    ]
    values[~chosen] = float("nan")  # whatever lies elsewhere
    torch.testing.assert_close(pool(values, chosen, slots), torch.stack(expected))


@pytest.mark.parametrize("pooled", POOLED)
def test_down_sample_pools_tokens_of_one_kind_and_never_padding(pooled: str) -> None:
    prompt = "{instruction}{images}" if pooled == "vision" else "{images}{instruction}"
    policy, processor = small_policy(latents="down_sample", pooled=pooled, latent_num=2, state=[], prompt=prompt)
    assert policy.action_token is None
    batch = processor.collate([processor(observation(processor.contract, text)) for text in TEXTS])
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    image = ids == policy.backbone.image_token_id
    with torch.inference_mode():
        tokens = policy.backbone.embed(ids, batch["attention_mask"], policy.image_embeddings(batch["pixel_values"]))
        hidden = policy.backbone.decode(tokens)
        found = policy(**batch).latents
    for row in range(3):
        which = {"text": mask[row] & ~image[row], "vision": image[row], "all": mask[row]}[pooled]
        mine = hidden[row][which]
        half = (len(mine) + 1) // 2  # two slots share the middle one of an odd number
        by_hand = torch.stack([mine[:half].mean(0), mine[len(mine) - half :].mean(0)])
        torch.testing.assert_close(found[row], by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_works_on_pooled_hidden_states(head: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"latents": "down_sample", "latent_num": 2, "head": {"type": head}}
    if head == "discrete":
        settings.update(latent_num=20, head={"type": head, "bins": 16})
    check_whole_way(*small_policy(**settings), tmp_path / "policy")


@pytest.mark.parametrize(
    ("name", "pooled"),
    [("paligemma", "vision"), ("qwen3_vl", "text"), ("kosmos-2", "all"), ("gemma3", "text"), ("idefics", "all")],
)
def test_pooled_hidden_states_are_latents_in_other_families(name: str, pooled: str, tmp_path: Path) -> None:
    state = [] if pooled == "vision" else ["joints.joint_1"]
    policy, processor = family_policy(name, tmp_path / "vlm", latents="down_sample", pooled=pooled, state=state)
    check_whole_way(policy, processor, tmp_path / "policy")


@pytest.mark.parametrize("head", [{"type": "lstm"}, None])
@pytest.mark.parametrize(
    "settings", [{"latents": "down_sample"}, {"latents": "down_sample", "state": []}, {"resampler": TINY}]
)
def test_a_window_seen_live_is_the_window_of_training(settings: dict[str, Any], head: dict[str, Any] | None) -> None:
    history = {"history": "interleaved"} if head is None else {"history": "policy_head", "head": head}
    policy, processor = small_policy(window=3, latent_num=2, cameras=["front", "side"], **history, **settings)
    steps = [processor(observation(processor.contract, TEXTS[0], seed)) for seed in range(3)]
    with torch.inference_mode():
        whole = policy(**{key: value[None] for key, value in processor.collate(steps).items()}).actions[0]
        past = None
        for step, expected in zip(steps, whole, strict=True):
            output = policy(**processor.collate([step]), history=past)
            past = output.history
            torch.testing.assert_close(output.actions[0], expected, atol=1e-5, rtol=0)
        alone = policy(**processor.collate(steps[2:])).actions[0]
    assert not torch.allclose(alone, whole[2], atol=1e-4)


def test_without_action_tokens_nothing_stands_behind_the_prompt_and_nothing_counts_as_such() -> None:
    policy, _ = small_policy(latents="down_sample", state=[])
    assert policy.added(2, None).shape == (2, 0, 32)
    apply_switches(policy, Switches())
    assert "action tokens" not in [row.part for row in trainable(policy)]
    with pytest.raises(UserError, match="there is no action token"):
        apply_switches(policy, Switches(freeze_action_token=True))


def test_one_shared_vector_serves_as_every_action_token() -> None:
    policy, processor = small_policy(latent_num=3, shared_action_token=True)
    each, _ = small_policy(latent_num=3)
    with torch.no_grad():
        each.load_state_dict({**policy.state_dict(), "action_token": policy.action_token.expand(3, -1)})
    inputs = processor.collate([processor(observation(processor.contract))])
    for one in (policy, each):
        one(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
    assert policy.action_token.shape == (1, 32)
    torch.testing.assert_close(policy(**inputs).latents, each(**inputs).latents, atol=1e-6, rtol=0)
    torch.testing.assert_close(policy.action_token.grad, each.action_token.grad.sum(0, keepdim=True))
    latents = policy(**inputs).latents[0]
    assert not torch.allclose(latents[0], latents[1], atol=1e-4)  # they stand in different places


def test_a_shared_action_token_goes_the_whole_way(tmp_path: Path) -> None:
    check_whole_way(*small_policy(latent_num=2, shared_action_token=True), tmp_path / "policy")


def test_the_resampler_computes_what_flamingo_writes_down() -> None:
    torch.manual_seed(0)
    resampler = Resampler(6, ResamplerOptions(queries=3, depth=2, heads=2, head_width=5)).double()
    features = torch.randn(1, 4, 6, dtype=torch.float64)

    def norm(x: Any, layer: torch.nn.LayerNorm) -> Any:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)

    def weight(layer: Any) -> Any:
        return layer.weight.detach().numpy().T

    x, q = features[0].numpy(), resampler.queries.detach().numpy()
    for layer in resampler.layers:
        a = norm(q, layer.norm_queries)
        kv = np.concatenate([norm(x, layer.norm_features), a])
        found = []
        for head in range(2):
            part = slice(5 * head, 5 * head + 5)
            query = (a @ weight(layer.query))[:, part]
            key, value = (half[:, part] for half in np.split(kv @ weight(layer.key_value), 2, axis=1))
            scores = np.exp(query @ key.T / np.sqrt(5))
            found.append(scores / scores.sum(1, keepdims=True) @ value)
        q = q + np.concatenate(found, axis=1) @ weight(layer.out)
        _, first, _, second = layer.perceptron
        h = torch.from_numpy(norm(q, layer.perceptron[0]) @ weight(first))
        q = q + functional.gelu(h).numpy() @ weight(second)
    expected = norm(q, resampler.norm)
    np.testing.assert_allclose(resampler(features, 1)[0].detach().numpy(), expected, atol=1e-9)


def test_new_weights_of_the_resampler_follow_the_seed_alone() -> None:
    policy, _ = small_policy(resampler=TINY)
    seeds = []
    for seed in (1, 2, 1):
        torch.randn(3)
        initialise(policy, seed)
        seeds.append({name: value.clone() for name, value in policy.resampler.state_dict().items()})
    assert all(torch.equal(seeds[0][name], seeds[2][name]) for name in seeds[0])
    assert not torch.equal(seeds[0]["queries"], seeds[1]["queries"])


def test_each_image_is_resampled_for_itself() -> None:
    torch.manual_seed(0)
    resampler = Resampler(8, ResamplerOptions(**TINY))
    features = torch.randn(2, 10, 8)
    both = resampler(features, 2)
    assert both.shape == (2, 6, 8)
    torch.testing.assert_close(both[:, :3], resampler(features[:, :5], 1))
    torch.testing.assert_close(both[:, 3:], resampler(features[:, 5:], 1))


RESAMPLING = [name for name in FAMILIES if not ADAPTERS[{"paligemma2": "paligemma"}.get(name, name)].not_resampled]
QUICK = ("paligemma", "gemma3", "florence2")


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        *(pytest.param(name, 3, marks=[] if name in QUICK else pytest.mark.slow) for name in RESAMPLING),
        ("smolvlm", 6),  # more than the image had
    ],
)
def test_a_resampler_gives_each_image_its_number_of_tokens_in_any_family(
    name: str, queries: int, tmp_path: Path
) -> None:
    policy, processor = family_policy(name, tmp_path / "vlm", resampler={**TINY, "queries": queries})
    seen = observation(processor.contract)
    text = processor.text(seen.instruction, 2)
    whole = processor.family.prompt_tensors(processor.backbone, text, list(seen.images.values()))["input_ids"]
    ours = processor(seen)["input_ids"]
    token = policy.backbone.image_token_id
    assert int((ours == token).sum()) == 2 * queries
    assert torch.equal(ours[ours != token], whole[whole != token])
    check_whole_way(policy, processor, tmp_path / "policy")


def test_latents_see_every_camera_through_the_resampler(tmp_path: Path) -> None:
    policy, processor = small_policy(cameras=["front", "side"], resampler=TINY)
    base = processor.collate([processor(observation(processor.contract))])
    with torch.inference_mode():
        first = policy(**base).latents
        for camera in range(2):
            changed = base["pixel_values"].clone()
            changed[:, camera] *= -1
            assert not torch.allclose(policy(**{**base, "pixel_values": changed}).latents, first, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_resampler_learns_unless_frozen_whatever_else_is(frozen: bool) -> None:
    policy, processor = small_policy(resampler=TINY)
    apply_switches(policy, Switches(freeze_backbone=True, freeze_resampler=frozen))
    inputs = processor.collate([processor(observation(processor.contract))])
    policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
    learns = {n for n, p in policy.named_parameters() if p.grad is not None and bool(p.grad.any())}
    part = {n for n, _ in policy.named_parameters() if n.startswith("resampler.")}
    assert part & learns == (set() if frozen else part)
    assert not any(n.startswith("vlm.") for n in learns)
    rows = {row.part: row for row in trainable(policy)}
    assert rows["resampler"].trained == (0 if frozen else rows["resampler"].parameters)
    assert sum(row.parameters for row in rows.values()) == sum(p.numel() for p in policy.parameters())


def test_a_resampler_stays_whole_on_a_backbone_in_half_precision(tmp_path: Path) -> None:
    save_family("llava", tmp_path / "vlm")
    vlm, words = load_vlm(tmp_path / "vlm", dtype="bfloat16")
    save_vlm(tmp_path / "half", vlm, words)
    vlm, words = load_vlm(tmp_path / "half")
    contract = arm_contract(4)
    config = ActionTokenConfig(
        vlm_config=vlm.config, contract=contract.to_dict(), cameras=["front"], state=[], head={}, resampler=TINY
    )
    policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
    save_policy(tmp_path / "policy", policy, ActionTokenProcessor(config, words))
    engine = PolicyEngine.load(tmp_path / "policy", fast="off")
    assert {p.dtype for p in engine.policy.resampler.parameters()} == {torch.float32}
    assert {p.dtype for p in engine.policy.vlm.parameters()} == {torch.bfloat16}
    seen = observation(contract)
    with torch.inference_mode():
        plain = policy(**engine.processor.collate([engine.processor(seen)])).actions[0]
    np.testing.assert_allclose(engine.infer(seen).actions, engine.processor.actions(plain, seen.state), atol=1e-6)


@pytest.mark.parametrize("settings", [{"resampler": TINY}, {"latents": "down_sample", "pooled": "text"}])
def test_finetune_trains_them_from_bags_on_cached_features(settings: dict[str, Any], tmp_path: Path) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))
    options = FinetuneOptions(
        cameras=("static", "wrist"), steps=3, batch_size=4, chunk_size=3, latent_num=2, warmup_steps=1, device="cpu",
        **settings,
    )  # fmt: skip
    trained = finetune(options, tmp_path / "episodes", str(tmp_path / "vlm"), Report("test"))
    rows = {row["part"]: row["trained"] for row in trained.figures["trainable"]}
    assert ("action tokens" in rows) == ("resampler" in settings)
    assert rows.get("resampler", 1) > 0
    save_policy(tmp_path / "policy", trained.policy, trained.processor)
    contract = trained.processor.contract
    assert np.isfinite(PolicyEngine.load(tmp_path / "policy").infer(observation(contract)).actions).all()


@pytest.mark.parametrize("settings", [{"resampler": TINY}, {"latents": "down_sample"}])
def test_a_folder_of_adapters_keeps_them_and_their_rows_are_known_beforehand(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    switches = {"lora_rank": 2, "freeze_resampler": "resampler" in settings}
    policy, processor = small_policy(**settings)
    apply_switches(policy, Switches(**switches))
    options = FinetuneOptions(chunk_size=5, **settings, **switches)  # type: ignore[arg-type]
    assert preview(options, tmp_path / "vlm", processor.contract).rows == trainable(policy)
    save_policy(tmp_path / "policy", policy, processor, name_base(tmp_path / "vlm"))
    inputs = processor.collate([processor(observation(processor.contract))])
    with torch.inference_mode():
        again = load_policy(tmp_path / "policy")[0](**inputs).actions
        torch.testing.assert_close(again, policy.eval()(**inputs).actions, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        (None, {"latents": "magic"}, "latents 'magic' is not one of: action_token, down_sample"),
        (None, {"pooled": "text"}, "pooled 'text' is for latents 'down_sample'"),
        (None, {"latents": "down_sample", "pooled": "audio"}, "pooled 'audio' is not one of: text, vision, all"),
        (None, {"latents": "down_sample", "shared_action_token": True}, "no action token to share"),
        (None, {"latents": "down_sample", "pooled": "vision"}, "the state token stands behind the images"),
        (None, {"latents": "down_sample", "pooled": "vision", "state": []}, "or a prompt with {instruction} before"),
        ("kosmos-2", {"latents": "down_sample", "pooled": "vision", "state": []}, "choose pooled all or text"),
        (None, {"resampler": {"type": "magic"}}, "resampler 'magic' is not one of: perceiver"),
        (None, {"resampler": {"width": 3}}, "resampler: unknown key 'width' (keys: queries, depth, heads, head_width)"),
        (None, {"resampler": {"depth": 0}}, "resampler: depth must be at least 1, not 0"),
        (
            "idefics",
            {"latents": "down_sample", "pooled": "vision", "state": []},
            "images have no place in the sequence",
        ),
        ("florence2", {"latents": "down_sample"}, "cannot work with this backbone: it is an encoder-decoder"),
        ("idefics", {"resampler": TINY}, "this backbone cannot have a resampler: its images have no place"),
        ("qwen2_5_vl", {"resampler": TINY}, "this backbone cannot have a resampler: its positions follow"),
        ("qwen3_vl", {"resampler": TINY}, "this backbone cannot have a resampler: its positions follow"),
        ("kosmos-2", {"resampler": TINY}, "this backbone cannot have a resampler: Kosmos-2 has a resampler of its own"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(
    name: str | None, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        small_policy(**settings) if name is None else family_policy(name, tmp_path, **settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_processor_that_cuts_images_into_marked_pieces_is_refused_a_resampler() -> None:
    policy, processor = small_policy(resampler=TINY)
    words = processor.backbone
    words.image_processor.do_image_splitting = True
    words.image_processor.max_image_size = {"longest_edge": 24}
    with pytest.raises(UserError, match="cuts images into pieces"):
        ActionTokenProcessor(policy.config, words)


def test_a_family_that_nobody_tested_is_refused_a_resampler(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, processor = small_policy(resampler=TINY)
    monkeypatch.delitem(ADAPTERS, "idefics3")
    with pytest.raises(UserError, match="needs a tested family, which 'idefics3' is not"):
        check_family(policy, processor)


def test_freezing_a_resampler_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no resampler: leave it off"):
        apply_switches(small_policy()[0], Switches(freeze_resampler=True))
