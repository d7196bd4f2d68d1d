"""What `benchmark training` compares learns the same, and what it reports is what it took."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from robovlm_ros.cli import benchmark_training
from robovlm_ros.cli.benchmark import main
from robovlm_ros.cli.plain_training import PlainTraining
from robovlm_ros.cli.synthetic import write_episodes
from robovlm_ros.contract import Contract, share_directory
from robovlm_ros.training.finetuning import FinetuneOptions, configure, feature_encoder, set_statistics
from robovlm_ros.training.optimisation import build_optimizer
from robovlm_ros.training.steps import shuffled
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import WindowDataset, open_episodes, read_recordings
from robovlm_ros.vlm.checkpoint import load_vlm
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import small_policy


def test_the_plain_loop_learns_from_the_same_loss_as_finetune(tmp_path: Path) -> None:
    options = FinetuneOptions(batch_size=4, state=("ee.x",), device="cpu")
    write_episodes(tmp_path, Contract.load("tabletop"), 1, 10)
    vlm, words = load_vlm(str(share_directory() / "checkpoints" / "tabletop_vlm"))
    episodes = open_episodes([tmp_path])
    processor = ActionTokenProcessor(configure(options, vlm.config, episodes[0].contract, words), words)
    policy = ActionTokenPolicy.from_vlm(vlm, processor.config)
    apply_switches(policy, options)
    raw = read_recordings(episodes, processor, options.chunk_size, None, raw=True)
    encode = feature_encoder(policy, options, torch.device("cpu"))
    kept = read_recordings(episodes, processor, options.chunk_size, encode)
    windows = WindowDataset(kept, set_statistics(options, processor, kept))
    first = processor.collate([windows[item] for item in shuffled(len(windows), options.seed)(0)[:4]])
    del first["item"]
    loss = float(policy.train()(**first).loss.detach())
    plain = PlainTraining(options, policy, processor, raw)
    assert plain.run(1) == pytest.approx(loss, rel=1e-4)
    assert plain.run(6) < loss


def test_a_fused_optimiser_moves_weights_by_the_same_rule() -> None:
    moved = []
    made, _ = small_policy()
    for fused in (False, True):
        policy = copy.deepcopy(made)
        optimizer = build_optimizer(policy, FinetuneOptions(learning_rate=1e-2, fused=fused))
        assert bool(optimizer.defaults["fused"]) == fused
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            for weight in policy.parameters():
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        moved.append(torch.nn.utils.parameters_to_vector(policy.parameters()).detach())
    assert float((moved[0] - moved[1]).abs().max()) < 1e-6
    assert float((moved[0] - torch.nn.utils.parameters_to_vector(made.parameters()).detach()).abs().max()) > 1e-3


def test_the_command_reports_each_way_by_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_training, "MADE", 1)
    monkeypatch.setattr(benchmark_training, "LENGTH", 10)
    monkeypatch.setattr(benchmark_training, "LEAST", 1)
    result = tmp_path / "training.json"
    flags = ["--seconds", "0.01", "--steps", "1", "--batch-size", "4", "--device", "cpu", "--json", str(result)]
    assert main(["training", *flags, "--variants", "bfloat16"]) == 0
    told = json.loads(result.read_text(encoding="utf-8"))
    assert list(told["ways"]) == ["plain", "finetune", "bfloat16"]
    for way in told["ways"].values():
        assert way["images_per_second"] == pytest.approx(4 / np.median(way["samples_s"]), rel=0.05)
    assert told["ratio"] == pytest.approx(told["images_per_second"] / told["plain_images_per_second"], rel=0.05)


def test_an_unknown_variant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["training", "--variants", "magic"]) == 1
    assert "--variants: 'magic' is not one of: fused, bfloat16, checkpointing" in capsys.readouterr().err
