"""The type of the backbone's weights and the implementation of its attention, as chosen."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.reporting import Report
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, save_policy, save_vlm

from .families import FAMILIES, save_family
from .makers import observation, small_policy, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag
from .test_vlm_families import CONTRACT, TEXTS, policy_of

QUICK = ("paligemma", "qwen3_vl", "kosmos-2", "idefics", "florence2")
NAMES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
WITHOUT_FLEX = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "kosmos-2", "idefics")
WITHOUT_SDPA = ("paligemma2",)


def used(model: torch.nn.Module) -> set[str]:
    """Attention implementations of a model's parts."""
    parts = [part for part in model.modules() if hasattr(getattr(part, "config", None), "_attn_implementation")]
    return {str(part.config._attn_implementation) for part in parts}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_every_attention_gives_the_same_latents_or_is_refused(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path / "vlm")
    policy, processor = policy_of(tmp_path / "vlm")
    save_policy(tmp_path / "policy", policy, processor)
    inputs = processor.collate([processor(observation(CONTRACT, text, seed)) for seed, text in enumerate(TEXTS)])
    found = {}
    for attention in ("eager", "sdpa"):
        if attention == "sdpa" and name in WITHOUT_SDPA:
            continue
        loaded, _ = load_policy(tmp_path / "policy", attention=attention)
        assert used(loaded.vlm) == {attention}
        with torch.inference_mode():
            found[attention] = loaded(**inputs).latents
    torch.testing.assert_close(found.get("sdpa", policy(**inputs).latents), found["eager"], atol=1e-4, rtol=0)
    for attention, lack in (("sdpa", WITHOUT_SDPA), ("flex_attention", WITHOUT_FLEX)):
        if name in lack:
            with pytest.raises(UserError, match=f"with attention '{attention}'.*not support") as error:
                load_policy(tmp_path / "policy", attention=attention)
            assert "attention is one of: auto, eager" in str(error.value)
    vlm, _ = load_vlm(tmp_path / "vlm", attention="eager")
    assert used(vlm) == {"eager"}


@pytest.mark.slow  # torch compiles its masks
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["llava", "paligemma"])
def test_flex_attention_gives_the_same_latents(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path / "vlm")
    policy, processor = policy_of(tmp_path / "vlm")
    save_policy(tmp_path / "policy", policy, processor)
    inputs = processor.collate([processor(observation(CONTRACT))])
    loaded, _ = load_policy(tmp_path / "policy", attention="flex_attention")
    assert used(loaded.vlm) == {"flex_attention"}
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**inputs).latents, policy(**inputs).latents, atol=1e-4, rtol=0)


LAYERS = ("hidden_states", "decoder_hidden_states", "encoder_hidden_states", "attentions", "past_key_values")


@pytest.mark.parametrize("name", NAMES)
def test_no_forward_computes_the_head_or_keeps_a_layer_but_the_last(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path)
    policy, processor = policy_of(tmp_path)
    backbone, text = policy.backbone, policy.backbone.decoder
    tower = getattr(text, "decoder", text)  # of an encoder-decoder, which is not called as a whole
    assert backbone.head is not None
    heads: list[int] = []
    kept: list[str] = []
    layers: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def look(module: torch.nn.Module, _inputs: object, output: object) -> None:
        kept.extend(f"{type(module).__name__}.{key}" for key in LAYERS if getattr(output, key, None) is not None)

    def passed(_module: torch.nn.Module, _inputs: object, output: Any) -> None:
        layers.append(weakref.ref(output if isinstance(output, torch.Tensor) else output[0]))

    backbone.head.register_forward_hook(lambda *_: heads.append(1))
    for module in {policy.vlm, policy.vlm.base_model, *text.modules()}:
        module.register_forward_hook(look)
    for layer in backbone.decoder_layers:
        (layer[-1] if isinstance(layer, torch.nn.ModuleList) else layer).register_forward_hook(passed)
    tower.register_forward_hook(lambda *_: alive.append(sum(layer() is not None for layer in layers[:-1])))
    seen = observation(CONTRACT)
    PolicyEngine(policy, processor, fast="off").infer(seen)
    assert len(layers) == 2  # of two
    assert alive == [0]
    policy.train()
    inputs = processor.collate([processor(seen)])
    policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
    assert len(layers) == 4
    assert (heads, kept) == ([], [])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_policy_is_loaded_in_the_type_that_is_asked_for(dtype: str, tmp_path: Path) -> None:
    policy, processor = small_policy()
    save_policy(tmp_path / "policy", policy, processor)
    seen = observation(processor.contract)
    exact = PolicyEngine.load(tmp_path / "policy").infer(seen).actions
    engine = PolicyEngine.load(tmp_path / "policy", dtype=dtype, attention="eager")
    assert {p.dtype for p in engine.policy.vlm.parameters()} == {getattr(torch, dtype)}
    assert {p.dtype for p in engine.policy.new_parameters} == {torch.float32}
    assert used(engine.policy.vlm) == {"eager"}
    assert abs(engine.infer(seen).actions - exact).max() < (1e-5 if dtype == "float32" else 2e-2)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not one of: auto, float32, bfloat16, float16"),
        ({"attention": "fast"}, "attention 'fast' is not one of: auto, eager, sdpa, flash_attention_2, flex_attention"),
        ({"attention": "flash_attention_2"}, "needs a CUDA device"),
    ],
)
def test_a_choice_that_cannot_be_had_is_refused_before_anything_is_loaded(
    chosen: dict[str, str], said: str, tmp_path: Path
) -> None:
    policy, processor = small_policy()
    save_policy(tmp_path / "policy", policy, processor)
    with pytest.raises(UserError, match=said):
        load_policy(tmp_path / "policy", **chosen)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        finetune(
            FinetuneOptions(device="cpu", **chosen),  # type: ignore[arg-type]
            tmp_path / "no episodes",
            str(tmp_path / "no base"),
            Report("test"),
        )


def test_finetune_trains_in_the_type_and_attention_that_are_asked_for(tmp_path: Path) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))

    def trained(**chosen: object) -> torch.nn.Module:
        options = FinetuneOptions(
            **{"steps": 2, "batch_size": 4, "chunk_size": 3, "warmup_steps": 0, "device": "cpu", **chosen}  # type: ignore[arg-type]
        )
        return finetune(options, tmp_path / "episodes", str(tmp_path / "vlm"), Report("test")).policy

    policy = trained(dtype="bfloat16", attention="eager")
    assert {p.dtype for p in policy.vlm.parameters()} == {torch.bfloat16}  # type: ignore[union-attr]
    assert used(policy.vlm) == {"eager"}  # type: ignore[arg-type]
    assert bool(policy.action_token.any())  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match="weights in float16 cannot be trained"):
        trained(dtype="float16")
    assert bool(torch.stack([p.isfinite().all() for p in trained(dtype="float16", lora_rank=2).parameters()]).all())
