"""Checkpoint folders that are not what they should be: each is refused in one line that names folder and reason."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robovlm_ros.checkpoints import find_contract
from robovlm_ros.errors import UserError
from robovlm_ros.vlm.checkpoint import load_policy, load_vlm, save_policy, save_vlm
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .families import save_family
from .makers import arm_contract, small_policy, small_vlm

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
Damage = Callable[[Path], None]


def nothing(folder: Path) -> None:
    empty(folder)
    folder.rmdir()


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def file_instead(folder: Path) -> None:
    nothing(folder)
    folder.write_text("")


def less(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def text(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content) and None


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def longer(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"0000")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def config(**change: Any) -> Damage:
    def apply(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text())
        for key, value in change.items():
            found[key] = {**(found.get(key) or {}), **value} if isinstance(value, dict) else value
        (folder / "config.json").write_text(json.dumps(found))

    return apply


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def apply(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def sharded(then: Damage | None = None) -> Damage:
    def apply(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = sorted(found)
        files = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
        for file, own in files.items():
            save_file({name: found[name] for name in own}, folder / file, metadata={"format": "pt"})
        places = {name: file for file, own in files.items() for name in own}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
        if then is not None:
            then(folder)

    return apply


def without_one(found: dict[str, torch.Tensor]) -> None:
    del found[next(name for name in found if "down_proj" in name)]


def smaller(found: dict[str, torch.Tensor]) -> None:
    found.update({name: value[:1] for name, value in found.items() if "down_proj" in name})


NOT_A_NUMBER = {"offset": [float("nan")] * 4, "scale": [1.0] * 4, "method": "quantile"}
BOTH: list[tuple[Damage, str]] = [
    (nothing, "there is no checkpoint folder"),
    (empty, "is no checkpoint folder: config.json is missing"),
    (file_instead, "is a file, not a checkpoint folder"),
    (less("config.json"), "is no checkpoint folder: config.json is missing"),
    (text("config.json", "{"), "damaged: config.json cannot be read"),
    (text("config.json", "[]"), "damaged: config.json is no JSON mapping"),
    (text("config.json", "{}"), "is a 'None', not a policy|damaged: config.json names no model_type"),
    (cut, "damaged: model.safetensors is no whole safetensors file"),
    (longer, "damaged: model.safetensors is no whole safetensors file"),
    (text(WEIGHTS, "nonsense"), "damaged: model.safetensors is no whole safetensors file"),
    (less(WEIGHTS), "incomplete: it has no model.safetensors"),
    (pickled, r"pickle \(pytorch_model.bin\), which could run any code"),
    (sharded(less("model-00002-of-00003.safetensors")), "model-00002-of-00003.safetensors is missing .1 of 3 shards"),
    (sharded(less(INDEX)), "has shards, but model.safetensors.index.json is missing"),
    (sharded(text(INDEX, "{")), "damaged: model.safetensors.index.json cannot be read"),
    (sharded(text(INDEX, "{}")), "damaged: model.safetensors.index.json has no weight_map"),
    (
        weights(lambda found: found.pop(next(n for n in found if "down_proj" in n))),
        r"does not fit .*down_proj.* \(1 such",
    ),
    (
        weights(lambda found: found.update({n: v[:1] for n, v in found.items() if "down_proj" in n})),
        r"\(2 such weights",
    ),
    (less("tokenizer.json"), "cannot be loaded"),
]
POLICY: list[tuple[Damage, str]] = [
    (less("contract.yaml"), "incomplete: contract.yaml is missing"),
    (config(model_type="llama"), "is a 'llama', not a policy"),
    (config(format=99), "has format 99, this program knows up to 1: update"),
    (
        config(vlm_config={"model_type": "qwen9_vl"}),
        "its backbone is a 'qwen9_vl', which transformers .* know",
    ),
    (config(vlm_config={"model_type": "llama"}), "its backbone is a 'llama', which is no vision-language model"),
    (config(latent_num=4), r"does not fit its configuration: action_token"),
    (config(head={"type": "oracle"}), "head 'oracle' is not one of: mlp"),
    (config(cameras=["ceiling"]), "no camera 'ceiling'"),
    (config(contract={"rate_hz": -1}), "rate_hz"),
    (config(action_statistics=NOT_A_NUMBER), "normalisation statistics are damaged"),
    (config(state_statistics={"offset": [0.0], "scale": [1.0]}), "state statistics have 1 dimensions"),
    (weights(lambda found: found.update(ghost=torch.zeros(1))), r"does not fit its configuration: ghost \(1 such"),
]
VLM: list[tuple[Damage, str]] = [
    (config(model_type="qwen9_vl"), "it is a 'qwen9_vl', which transformers .* does not know: a newer one may"),
    (config(model_type="llama"), "it is a 'llama', which is no vision-language model"),
    (config(model_type="robovlm_action_token"), "is a policy, not a vision-language model"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a base that load, made once."""
    root = tmp_path_factory.mktemp("whole")
    save_policy(root / "policy", *small_policy())
    save_vlm(root / "vlm", *small_vlm())
    load_policy(root / "policy")
    load_vlm(root / "vlm")
    return root


