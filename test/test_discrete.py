"""The discrete head: bins that are words of the vocabulary, decoded at once or one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, configure, train
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.vlm.checkpoint import load_vlm, save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.heads import build_head
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.discrete import DECODINGS, DiscreteHead
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.sequence import gather

from .families import FAMILIES, save_family
from .makers import arm_contract, observation, small_policy, small_vlm
from .test_heads import at, recordings

BINS = 16
QUICK = ("paligemma2", "qwen3_vl", "kosmos-2", "idefics")
"""Families with masks, positions or a way of reading of their own; the others are slow tests."""


def head(dims: int = 4, binary: int = 1, chunk: int = 3, **options: Any) -> DiscreteHead:
    """A head with random weights, whose last actions are binary."""
    kinds = (False,) * (dims - binary) + (True,) * binary
    shape = HeadShape(hidden_size=8, latent_num=chunk * dims, chunk_size=chunk, binary=kinds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_head(shape, {"type": "discrete", "bins": BINS, **options}).eval()
    assert isinstance(built, DiscreteHead)
    return built


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("dims", [3, 7, 8, 14])
def test_a_policy_of_bins_trains_is_saved_and_acts_as_before(tmp_path: Path, dims: int, decoding: str) -> None:
    options = FinetuneOptions(
        head={"type": "discrete", "bins": BINS, "decoding": decoding},
        latent_num=5 * dims if decoding == "parallel" else 2,
        steps=2,
        batch_size=3,
        chunk_size=5,
        warmup_steps=1,
        device="cpu",
    )
    vlm, backbone = small_vlm()
    policy = ActionTokenPolicy.from_vlm(vlm, configure(options, vlm.config, arm_contract(dims)))
    apply_switches(policy, options)
    words, read = vlm.lm_head.weight.detach().clone(), vlm.get_input_embeddings().weight.detach().clone()
    trained = train(
        options,
        policy,
        ActionTokenProcessor(policy.config, backbone),
        recordings(ActionTokenProcessor(policy.config, backbone)),
        Report("test"),
    )
    learned = policy.head.logits.weight.detach()
    assert torch.equal(vlm.lm_head.weight, words)
    assert 0 < float((learned - words[-BINS:]).abs().max()) < 0.01  # began as the words, and moved
    if decoding == "autoregressive":
        assert torch.equal(vlm.get_input_embeddings().weight, read)
        assert 0 < float((policy.head.inputs.weight.detach() - read[-BINS:]).abs().max()) < 0.01
    assert 0 < trained.figures["validation_error"] < 10
    save_policy(tmp_path / "policy", policy, trained.processor)
    engines = PolicyEngine(policy, trained.processor), PolicyEngine.load(tmp_path / "policy")
    seen = at(observation(trained.processor.contract), 0)
    one, other = (engine.infer(seen).actions for engine in engines)
    assert one.shape == (5, dims)
    assert set(one[:, -1]) <= {0.0, 1.0}
    np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.parametrize("binary", [0, 1, 4])
def test_the_loss_is_the_masked_cross_entropy_of_the_right_bin(binary: int) -> None:
    built = head(binary=binary)
    rng = np.random.default_rng(0)
    latents = torch.from_numpy(rng.normal(size=(2, 2, 12, 8))).float()
    actions = rng.uniform(-1.2, 1.2, (2, 2, 3, 4))
    actions[..., 4 - binary :] = rng.integers(0, 2, (2, 2, 3, binary))
    valid = np.ones((2, 2, 3))
    valid[1, 1, 1:] = 0
    actions[valid == 0] = 70.0
    by_hand = []
    centres = np.linspace(-1, 1, BINS)
    for b, w, c in zip(*np.nonzero(valid), strict=True):
        for a in range(4):
            logits = latents[b, w, 4 * c + a].numpy() @ built.logits.weight.detach().numpy().T
            if a < 4 - binary:
                wanted = int(np.abs(centres - actions[b, w, c, a]).argmin())
            else:
                logits, wanted = logits[[0, -1]], int(actions[b, w, c, a])
            by_hand.append(np.log(np.exp(logits).sum()) - logits[wanted])
    loss = built.loss(latents, torch.from_numpy(actions).float(), torch.from_numpy(valid))
    assert loss.item() == pytest.approx(np.mean(by_hand), rel=1e-5)


def forced(
    policy: ActionTokenPolicy, inputs: dict[str, torch.Tensor], actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, n, bins) logits of each value behind the true ones before it, a forward of its own for each, and latents."""
    head, found = policy.head, []
    tokens, places = policy.prompt(
        inputs["input_ids"],
        inputs["attention_mask"],
        policy.image_embeddings(**{key: value for key, value in inputs.items() if key in IMAGES}),
        inputs["state"],
        **{key: value for key, value in inputs.items() if key in LAYOUT},
    )
    latents = gather(policy.backbone.decode(tokens), places[:, -2:])
    for count in range(head.values):
        longer, more = tokens.insert(head.embed(actions)[:, :count])
        last = torch.cat([places, more], dim=1)[:, -1:]
        found.append(head.logits(gather(policy.backbone.decode(longer), last)))
    return torch.cat(found, dim=1), latents


