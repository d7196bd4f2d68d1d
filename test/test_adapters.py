"""Folders that hold adapters and new parts alone: saved, found again with their base, merged, refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from robovlm_ros.cli import convert as convert_command
from robovlm_ros.cli import finetune as finetune_command
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import Switches, apply_switches
from robovlm_ros.vlm.adapters import adapted
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, name_base, save_policy, save_vlm
from robovlm_ros.vlm.policy import ActionTokenPolicy

from .families import FAMILIES, save_family
from .makers import observation, small_policy, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag
from .test_vlm_families import CONTRACT, policy_of

QUICK = ("paligemma", "qwen2_5_vl", "kosmos-2")


def learned(folder: Path, switches: Switches, dtype: str = "auto") -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """A policy on the base in ``folder`` after two steps under these switches, its processor, and an input."""
    policy, processor = policy_of(folder)
    policy.vlm, _ = load_vlm(folder, dtype=dtype)
    apply_switches(policy, switches)
    inputs = processor.collate([processor(observation(CONTRACT))])
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        policy.train()(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy.eval(), processor, inputs


@torch.inference_mode()
def actions(policy: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = policy(**inputs).actions
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_a_folder_of_adapters_acts_as_the_adapters_do_and_so_does_the_merged_one(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path / "vlm")
    policy, processor, inputs = learned(tmp_path / "vlm", Switches(lora_rank=2, train_vision=True))
    expected = actions(policy, inputs)
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "vlm"))
    assert not (tmp_path / "small" / "model.safetensors").exists()
    again, words = load_policy(tmp_path / "small")
    assert not adapted(again)  # merged, so that they cost nothing to run
    torch.testing.assert_close(
        actions(again, words.collate([words(observation(CONTRACT))])), expected, atol=1e-5, rtol=0
    )
    assert convert_command.main(["merge", str(tmp_path / "small"), str(tmp_path / "whole")]) == 0
    shutil.rmtree(tmp_path / "vlm")
    whole, _ = load_policy(tmp_path / "whole")
    torch.testing.assert_close(actions(whole, inputs), expected, atol=1e-5, rtol=0)
    assert whole.config.base is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_peft_itself_puts_the_adapters_on_the_base(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path / "vlm")
    policy, processor, inputs = learned(tmp_path / "vlm", Switches(lora_rank=2))
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "vlm"))
    expected = actions(policy, inputs)
    vlm, _ = load_vlm(tmp_path / "vlm")
    policy.vlm = peft.PeftModel.from_pretrained(vlm, tmp_path / "small" / "adapters").merge_and_unload()
    torch.testing.assert_close(actions(policy, inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_base_weights_that_train_besides_are_saved_and_a_backbone_in_halves_stays_so(
    stored: torch.dtype, tmp_path: Path
) -> None:
    vlm, words = small_vlm()
    save_vlm(tmp_path / "vlm", vlm.to(stored), words)
    switches = Switches(lora_rank=2, train_text_embedding=True)
    policy, processor, inputs = learned(tmp_path / "vlm", switches, dtype="bfloat16")
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "vlm"))
    kept = load_file(tmp_path / "small" / "new_parts.safetensors")
    embedding = "vlm.model.text_model.embed_tokens.weight"
    assert [name for name in kept if name.startswith("vlm.")] == [embedding]
    again, _ = load_policy(tmp_path / "small")
    assert (again.dtype, again.action_token.dtype) == (torch.bfloat16, torch.float32)
    assert not torch.equal(again.state_dict()[embedding], vlm.state_dict()[embedding[4:]].bfloat16())
    torch.testing.assert_close(actions(again, inputs), actions(policy, inputs), atol=2e-2, rtol=0)


def test_a_frozen_backbone_needs_no_adapters(tmp_path: Path) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    policy, processor, inputs = learned(tmp_path / "vlm", Switches(freeze_backbone=True))
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "vlm"))
    assert [file.name for file in (tmp_path / "small").rglob("*.safetensors")] == ["new_parts.safetensors"]
    assert set(load_file(tmp_path / "small" / "new_parts.safetensors")) == {
        name for name in policy.state_dict() if not name.startswith("vlm.")
    }
    for auto in (ActionTokenPolicy, AutoModel):  # they would have no base to put it on
        with pytest.raises(UserError, match="holds adapters without their base: load it with"):
            auto.from_pretrained(tmp_path / "small")
    again, _ = load_policy(tmp_path / "small")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in policy.state_dict().items())
    torch.testing.assert_close(actions(again, inputs), actions(policy, inputs), atol=1e-5, rtol=0)


def test_adapters_and_base_move_together_or_the_base_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vlm(tmp_path / "here" / "vlm", *small_vlm())
    monkeypatch.chdir(tmp_path / "here")
    policy, processor, inputs = learned(Path("vlm"), Switches(lora_rank=2))
    save_policy("small", policy, processor, name_base("vlm"))
    assert json.loads(Path("small/config.json").read_text())["base"]["name"] == "../vlm"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    torch.testing.assert_close(actions(load_policy("there/small")[0], inputs), actions(policy, inputs))
    (tmp_path / "there" / "vlm").rename(tmp_path / "base")
    assert convert_command.main(["merge", "there/small", "whole"]) == 1
    said = capsys.readouterr().err
    assert "holds adapters for the vision-language model ../vlm, which is not there" in said
    assert said.count("\n") == 1
    assert convert_command.main(["merge", "there/small", "whole", "--base", "base"]) == 0
    torch.testing.assert_close(actions(load_policy("whole")[0], inputs), actions(policy, inputs), atol=1e-5, rtol=0)
    assert convert_command.main(["merge", "whole", "again"]) == 1
    assert "complete: there is nothing to merge" in capsys.readouterr().err


def _other_base(folder: Path) -> None:
    save_vlm(folder / "vlm", *small_vlm(seed=1))


def _less(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "small" / name).unlink()


def _config(change: dict[str, Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "small" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    return apply


def _adapter_config(change: dict[str, Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "small" / "adapters" / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    return apply


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_other_base, r"was trained on other weights than those of its base .*vlm \(sha256 \w{12}..., found \w{12}"),
        (_less("new_parts.safetensors"), "incomplete: new_parts.safetensors is missing"),
        (_less("adapters/adapter_model.safetensors"), "incomplete: adapter_model.safetensors is missing"),
        (_less("adapters/adapter_config.json"), "adapter_config.json is missing"),
        (_config({"base": "vlm"}), "damaged: 'base' does not name"),
        (_config({"latent_num": 3}), "does not fit its configuration: action_token"),
        (_adapter_config({"r": 3}), "does not fit its configuration: base_model.model.model"),
        (_adapter_config({"target_modules": ["nowhere"]}), "its adapters do not fit the base"),
        (_adapter_config({"peft_type": "IA3"}), "is not of the type LORA"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    policy, processor, _ = learned(tmp_path / "vlm", Switches(lora_rank=2))
    save_policy(tmp_path / "small", policy, processor, name_base(tmp_path / "vlm"))
    damage(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        load_policy(tmp_path / "small")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("targets", "kept"),
    [
        (("q_proj", "v_proj"), {"self_attn.q_proj", "self_attn.v_proj"}),
        (("mlp",), {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
        (("self_attn.o_proj", "mlp.up_proj"), {"self_attn.o_proj", "mlp.up_proj"}),
    ],
)
def test_targets_choose_which_layers_get_adapters(targets: tuple[str, ...], kept: set[str]) -> None:
    policy, _ = small_policy()
    apply_switches(policy, Switches(lora_rank=2, lora_targets=targets, train_decoder_layers=1))
    assert set(adapted(policy)) == {f"model.text_model.layers.1.{name}" for name in kept}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"lora_rank": 2, "lora_targets": ("c_attn",)},
            r"named 'c_attn' \(layers: down_proj, .*in: mlp, self_",
        ),
        (
            {"lora_rank": 2, "lora_targets": ("fc1",)},
            "no linear layer that would train is named 'fc1'",
        ),  # of the vision
        ({"lora_targets": ("q_proj",)}, "lora_targets q_proj need a lora_rank above 0"),
        ({"save": "adapters"}, "save 'adapters' needs lora_rank > 0 or freeze_backbone"),
        ({"save": "half"}, "save 'half' is not one of: merged, adapters"),
    ],
)
def test_options_of_adapters_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    policy, _ = small_policy()
    with pytest.raises(UserError, match=said):
        apply_switches(policy, FinetuneOptions(**options))


def test_finetune_saves_adapters_that_the_engine_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))
    base = str(tmp_path / "vlm")
    flags = ["--lora-rank", "2", "--steps", "2", "--batch-size", "4", "--chunk-size", "3", "--device", "cpu"]
    given = ["finetune", "--episodes", str(tmp_path / "episodes"), "--base", base, "--save", "adapters", *flags]
    monkeypatch.setattr(sys, "argv", [*given, "--output", str(tmp_path / "small")])
    assert finetune_command.main() == 0
    assert "rests on the weights of `vlm` (SHA-256" in (tmp_path / "small" / "README.md").read_text()
    assert convert_command.main(["merge", str(tmp_path / "small"), str(tmp_path / "whole")]) == 0
    assert "The folder is complete" in (tmp_path / "whole" / "README.md").read_text()
    options = FinetuneOptions(lora_rank=2, steps=2, batch_size=4, chunk_size=3, device="cpu")
    merged = finetune(options, tmp_path / "episodes", base, Report("test"))
    save_policy(tmp_path / "merged", merged.policy, merged.processor)
    one, two, three = (PolicyEngine.load(tmp_path / name) for name in ("small", "whole", "merged"))
    for other in (two, three):
        weights = other.policy.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in one.policy.state_dict().items())
    assert one.infer(observation(one.contract)).actions.shape == (3, 4)
    monkeypatch.setattr(sys, "argv", [*given, "--output", base])
    assert finetune_command.main() == 1
    assert "is the base itself" in capsys.readouterr().err
