"""Every family of vision-language models: tiny models of the real classes, saved and loaded as a user's are."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Kosmos2Model

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.switches import Switches, apply_switches
from robovlm_ros.vlm.agreement import check_family
from robovlm_ros.vlm.backbone import family_of
from robovlm_ros.vlm.backbones import FAMILIES as ADAPTERS
from robovlm_ros.vlm.backbones import REFUSED
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, save_policy, save_vlm
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.sequence import gather

from .families import FAMILIES, save_family
from .makers import arm_contract, observation

CONTRACT = arm_contract(4)
TEXTS = ("reach the red block", "go", "move above the yellow cube now please")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder for each family, made once."""
    root = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        save_family(name, root / name)
    return {name: root / name for name in FAMILIES}


def policy_of(
    folder: Path, cameras: tuple[str, ...] = ("front", "side"), resampler: dict[str, Any] | None = None
) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    """A policy on the model in a folder, with two action tokens that have moved."""
    vlm, processor = load_vlm(folder)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=CONTRACT.to_dict(),
        cameras=list(cameras),
        state=list(CONTRACT.state_names),
        chunk_size=5,
        latent_num=2,
        prompt="{images}what should the robot do to {instruction} ?",
        head={},
        resampler=resampler,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
        torch.nn.init.normal_(policy.action_token)
    return policy, ActionTokenProcessor(config, processor)