def refused(load: Callable[[Path], Any], folder: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(("damage", "said"), [*BOTH, *POLICY])
def test_a_policy_that_is_not_whole_is_refused_in_one_line(
    whole: Path, tmp_path: Path, damage: Damage, said: str
) -> None:
    shutil.copytree(whole / "policy", tmp_path / "policy")
    damage(tmp_path / "policy")
    refused(load_policy, tmp_path / "policy", said)


@pytest.mark.parametrize(("damage", "said"), [*BOTH, *VLM])
def test_a_base_that_is_not_whole_is_refused_in_one_line(
    whole: Path, tmp_path: Path, damage: Damage, said: str
) -> None:
    shutil.copytree(whole / "vlm", tmp_path / "vlm")
    damage(tmp_path / "vlm")
    refused(load_vlm, tmp_path / "vlm", said)


def test_a_policy_that_is_named_as_a_base_says_of_which_base_it_was_made() -> None:
    folder = Path(__file__).resolve().parent.parent / "checkpoints" / "tabletop_tasks"
    refused(load_vlm, folder, "is a policy, not .*: name what it was made of .'tabletop_tasks_vlm', as measured.json")


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    policy, processor = small_policy()
    save_policy(tmp_path / "policy", policy, processor)
    sharded()(tmp_path / "policy")
    again, _ = load_policy(tmp_path / "policy")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in policy.state_dict().items())


def test_a_tied_head_need_not_lie_in_the_folder_but_an_untied_one_must(tmp_path: Path) -> None:
    save_family("paligemma", tmp_path / "tied")
    assert not [name for name in load_file(tmp_path / "tied" / WEIGHTS) if "lm_head" in name]
    load_vlm(tmp_path / "tied")
    save_vlm(tmp_path / "untied", *small_vlm())
    weights(lambda found: found.pop("lm_head.weight"))(tmp_path / "untied")
    refused(load_vlm, tmp_path / "untied", "lm_head")


def test_a_base_may_hold_weights_that_its_class_does_not_use(tmp_path: Path) -> None:
    vlm, processor = small_vlm()
    save_vlm(tmp_path, vlm, processor)
    weights(lambda found: found.update(ghost=torch.zeros(1)))(tmp_path)
    again, _ = load_vlm(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in vlm.state_dict().items())


def test_a_damaged_contract_is_found_without_loading_the_policy(tmp_path: Path) -> None:
    save_policy(tmp_path, *small_policy())
    text("contract.yaml", "name: [")(tmp_path)
    refused(find_contract, tmp_path, "is not YAML")


def test_a_saved_policy_tells_no_path_of_the_machine_that_made_it(tmp_path: Path) -> None:
    save_vlm(tmp_path / "base", *small_vlm())
    vlm, words = load_vlm(tmp_path / "base")
    contract = arm_contract(4)
    config = ActionTokenConfig(vlm_config=vlm.config, contract=contract.to_dict(), cameras=["front"], state=[], head={})
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    save_policy(tmp_path / "policy", policy, ActionTokenProcessor(config, words))
    assert str(tmp_path) not in (tmp_path / "policy" / "config.json").read_text(encoding="utf-8")
    load_policy(tmp_path / "policy")
