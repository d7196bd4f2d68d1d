"""The truth table of the switches: gradients flow exactly where it says, in every family, and nowhere else.

The table is stated here once more, by the names that weights have in each family, and asks nothing of the code that
it checks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.switches import Switches, apply_switches, trainable
from robovlm_ros.vlm.adapters import merge_adapters
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, name_base, save_policy, save_vlm

from .families import FAMILIES, save_family
from .makers import observation
from .test_vlm_families import CONTRACT, policy_of


@dataclass(frozen=True)
class Names:
    """How the names of a family's weights begin."""

    vision: tuple[str, ...] = ("model.vision_tower.", "model.multi_modal_projector.")
    """Vision tower and what projects its features."""
    embedding: str = "model.language_model.embed_tokens."
    """Word embedding."""
    layers: tuple[str, ...] = ("model.language_model.layers.",)
    """Layers of the text tower, a number each; two of them."""
    head: str = "lm_head."
    """The language model's head."""
    idle: tuple[str, ...] = ()
    """Ends of names of weights that the class itself never uses for image features."""
    resampled: bool = False
    """Whether it can have a resampler; the policy of the test then has one."""


NAMES = {
    "paligemma": Names(resampled=True),
    "paligemma2": Names(resampled=True),
    # features are those behind the last vision layer but one
    "llava": Names(idle=("vision_tower.post_layernorm", "vision_tower.encoder.layers.1"), resampled=True),
    "llava_onevision": Names(  # features are those before the tower's last normalisation
        vision=("model.vision_tower.", "model.multi_modal_projector.", "model.image_newline"),
        idle=("vision_tower.post_layernorm",),
        resampled=True,
    ),
    "gemma3": Names(resampled=True),
    "qwen2_vl": Names(vision=("model.visual.",)),
    "qwen2_5_vl": Names(vision=("model.visual.",)),
    "qwen3_vl": Names(vision=("model.visual.",)),
    "smolvlm": Names(
        vision=("model.vision_model.", "model.connector."),
        embedding="model.text_model.embed_tokens.",
        layers=("model.text_model.layers.",),
        resampled=True,
    ),
    "internvl": Names(resampled=True),
    "kosmos-2": Names(
        vision=("vision_model.", "image_to_text_projection."),
        embedding="text_model.model.embed_tokens.",
        layers=("text_model.model.layers.",),
        head="text_model.lm_head.",
    ),
    "idefics": Names(
        vision=("model.vision_model.", "model.perceiver_resampler."),
        embedding="model.embed_tokens.",
        layers=("model.layers.", "model.gated_cross_attn_layers."),
        idle=("vision_model.post_layernorm",),
    ),
    "florence2": Names(embedding="model.language_model.shared.", layers=("model.language_model.decoder.layers.",)),
}
LAYERS = 2
RESAMPLER = {"type": "perceiver", "queries": 2, "depth": 1, "heads": 2, "head_width": 8}


def learns(name: str, names: Names, switches: Switches) -> bool:
    """Whether a weight of the policy learns by the table without adapters, row by row in its order."""
    if name.startswith("resampler."):
        return not switches.freeze_resampler
    if not name.startswith("vlm."):
        return name != "action_token" or not switches.freeze_action_token
    name = name[len("vlm.") :]
    on = not switches.freeze_backbone
    if on and switches.train_decoder_layers >= 0:
        numbers = [int(name[len(start) :].split(".")[0]) for start in names.layers if name.startswith(start)]
        on = any(number >= LAYERS - switches.train_decoder_layers for number in numbers)
    if name.startswith(names.vision):
        on = switches.train_vision
    if name.startswith(names.head):
        on = False
    if name.startswith(names.embedding):
        on = switches.train_text_embedding
    return on


def combination(
    freeze: bool, layers: int, vision: bool, lora: int, embedding: bool, freeze_token: bool = False
) -> Switches:
    return Switches(
        freeze_backbone=freeze,
        train_decoder_layers=layers,
        train_vision=vision,
        lora_rank=lora,
        lora_dropout=0.0,
        train_text_embedding=embedding,
        freeze_action_token=freeze_token,
    )


# every two of the switches in every combination of theirs that can be had
PAIRS = [
    combination(False, -1, False, 0, False),
    combination(False, -1, True, 2, True, True),
    combination(False, 0, True, 0, True),
    combination(False, 0, False, 0, False, True),
    combination(False, 0, True, 2, False),
    combination(False, 1, True, 0, False, True),
    combination(False, 1, False, 2, True),
    combination(True, -1, False, 0, True, True),
    combination(True, -1, True, 0, False),
    combination(True, 0, False, 0, False),
    combination(True, 1, True, 2, True, True),
    combination(True, 1, False, 0, False),
]
OFF_ON = (False, True)
ALL = [combination(*chosen) for chosen in itertools.product(OFF_ON, (-1, 0, 1), OFF_ON, (0, 2), OFF_ON, OFF_ON)]


