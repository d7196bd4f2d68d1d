"""The policy as users of transformers, peft and the hub expect a model to behave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, Trainer, TrainingArguments

import robovlm_ros.vlm
from robovlm_ros.checkpoints import Base
from robovlm_ros.contract import share_directory
from robovlm_ros.training.model_card import policy_card
from robovlm_ros.vlm.checkpoint import load_policy, name_base, save_policy, save_vlm

from .makers import observation, small_policy, small_vlm


def batch(processor: Any, count: int = 2) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = processor.collate(
        [processor(observation(processor.contract, seed=seed)) for seed in range(count)]
    )
    return found


@torch.inference_mode()
def actions(policy: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = policy(**inputs).actions
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_policy_saves_and_loads_by_itself_and_through_the_auto_classes(tmp_path: Path, dtype: torch.dtype) -> None:
    whole, processor = small_policy(latent_num=2)
    whole.save_pretrained(tmp_path / "whole")
    policy = AutoModel.from_pretrained(tmp_path / "whole", dtype=dtype)
    policy.save_pretrained(tmp_path)
    inputs = batch(processor)
    assert type(AutoConfig.from_pretrained(tmp_path)) is robovlm_ros.vlm.ActionTokenConfig
    for again in (robovlm_ros.vlm.ActionTokenPolicy.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(again) is robovlm_ros.vlm.ActionTokenPolicy
        assert (again.vlm.dtype, again.action_token.dtype, again.dtype) == (dtype, torch.float32, dtype)
        assert not again.training
        torch.testing.assert_close(actions(again, inputs), actions(policy, inputs), atol=1e-6, rtol=0)


def examples(processor: Any, count: int = 8) -> list[dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    targets = {"actions": torch.rand(5, 4, generator=rng).round(), "valid": torch.ones(5)}
    return [{**processor(observation(processor.contract, seed=seed)), **targets} for seed in range(count)]


def test_the_trainer_of_transformers_trains_saves_and_goes_on(tmp_path: Path) -> None:
    policy, processor = small_policy()
    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4, "learning_rate": 3e-3, "use_cpu": True,
        "remove_unused_columns": False, "report_to": [], "disable_tqdm": True, "logging_steps": 2, "save_steps": 4,
        "seed": 0, "dataloader_pin_memory": False, "lr_scheduler_type": "constant",
    }  # fmt: skip
    parts = {"train_dataset": examples(processor), "data_collator": processor.collate}
    trainer = Trainer(policy, TrainingArguments(max_steps=8, **settings), **parts)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    again = AutoModel.from_pretrained(tmp_path / "run" / "checkpoint-4")
    goes_on = Trainer(again, TrainingArguments(max_steps=8, **settings), **parts)
    goes_on.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    inputs = batch(processor)
    torch.testing.assert_close(actions(again.eval(), inputs), actions(policy.eval(), inputs), atol=1e-4, rtol=0)


def test_peft_wraps_the_whole_policy(tmp_path: Path) -> None:
    policy, processor = small_policy()
    inputs = batch(processor)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["head"])
    wrapped = peft.get_peft_model(policy, config)
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        wrapped(**inputs, actions=torch.full((2, 5, 4), 0.5)).loss.backward()
        optimizer.step()
    wrapped.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(small_policy()[0], tmp_path)
    torch.testing.assert_close(actions(again, inputs), actions(wrapped.eval(), inputs), atol=1e-6, rtol=0)
    assert not torch.allclose(actions(again, inputs), actions(small_policy()[0], inputs), atol=1e-3)
    merged = again.merge_and_unload()
    torch.testing.assert_close(actions(merged, inputs), actions(wrapped, inputs), atol=1e-5, rtol=0)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        policy, processor = small_policy()
        policy.train()
        if checkpointing:
            policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        runs: list[int] = []
        policy.backbone.decoder_layers[0].self_attn.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        policy(**batch(processor), actions=torch.full((2, 5, 4), 0.5)).loss.backward()
        assert len(runs) == 1 + checkpointing  # computed again on the way back
        found.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
    assert set(found[0]) == set(found[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_the_card_has_the_front_matter_of_the_hub() -> None:
    folder = share_directory() / "checkpoints" / "tabletop"
    _, processor = load_policy(folder)
    card = ModelCard(policy_card(processor, json.loads((folder / "measured.json").read_text())))
    assert card.data.to_dict() == {"library_name": "transformers", "license": "apache-2.0", "pipeline_tag": "robotics"}


def hub(root: Path, name: str, folder: Path) -> None:
    """Put a folder where the hub's cache would have it."""
    place = root / ("models--" + name.replace("/", "--"))
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))


PROGRAM = """
import json, sys
import torch
from transformers import AutoModel
import robovlm_ros.vlm
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, name_base

policy, processor = load_policy("lab/policy")
own = AutoModel.from_pretrained("lab/policy", local_files_only=True)
assert all(torch.equal(value, own.state_dict()[name]) for name, value in policy.state_dict().items())
vlm, _ = load_vlm("lab/vlm")
small, _ = load_policy("lab/small")
assert small.config.base == {"name": "lab/vlm", "sha256": name_base("lab/vlm").sha256}
assert all(torch.equal(value, small.vlm.state_dict()[name]) for name, value in vlm.state_dict().items())
for load in (load_policy, load_vlm, name_base):
    try:
        load("lab/nothing")
    except UserError as error:
        print(error)
"""


def test_hub_names_work_from_the_cache_without_a_network(tmp_path: Path) -> None:
    policy, processor = small_policy()
    save_policy(tmp_path / "policy", policy, processor)
    save_vlm(tmp_path / "vlm", *small_vlm())
    hub(tmp_path / "hub", "lab/policy", tmp_path / "policy")
    hub(tmp_path / "hub", "lab/vlm", tmp_path / "vlm")
    policy.vlm.requires_grad_(False)
    base = Base(name="lab/vlm", sha256=name_base(tmp_path / "vlm").sha256)
    save_policy(tmp_path / "small", policy, processor, base)
    hub(tmp_path / "hub", "lab/small", tmp_path / "small")
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lab/nothing") == 3
    assert done.stdout.count("\n") == 3