def own_hidden_states(policy: ActionTokenPolicy, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """(1, L, D) last hidden states that the class's own forward gives for its own processor's tensors."""
    with torch.inference_mode():
        model = policy.vlm.base_model
        if model is policy.vlm:  # Kosmos-2: the class without a head holds the same parts under the same names
            config = copy.deepcopy(policy.vlm.config)
            config._attn_implementation = "eager"  # the others see an image's queries as causal in transformers 5.20
            model = Kosmos2Model(config).eval()
            model.load_state_dict(policy.vlm.state_dict(), strict=False)
        output = model(**inputs)
        hidden: torch.Tensor = output.get("encoder_last_hidden_state", output.last_hidden_state)
        return hidden


def own_inputs(processor: ActionTokenProcessor, images: list[Any], text: str) -> dict[str, torch.Tensor]:
    """What the class's own processor makes of images and the text behind them."""
    name = type(processor.backbone).__name__
    if name == "IdeficsProcessor":  # takes images and texts in their order
        return dict(processor.backbone(text=[[*images, text]], return_tensors="pt"))
    text = f"{processor.family.placeholder(processor.backbone) * len(images)}{text}"
    options: dict[str, Any] = {"crop_to_patches": False} if name == "InternVLProcessor" else {}
    made = processor.backbone(text=[text], images=[images], return_tensors="pt", **options)
    return {key: value for key, value in made.items() if key not in ("labels", "num_crops")}


@pytest.mark.parametrize("cameras", [("front",), ("side", "front")])
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_are_those_of_the_classs_own_forward(
    folders: dict[str, Path], name: str, cameras: tuple[str, ...]
) -> None:
    cameras = cameras[:1] if name in ("kosmos-2", "florence2") else cameras  # these classes take one image
    policy, processor = policy_of(folders[name], cameras)
    seen = observation(CONTRACT)
    images = [seen.images[camera] for camera in cameras]
    theirs = own_inputs(processor, images, f"what should the robot do to {seen.instruction} ?")
    family, ours = processor.family, processor.collate([processor(seen)])
    is_image = torch.zeros_like(ours["input_ids"], dtype=torch.bool)
    if family.images_in_sequence:
        is_image = ours["input_ids"] == policy.backbone.image_token_id
    if name == "kosmos-2":
        assert torch.equal(is_image, theirs["image_embeds_position_mask"].bool())
    assert torch.equal(ours["input_ids"][~is_image], theirs["input_ids"][~is_image])
    torch.testing.assert_close(ours["pixel_values"].flatten(), theirs["pixel_values"].flatten(), atol=0, rtol=0)
    backbone = policy.backbone
    with torch.inference_mode():
        features = policy.image_embeddings(**{key: ours[key] for key in family.image_keys if key in ours})
        layout = {key: ours[key] for key in family.text_keys if key not in ("input_ids", "attention_mask")}
        tokens = backbone.embed(ours["input_ids"], ours["attention_mask"], features, **layout)
        hidden = backbone.decode(tokens)
        # what the policy adds behind the prompt changes nothing in the prompt
        longer = backbone.decode(tokens.insert(torch.randn(1, 3, hidden.shape[-1]))[0])
    own = own_hidden_states(policy, theirs)
    assert float(own.std()) > 0.1
    torch.testing.assert_close(hidden, own, atol=2e-5, rtol=0)
    torch.testing.assert_close(longer[:, : own.shape[1]], own, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["idefics", "florence2", "llava"])
def test_what_is_inserted_is_seen_as_the_class_sees_the_words_of_an_answer(folders: dict[str, Path], name: str) -> None:
    policy, processor = policy_of(folders[name], ("front",))
    seen, backbone, model = observation(CONTRACT), policy.backbone, policy.vlm.base_model
    answer = processor.backbone.tokenizer(
        "reach the red block", add_special_tokens=False, return_tensors="pt"
    ).input_ids
    theirs = own_inputs(processor, [seen.images["front"]], "what should the robot do ?")
    if name == "florence2":
        start = torch.tensor([[policy.vlm.config.text_config.decoder_start_token_id]])
        own_of = {**theirs, "decoder_input_ids": torch.cat([start, answer], dim=1)}
    else:
        joined = torch.cat([theirs["input_ids"], answer], dim=1)
        own_of = {**theirs, "input_ids": joined, "attention_mask": torch.ones_like(joined)}
    if name == "idefics":
        mask = theirs["image_attention_mask"]
        own_of["image_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, answer.shape[1], -1)], dim=1)
    config = ActionTokenConfig(
        **{**processor.config.to_dict(), "prompt": "{images}what should the robot do ?{instruction}"}
    )
    prompt = ActionTokenProcessor(config, processor.backbone)(dataclasses.replace(seen, instruction=""))
    ours = {key: value[None] for key, value in prompt.items()}
    with torch.inference_mode():
        own = model(**own_of).last_hidden_state[:, -answer.shape[1] :]
        features = policy.image_embeddings(ours["pixel_values"])
        layout = {key: ours[key] for key in processor.family.text_keys[2:]}
        tokens, places = backbone.embed(ours["input_ids"], ours["attention_mask"], features, **layout).insert(
            backbone.text_embedding(answer)
        )
        torch.testing.assert_close(gather(backbone.decode(tokens), places), own, atol=2e-5, rtol=0)


def test_an_instruction_that_is_an_address_is_read_and_not_fetched(folders: dict[str, Path]) -> None:
    _, processor = policy_of(folders["idefics"])
    config = ActionTokenConfig(**{**processor.config.to_dict(), "prompt": "{images}{instruction}"})
    ids = ActionTokenProcessor(config, processor.backbone).prompt("https://robot.invalid/red", [(48, 48, 3)])[
        "input_ids"
    ]
    assert "red" in processor.backbone.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_and_other_samples_change_nothing_in_any_family(folders: dict[str, Path], name: str) -> None:
    policy, processor = policy_of(folders[name])
    items = [processor(observation(CONTRACT, text, seed)) for seed, text in enumerate(TEXTS)]
    with torch.inference_mode():
        alone = torch.cat([policy(**processor.collate([item])).latents for item in items])
        batch = processor.collate(items)
        right = policy(**batch).latents
        for row, mask in enumerate(batch["attention_mask"]):
            shift = int((mask == 0).sum())
            for key in ("input_ids", "attention_mask"):
                batch[key][row] = batch[key][row].roll(shift)
        left = policy(**batch).latents
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    torch.testing.assert_close(right, alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(left, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_see_every_camera_and_word_of_any_family(folders: dict[str, Path], name: str) -> None:
    policy, processor = policy_of(folders[name])
    seen = observation(CONTRACT)
    calls: list[int] = []
    policy.vlm.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))

    def latents(**changed: Any) -> torch.Tensor:
        other = dataclasses.replace(seen, **changed)
        with torch.inference_mode():
            found: torch.Tensor = policy(**processor.collate([processor(other)])).latents
            return found

    base = latents()
    for camera in ("front", "side"):
        images = {**seen.images, camera: 255 - seen.images[camera]}
        assert not torch.allclose(latents(images=images), base, atol=1e-4), camera
    assert not torch.allclose(latents(instruction="reach the blue block"), base, atol=1e-4)
    # an instruction cannot bring in images
    tricked = f"reach {' '.join(processor.family.reserved(processor.backbone))} the red block"
    torch.testing.assert_close(latents(instruction=tricked), base, atol=1e-6, rtol=0)
    assert calls == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trained_and_saved_policy_of_any_family_acts_the_same(
    folders: dict[str, Path], name: str, tmp_path: Path
) -> None:
    policy, processor = policy_of(folders[name])
    apply_switches(policy, Switches(train_vision=True))
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    inputs = processor.collate([processor(observation(CONTRACT, text, seed)) for seed, text in enumerate(TEXTS)])
    losses = []
    for _ in range(3):
        loss = policy(**inputs, actions=torch.full((3, 5, 4), 0.5)).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[0]
    save_policy(tmp_path / "policy", policy, processor)
    seen = observation(CONTRACT)
    with torch.inference_mode():
        plain = policy(**processor.collate([processor(seen)])).actions[0]
    engine = PolicyEngine.load(tmp_path / "policy")
    assert type(engine.policy.vlm) is type(policy.vlm)
    np.testing.assert_allclose(engine.infer(seen).actions, processor.actions(plain, seen.state), atol=1e-5)


def test_a_prompt_longer_than_florences_encoder_is_refused(folders: dict[str, Path]) -> None:
    policy, processor = policy_of(folders["florence2"])
    inputs = processor.collate([processor(observation(CONTRACT, "go " * 50))])
    with pytest.raises(UserError, match="encoder has 64 places"):
        policy(**inputs)


def test_smolvlms_own_processor_gives_the_same_input_or_names_the_package_that_it_lacks(tmp_path: Path) -> None:
    save_family("smolvlm", tmp_path)
    _, processor = policy_of(tmp_path)
    file = tmp_path / "processor_config.json"  # as the hub's folders have it
    file.write_text(json.dumps({**json.loads(file.read_text()), "processor_class": "SmolVLMProcessor"}))
    if importlib.util.find_spec("num2words") is None:
        with pytest.raises(UserError, match="pip install num2words"):
            load_vlm(tmp_path)
        return
    _, other = policy_of(tmp_path)
    assert type(other.backbone).__name__ == "SmolVLMProcessor"
    seen = observation(CONTRACT)
    assert all(torch.equal(value, processor(seen)[key]) for key, value in other(seen).items())


def test_every_adapter_is_tested_and_what_cannot_work_is_refused_with_the_reason() -> None:
    tested = {name if name != "paligemma2" else "paligemma" for name in FAMILIES} | {"idefics3"}
    assert set(ADAPTERS) == tested
    for family, reason in REFUSED.items():
        with pytest.raises(UserError, match=f"'{family}' cannot be the backbone") as error:
            family_of(family)
        assert reason in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backbone_in_half_precision_acts_and_is_loaded_as_it_was_saved(
    folders: dict[str, Path], name: str, tmp_path: Path
) -> None:
    whole, processor = policy_of(folders[name])
    vlm, _ = load_vlm(folders[name], dtype="bfloat16")
    save_vlm(tmp_path / "half", vlm, processor.backbone)
    policy, processor = policy_of(tmp_path / "half")  # as hubs mostly have them: the folder says bfloat16
    policy.load_state_dict({key: value for key, value in whole.state_dict().items() if key[:4] != "vlm."}, strict=False)
    save_policy(tmp_path / "policy", policy, processor)
    again, _ = load_policy(tmp_path / "policy")
    inputs = processor.collate([processor(observation(CONTRACT))])
    with torch.inference_mode():
        exact, half, loaded = (model(**inputs).actions for model in (whole, policy, again))
    assert {p.dtype for p in again.vlm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in again.new_parameters} == {torch.float32}
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=1e-2, rtol=0)
    torch.testing.assert_close(loaded, half, atol=1e-6, rtol=0)
    policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
    assert bool(policy.action_token.grad.abs().sum() > 0)


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "qwen2_vl", "llava", "smolvlm"])
def test_an_unknown_family_is_taken_only_if_the_general_adapter_is_right_for_it(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_family(*policy_of(folders[name]))
    known = "paligemma" if name == "paligemma2" else name
    monkeypatch.delitem(ADAPTERS, known)
    if name in ("llava", "smolvlm"):
        check_family(*policy_of(folders[name]))
    else:
        with pytest.raises(UserError, match=f"'{known}' does not work as a backbone") as error:
            check_family(*policy_of(folders[name]))
        assert "\n" not in str(error.value)