IMAGES = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "image_sizes")
LAYOUT = ("image_grid_thw", "image_word")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_values_one_by_one_are_those_of_whole_forwards_in_any_family(tmp_path: Path, name: str) -> None:
    save_family(name, tmp_path)
    vlm, words = load_vlm(tmp_path)
    contract = arm_contract(3)
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        cameras=["front", "side"],
        state=list(contract.state_names),
        chunk_size=2,
        latent_num=2,
        head={"type": "discrete", "bins": BINS, "decoding": "autoregressive", "choice": "expectation"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActionTokenPolicy.from_vlm(vlm, config).eval()
        torch.nn.init.normal_(policy.action_token)
        torch.nn.init.normal_(policy.head.inputs.weight)
    processor = ActionTokenProcessor(config, words)
    texts = ("go", "move above the yellow cube now")  # one is padded
    inputs = processor.collate([processor(observation(contract, text, seed)) for seed, text in enumerate(texts)])
    with torch.inference_mode():
        # running reads what it decided: with the likeliest bins as if they were true, whole forwards say the same
        output = policy(**inputs)
        actions = torch.zeros(2, 2, 3)
        for value in range(6):
            logits, latents = forced(policy, inputs, actions)
            step, dim = divmod(value, 3)
            if dim == 2:
                actions[:, step, dim] = (logits[:, value, -1] > logits[:, value, 0]).float()
            else:
                actions[:, step, dim] = policy.head.centres(logits)[logits[:, value].argmax(-1)]
        whole = policy.head.decided(logits.view(2, 1, 2, 3, BINS))[:, 0]
        torch.testing.assert_close(output.actions, whole, atol=1e-4, rtol=0)
        torch.testing.assert_close(output.latents, latents, atol=1e-5, rtol=0)
        assert float(whole[0].std()) > 0.01
        assert not torch.allclose(whole[0], whole[1], atol=1e-3)
        # training reads true values, all of them in one forward
        rng = np.random.default_rng(0)
        actions = torch.from_numpy(rng.uniform(-1, 1, (2, 2, 3))).float()
        actions[..., 2] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        valid = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        loss = policy(**inputs, actions=actions, valid=valid).loss
        logits = forced(policy, inputs, actions)[0].view(2, 2, 3, BINS)
    by_hand = []
    for b, c in valid.nonzero().tolist():
        for a in range(3):
            z = logits[b, c, a].double().numpy()
            wanted = int(np.abs(np.linspace(-1, 1, BINS) - float(actions[b, c, a])).argmin())
            if a == 2:
                z, wanted = z[[0, -1]], int(actions[b, c, a])
            by_hand.append(np.log(np.exp(z).sum()) - z[wanted])
    assert loss.item() == pytest.approx(np.mean(by_hand), rel=1e-4)


def test_running_value_by_value_reads_each_word_once() -> None:
    head = {"type": "discrete", "bins": BINS, "decoding": "autoregressive"}
    policy, processor = small_policy(head=head)
    read: list[int] = []
    policy.backbone.decoder_layers[0].register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    inputs = processor.collate([processor(observation(processor.contract))])
    policy(**inputs)
    assert read == [inputs["input_ids"].shape[1] + 2, *[1] * 19]  # with state and action token; 20 values


@pytest.mark.parametrize("choice", ["argmax", "expectation"])
def test_certain_bins_decode_to_what_they_were_made_of(choice: str) -> None:
    built = head(choice=choice)
    actions = torch.rand(2, 1, 3, 4) * 2.2 - 1.1
    actions[..., 3] = (actions[..., 3] > 0).float()
    logits = torch.nn.functional.one_hot(built.bins_of(actions), BINS) * 50.0
    logits[..., 3, :] = torch.nn.functional.one_hot((actions[..., 3] * (BINS - 1)).long(), BINS) * 50.0
    decided = built.decided(logits)
    assert float((decided - actions.clamp(-1, 1)).abs().max()) <= 1 / (BINS - 1) + 1e-6
    assert torch.equal(decided[..., 3].round(), actions[..., 3])
    doubtful = torch.zeros(1, 1, 3, 4, BINS)
    doubtful[..., 3] = 9.0
    doubtful[..., 5] = 9.0 - np.log(3.0)  # a third as likely
    expected = {"argmax": built.centres(logits)[3], "expectation": 0.75 * built.centres(logits)[3]}
    expected["expectation"] += 0.25 * built.centres(logits)[5]
    torch.testing.assert_close(built.decided(doubtful)[0, 0, 0, 0], expected[choice], atol=1e-2, rtol=0)
    doubtful[0, 0, 0, 0, 2] = torch.nan  # is for safety to refuse
    assert bool(built.decided(doubtful)[0, 0, 0].isnan().tolist() == [True, False, False, False])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "latent_num must be chunk_size x actions = 5 x 4 = 20, not 1"),
        ({"latent_num": 20, "head": {"bins": 10**4}}, "fewer than the 10000 bins of the head: choose fewer bins"),
        ({"history": "policy_head", "window": 3}, "head 'discrete' looks at one observation, but window is 3"),
        ({"head": {"bins": 1}}, "bins must be at least 2, not 1"),
        ({"head": {"decoding": "backwards"}}, "decoding 'backwards' is not one of: parallel, autoregressive"),
        (
            {"head": {"decoding": "autoregressive"}, "history": "interleaved", "window": 3},
            "goes on behind the action tokens of one observation: choose history one_step",
        ),
        ({"head": {"decoding": "autoregressive"}, "latents": "down_sample"}, "choose history one_step and latents"),
        ({"head": {"choice": "best"}}, "choice 'best' is not one of: argmax, expectation"),
    ],
)
def test_a_discrete_policy_that_cannot_work_is_refused_when_it_is_built(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small_policy(**{**settings, "head": {"type": "discrete", "bins": BINS, **settings.get("head", {})}})


def test_a_normalisation_that_leaves_values_without_a_bin_is_refused() -> None:
    options = FinetuneOptions(head={"type": "discrete"}, action_normalisation="mean_std")
    with pytest.raises(UserError, match="choose quantile, min_max or mu_law"):
        configure(options, small_vlm()[0].config, arm_contract(4))
