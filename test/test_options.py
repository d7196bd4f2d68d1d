"""Options: one dataclass each, from which flags, files and help follow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from robovlm_ros import contract
from robovlm_ros.cli.command import parser
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.contract import share_directory
from robovlm_ros.errors import UserError
from robovlm_ros.nodes import policy_node, recorder_node, replay_node, sim_node, view_node
from robovlm_ros.options import field_docs, field_types
from robovlm_ros.training.finetuning import FinetuneOptions
from robovlm_ros.training.pretraining import PretrainOptions
from robovlm_ros.vlm.heads import HEADS
from robovlm_ros.vlm.resampler import ResamplerOptions

OPTIONS: tuple[type[Any], ...] = (
    *(policy_node.Settings, recorder_node.Settings, sim_node.Settings, view_node.Settings, replay_node.Settings),
    *(FinetuneOptions, PretrainOptions, ResamplerOptions, *(options for _, options in HEADS.values())),
    *(contract.Contract, contract.Camera, contract.StateSource, contract.Command, contract.ActionDimension),
)


def finetune_options(*arguments: object) -> FinetuneOptions:
    """What `finetune` makes of its command line."""
    flags: argparse.ArgumentParser = parser("finetune", None)
    add_options(flags, FinetuneOptions, "training")
    return read_options(flags.parse_args([str(item) for item in arguments]), FinetuneOptions, "training")


@pytest.mark.parametrize("options", OPTIONS, ids=lambda cls: f"{cls.__module__.split('.')[-1]}.{cls.__name__}")
def test_every_option_says_what_it_is(options: type[Any]) -> None:
    assert set(field_types(options)) <= set(field_docs(options))


def test_the_help_names_every_head() -> None:
    assert [kind for kind in HEADS if kind not in field_docs(FinetuneOptions)["head"]] == []


@pytest.mark.parametrize(
    "path", sorted((share_directory() / "config" / "training").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_shipped_configuration_is_one_that_finetune_takes_and_flags_win(path: Path) -> None:
    shipped = finetune_options("--config", path.stem)
    changed = finetune_options("--config", path, "--steps", shipped.steps + 1, "--cameras", "a,b")
    assert (changed.steps, changed.cameras, changed.head) == (shipped.steps + 1, ("a", "b"), shipped.head)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("step: 5", "unknown key 'step' (keys: "),
        ("steps: many", "'steps' must be a whole number, not 'many'"),
        ("train_vision: perhaps", "'train_vision' must be true or false, not 'perhaps'"),
        ("cameras: 5", "'cameras' must be a list, not 5"),
        ("prompt: 5", "'prompt' must be text, not 5"),
        ("head: {type: mpl}", "head 'mpl' is not one of: mlp"),
        ("steps: [1", "is not YAML"),
        ("- steps", "is not a YAML mapping"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        finetune_options("--config", tmp_path / "mine.yaml")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
