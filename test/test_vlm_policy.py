"""The action token, the policy around it, its heads and its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads.losses import chunk_loss
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.sequence import insert_behind

from .makers import arm_contract, observation, small_policy, small_vlm


def test_new_action_tokens_are_zero_and_one_per_slot() -> None:
    vlm, _ = small_vlm()
    config = ActionTokenConfig(
        vlm_config=vlm.config, contract=arm_contract(4).to_dict(), cameras=["front"], state=[], latent_num=3, head={}
    )
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    assert policy.action_token.shape == (3, 32)
    assert not policy.action_token.any()
    assert policy.action_token.requires_grad


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_new_policy_takes_the_backbone_as_it_is_and_makes_no_other(attention: str) -> None:
    vlm, _ = small_vlm()
    vlm.set_attn_implementation(attention)
    before = {name: value.clone() for name, value in vlm.state_dict().items()}
    made: list[torch.Tensor] = []
    hook = torch.nn.modules.module.register_module_parameter_registration_hook(
        lambda _module, _name, parameter: made.append(parameter)
    )
    try:
        config = ActionTokenConfig(
            vlm_config=vlm.config, contract=arm_contract(4).to_dict(), cameras=["front"], state=[], head={}
        )
        policy = ActionTokenPolicy.from_vlm(vlm, config)
    finally:
        hook.remove()
    assert policy.vlm is vlm
    assert {id(p) for p in made if p is not None} == {id(p) for p in policy.new_parameters}
    assert all(torch.equal(value, before[name]) for name, value in vlm.state_dict().items())
    assert {part.config._attn_implementation for part in vlm.modules() if hasattr(part, "config")} == {attention}


def test_tokens_are_inserted_right_behind_the_last_real_token() -> None:
    embeddings = torch.arange(1.0, 13.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    extra = torch.tensor([[-1.0, -1.0], [-2.0, -2.0]]).expand(2, 2, 2)
    joined, joined_mask, positions = insert_behind(embeddings, mask, extra)
    assert positions.tolist() == [[2, 3], [3, 4]]
    assert joined[0, :, 0].tolist() == [1.0, 3.0, -1.0, -2.0, 5.0]
    assert joined[1, :, 0].tolist() == [7.0, 9.0, 11.0, -1.0, -2.0]
    assert joined_mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_other_samples_in_the_batch_change_nothing(side: str) -> None:
    policy, processor = small_policy(latent_num=2)
    texts = ["reach the red block", "go", "move above the yellow cube now please"]
    items = [processor(observation(processor.contract, text, seed)) for seed, text in enumerate(texts)]
    with torch.inference_mode():
        alone = torch.cat([policy(**processor.collate([item])).actions for item in items])
        batch = processor.collate(items)
        if side == "left":
            for row, mask in enumerate(batch["attention_mask"]):
                shift = int((mask == 0).sum())
                for key in ("input_ids", "attention_mask"):
                    batch[key][row] = batch[key][row].roll(shift)
        together = policy(**batch).actions
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_hidden_states_are_those_of_the_models_own_forward() -> None:
    policy, processor = small_policy()
    inputs = processor.collate([processor(observation(processor.contract))])
    with torch.inference_mode():
        own = policy.vlm.model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], pixel_values=inputs["pixel_values"]
        ).last_hidden_state
        backbone = policy.backbone
        images = backbone.image_embeddings(inputs["pixel_values"])
        ours = backbone.decode(backbone.embed(inputs["input_ids"], inputs["attention_mask"], images))
    torch.testing.assert_close(ours, own, atol=1e-6, rtol=0)


def test_a_forward_computes_no_language_model_head() -> None:
    policy, processor = small_policy()
    calls: list[int] = []
    policy.vlm.lm_head.register_forward_hook(lambda *_: calls.append(1))
    policy(**processor.collate([processor(observation(processor.contract))]))
    assert calls == []


def test_the_latents_depend_on_image_instruction_state_and_action_token() -> None:
    policy, processor = small_policy()
    base = processor.collate([processor(observation(processor.contract))])
    other = processor.collate([processor(observation(processor.contract, "reach the blue block", seed=1))])

    def latents(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = policy(**inputs).latents
            return found

    first = latents(base)
    for key in ("pixel_values", "input_ids", "state"):
        assert not torch.allclose(latents({**base, key: other[key]}), first, atol=1e-4), key
    with torch.no_grad():
        policy.action_token.add_(1.0)
    assert not torch.allclose(latents(base), first, atol=1e-4)


@pytest.mark.parametrize("dims", [3, 7, 8, 14])
def test_heads_follow_the_contracts_dimensions(dims: int) -> None:
    policy, processor = small_policy(dims)
    seen = observation(processor.contract)
    decided = policy(**processor.collate([processor(seen)])).actions[0]
    assert decided.shape == (5, dims)
    assert bool(((decided[:, -1] >= 0) & (decided[:, -1] <= 1)).all())
    absolute = processor.actions(decided, seen.state)
    assert set(absolute[:, -1]) <= {0.0, 1.0}
    np.testing.assert_allclose(absolute[:, :-1], decided[:, :-1].detach().double().numpy() + seen.state[:-1], atol=1e-6)


@pytest.mark.parametrize("cameras", [["front"], ["side", "front"]])
def test_every_camera_brings_its_image_tokens(cameras: list[str]) -> None:
    policy, processor = small_policy(cameras=cameras)
    inputs = processor.collate([processor(observation(processor.contract))])
    tokens = int((inputs["input_ids"] == policy.backbone.image_token_id).sum())
    images = {key: inputs[key] for key in inputs if key.startswith("pixel")}
    assert policy.image_embeddings(**images).shape == (1, tokens, 32)
    assert tokens == 4 * len(cameras)
    assert policy(**inputs).actions.shape == (1, 5, 4)


def test_the_loss_is_the_masked_mean_of_both_kinds() -> None:
    rng = np.random.default_rng(0)
    predicted, actions = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    actions[..., 3] = [[0, 1, 1], [1, 0, 0]]
    valid = np.array([[1, 1, 0], [1, 0, 0]])
    binary = torch.tensor([False, False, False, True])
    by_hand = {"mse": [], "l1": [], "huber": [], "bce": []}
    for b, t in zip(*np.nonzero(valid), strict=True):
        for a in range(3):
            e = abs(predicted[b, t, a] - actions[b, t, a])
            by_hand["mse"].append(e**2)
            by_hand["l1"].append(e)
            by_hand["huber"].append(e**2 / 2 if e <= 1 else e - 0.5)
        p = 1 / (1 + np.exp(-predicted[b, t, 3]))
        by_hand["bce"].append(-(actions[b, t, 3] * np.log(p) + (1 - actions[b, t, 3]) * np.log(1 - p)))
    for kind in ("mse", "l1", "huber"):
        loss = chunk_loss(*map(torch.from_numpy, (predicted, actions, valid)), binary, kind=kind, binary_weight=0.5)
        assert float(loss) == pytest.approx(np.mean(by_hand[kind]) + 0.5 * np.mean(by_hand["bce"]))


def test_a_saved_policy_gives_the_same_actions_through_the_engine(tmp_path: Path) -> None:
    policy, processor = small_policy(latent_num=2)
    save_policy(tmp_path / "policy", policy, processor)
    seen = observation(processor.contract)
    with torch.inference_mode():
        plain = policy(**processor.collate([processor(seen)])).actions[0]
    engine = PolicyEngine.load(tmp_path / "policy")
    engine.warm_up()
    chunk = engine.infer(seen)
    np.testing.assert_allclose(chunk.actions, processor.actions(plain, seen.state), atol=1e-6)
    assert chunk.due_ns.tolist() == [1_000_000_000 + i * 100_000_000 for i in range(5)]
    assert engine.contract == processor.contract
    assert set(engine.stages_s) == {"prepare", "vision", "decode", "head", "restore"}


def test_a_not_a_number_passes_through_the_engine_for_safety_to_refuse() -> None:
    policy, processor = small_policy()
    with torch.no_grad():
        policy.head.layers[-1].bias.fill_(float("nan"))
    chunk = PolicyEngine(policy, processor).infer(observation(processor.contract))
    assert np.isnan(chunk.actions).all()


def test_the_same_observation_gives_the_same_bytes_whatever_came_before() -> None:
    _, processor = small_policy()
    fresh = ActionTokenProcessor(processor.config, processor.backbone)
    for seed, text in enumerate(["go", "reach the red block", "", "Reach the <image> RED block!"]):
        processor(observation(processor.contract, text, seed))
    seen = observation(processor.contract)
    one, other = processor(seen), fresh(seen)
    assert {key: value.numpy().tobytes() for key, value in one.items()} == {
        key: value.numpy().tobytes() for key, value in other.items()
    }


def test_prepared_input_is_what_the_backbones_own_processor_makes() -> None:
    _, processor = small_policy(cameras=["front", "side"])
    seen = observation(processor.contract)
    ours = processor(seen)
    theirs = processor.backbone(
        text=["<image><image>reach the red block"], images=[[seen.images["front"], seen.images["side"]]],
        return_tensors="pt",
    )  # fmt: skip
    for key in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(ours[key], theirs[key][0]), key


def test_a_vision_language_model_is_loaded_as_its_users_would(tmp_path: Path) -> None:
    vlm, processor = small_vlm()
    vlm.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, again_processor = load_vlm(tmp_path)
    assert type(again) is type(vlm)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), vlm.parameters(), strict=True))
    assert again_processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    with pytest.raises(UserError, match="not a policy"):
        load_policy(tmp_path)
