"""Adapters beside the backbone's linear layers: where they stand, what they learn, and how they go away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import Switches, apply_switches, trainable
from robovlm_ros.vlm.adapters import merge_adapters
from robovlm_ros.vlm.checkpoint import load_vlm, save_policy, save_vlm

from .families import FAMILIES, save_family
from .makers import observation, small_policy, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag
from .test_vlm_families import CONTRACT, policy_of

QUICK = ("paligemma", "qwen3_vl", "kosmos-2")  # each with adapters in parts of its own; the others are slow tests


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
@pytest.mark.parametrize(("layers", "vision", "dtype"), [(-1, False, "float32"), (1, True, "bfloat16")])
def test_adapters_stand_where_layers_would_train_and_leave_no_trace_when_merged(
    name: str, layers: int, vision: bool, dtype: str, tmp_path: Path
) -> None:
    save_family(name, tmp_path / "vlm")
    vlm, words = load_vlm(tmp_path / "vlm", dtype=dtype)
    save_vlm(tmp_path / "cast", vlm, words)
    policy, processor = policy_of(tmp_path / "cast")
    inputs = processor.collate([processor(observation(CONTRACT))])
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    apply_switches(policy, Switches(train_decoder_layers=layers, train_vision=vision))
    linear = {n for n, m in policy.vlm.named_modules() if type(m) is nn.Linear and m.weight.requires_grad}
    with torch.inference_mode():
        plain = policy(**inputs).actions
    apply_switches(policy, Switches(train_decoder_layers=layers, train_vision=vision, lora_rank=2, lora_dropout=0.0))
    assert {n for n, m in policy.vlm.named_modules() if hasattr(m, "lora_A")} == linear
    learns = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in learns if n.startswith("vlm."))
    assert {n for n, p in policy.named_parameters() if not n.startswith("vlm.")} <= learns
    assert sum(row.trained for row in trainable(policy)) == sum(
        p.numel() for p in policy.parameters() if p.requires_grad
    )
    with torch.inference_mode():
        torch.testing.assert_close(policy(**inputs).actions, plain, atol=1e-6, rtol=0)  # they begin as nothing
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        adapted = policy(**inputs).actions
    merge_adapters(policy)
    after = policy.state_dict()
    assert set(after) == set(before)
    moved = {n for n in before if n.startswith("vlm.") and not torch.equal(after[n], before[n])}
    assert moved
    assert moved <= {f"vlm.{n}.weight" for n in linear}
    assert not torch.allclose(adapted, plain, atol=1e-3)
    save_policy(tmp_path / "policy", policy, processor)
    engine = PolicyEngine.load(tmp_path / "policy")
    with torch.inference_mode():
        tolerance = 1e-5 if dtype == "float32" else 2e-2  # merged weights are rounded to the backbone's type
        torch.testing.assert_close(policy(**inputs).actions, adapted, atol=tolerance, rtol=0)
        torch.testing.assert_close(engine.policy(**inputs).actions, policy(**inputs).actions, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"freeze_backbone": True, "lora_rank": 4}, "nothing to adapt"),
        ({"lora_rank": -1}, "lora_rank must be at least 0"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, "lora_dropout in"),
    ],
)
def test_switches_that_leave_nothing_to_adapt_are_refused(switches: dict[str, float], said: str) -> None:
    policy, _ = small_policy()
    with pytest.raises(UserError, match=said):
        apply_switches(policy, Switches(**switches))  # type: ignore[arg-type]


def test_finetune_with_adapters_gives_a_policy_without_them(tmp_path: Path) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))
    options = FinetuneOptions(lora_rank=2, steps=3, batch_size=4, chunk_size=3, warmup_steps=1, device="cpu")
    trained = finetune(options, tmp_path / "episodes", str(tmp_path / "vlm"), Report("test"))
    before = small_vlm()[0].state_dict()
    after = trained.policy.vlm.state_dict()
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved
    assert all(".layers." in name and "vision" not in name and name.endswith("proj.weight") for name in moved)
    rows = {row["part"]: row["trained"] for row in trained.figures["trainable"]}
    assert 0 < rows["text tower"] < 10_000
