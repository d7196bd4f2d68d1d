"""`inspect trainable` says what fine-tuning then does, without the memory that it takes."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest
import transformers as hf

from robovlm_ros.cli import finetune as finetune_command
from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.training.finetuning import FinetuneOptions, configure
from robovlm_ros.training.preview import preview
from robovlm_ros.training.switches import apply_switches, trainable
from robovlm_ros.vlm.checkpoint import load_vlm, save_vlm
from robovlm_ros.vlm.policy import ActionTokenPolicy

from .families import FAMILIES, save_family
from .makers import arm_contract, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag

QUICK = ("paligemma", "qwen3_vl", "llava_onevision")
SWITCHES = ({}, {"train_decoder_layers": 1, "train_vision": True, "latent_num": 3}, {"lora_rank": 2, "state": ()})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_a_model_without_weights_has_the_same_parts_as_the_real_one(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path)
    contract = arm_contract(4)
    for switches in SWITCHES:
        options = FinetuneOptions(**switches)  # type: ignore[arg-type]
        vlm, _ = load_vlm(tmp_path)
        policy = ActionTokenPolicy.from_vlm(vlm, configure(options, vlm.config, contract))
        apply_switches(policy, options)
        assert preview(options, tmp_path, contract).rows == trainable(policy)


def test_it_says_what_finetune_then_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    record_bag(tmp_path / "episodes" / "episode_0", episode_messages(4))
    (tmp_path / "mine.yaml").write_text("latent_num: 2\nlora_rank: 2\nlearning_rate: 0.01\nhead_rate: 3\n")
    base = ["--base", str(tmp_path / "vlm"), "--lora-targets", "mlp", "--steps", "1", "--warmup-steps", "0"]
    given = ["--config", str(tmp_path / "mine.yaml"), "--episodes", str(tmp_path / "episodes"), *base]
    monkeypatch.setattr(sys, "argv", ["finetune", *given, "--output", str(tmp_path / "policy")])
    assert finetune_command.main() == 0
    capsys.readouterr()
    assert inspect(["trainable", str(tmp_path / "mine.yaml"), *base, "--json", str(tmp_path / "said.json")]) == 0
    said = json.loads((tmp_path / "said.json").read_text())
    measured = json.loads((tmp_path / "policy" / "measured.json").read_text())
    assert [{key: row[key] for key in measured["trainable"][0]} for row in said["parts"]] == measured["trainable"]
    rates = {row["part"]: row["learning_rates"] for row in said["parts"]}
    assert (rates["vision tower"], rates["text tower"]) == ([], [0.01])
    assert (rates["policy head"], rates["action tokens"]) == ([0.03], [0.02])
    out = capsys.readouterr().out
    assert "adapters beside 6 linear layers: down_proj, gate_proj, up_proj" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("policy head"))
    share = said["trained"] / said["parameters"]
    assert row[2:] == ["head", row[3], row[3], "100.00", "%", "0.03"]
    assert f"{100 * share:.2f} %" in next(line for line in out.splitlines() if line.startswith("all"))


def test_a_model_of_three_billion_parameters_needs_no_memory(tmp_path: Path) -> None:
    hf.PaliGemmaConfig(  # the sizes of paligemma-3b
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14, "image_size": 224,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 257216,
        },
        projection_dim=2048,
    ).save_pretrained(tmp_path)  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # [kB]
    found = preview(FinetuneOptions(lora_rank=16), tmp_path, arm_contract(7))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    rows = {row.part: row for row in found.rows}
    assert sum(row.parameters for row in found.rows) > 2.9e9
    widths = 2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 16384)  # q, o; k, v; gate, up, down: in and out
    assert rows["text tower"].trained == 16 * 18 * widths


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no configuration 'nothing' (a YAML file, or one of: "),
        (["--base", "./nowhere"], "there is no checkpoint folder nowhere"),
        (["--base", "checkpoints/tabletop"], "'robovlm_action_token', which is no vision-language model"),
        (["--train-decoder-layers", "9"], "train_decoder_layers must be -1 or 0 to 3"),
        (["--contract", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)
    assert inspect(["trainable", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