@pytest.mark.parametrize("switches", [PAIRS, pytest.param(ALL, marks=pytest.mark.slow)], ids=["pairs", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_exactly_where_the_table_says(family: str, switches: list[Switches], tmp_path: Path) -> None:
    names = NAMES[family]
    save_family(family, tmp_path)
    policy, processor = policy_of(tmp_path, resampler=RESAMPLER if names.resampled else None)
    inputs = processor.collate([processor(observation(CONTRACT))])
    linear = {f"{name}.weight" for name, part in policy.named_modules() if type(part) is nn.Linear}
    idle = tuple(f"{end}." for end in names.idle)
    for number, chosen in enumerate(switches):
        if names.resampled:
            chosen = replace(chosen, freeze_resampler=number % 3 == 0)
        adapted = {name for name in linear if name.startswith("vlm.") and learns(name, names, chosen)}
        if chosen.lora_rank and not adapted:
            with pytest.raises(UserError, match="nothing to adapt"):
                apply_switches(policy, chosen)
            continue
        apply_switches(policy, chosen)
        found, expected = set(), set()
        for name, parameter in policy.named_parameters():
            if ".lora_" in name:
                found.add(f"{name.split('.lora_')[0]}.weight")
                expected.add(name)
                if ".lora_B." in name:
                    nn.init.normal_(parameter, std=0.02)  # zeros at first, which let no gradient through to the other
            elif not chosen.lora_rank or not name.startswith("vlm.") or name[len("vlm.") :].startswith(names.embedding):
                expected |= {name} if learns(name, names, chosen) else set()
        assert found == (adapted if chosen.lora_rank else set()), chosen
        assert {name for name, parameter in policy.named_parameters() if parameter.requires_grad} == expected, chosen
        policy.zero_grad()
        policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
        gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
        assert set(gradients) == {name for name in expected if not any(end in name for end in idle)}, chosen
        # attention does not depend on a bias of all keys, and the prompt holds no word of the additional vocabulary
        still = ("k_proj.bias", "additional_embedding.weight")
        zero = {name for name, gradient in gradients.items() if not gradient.any() and not name.endswith(still)}
        assert zero == set(), chosen
        rows = {row.part: row for row in trainable(policy)}
        assert ("connector" in rows) == FAMILIES[family].connector
        assert sum(row.parameters for row in rows.values()) == sum(p.numel() for p in policy.parameters())
        trained = sum(p.numel() for name, p in policy.named_parameters() if name in expected)
        assert sum(row.trained for row in rows.values()) == trained
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:
                nn.init.zeros_(parameter)  # the backbone stays what it was
        merge_adapters(policy)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((name, "float32") for name, family in FAMILIES.items() if family.tied), ("paligemma", "bfloat16")],
)
def test_a_tied_embedding_is_parted_from_the_head_and_saved_with_what_it_learned(
    family: str, dtype: str, tmp_path: Path
) -> None:
    save_family(family, tmp_path / "vlm")
    save_vlm(tmp_path / "cast", *load_vlm(tmp_path / "vlm", dtype=dtype))
    policy, processor = policy_of(tmp_path / "cast")
    backbone = policy.backbone
    assert backbone.head_is_tied
    before = backbone.text_embedding.weight.detach().clone()
    seen = observation(CONTRACT)
    inputs = processor.collate([processor(seen)])
    with torch.inference_mode():
        plain = policy(**inputs).actions
    apply_switches(policy, Switches(freeze_backbone=True, train_text_embedding=True))
    assert not backbone.head_is_tied
    with torch.inference_mode():
        assert torch.equal(policy(**inputs).actions, plain)
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=0.5)
    policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
    optimizer.step()
    save_policy(tmp_path / "policy", policy, processor)
    again, _ = load_policy(tmp_path / "policy")
    assert not again.backbone.head_is_tied
    learned = backbone.text_embedding.weight
    assert not torch.equal(learned, before)
    assert torch.equal(again.backbone.text_embedding.weight, learned)
    assert torch.equal(again.backbone.head.weight, before)
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "cast"))
    for folder in ("policy", "small"):
        engine = PolicyEngine.load(tmp_path / folder)
        with torch.inference_mode():
            torch.testing.assert_close(engine.policy(**inputs).actions, policy(**inputs).actions, atol=1e-6, rtol=0)
        assert torch.equal(engine.policy.backbone.head.weight, before)
