"""Every backbone with every head, history, source of latents and number of actions: it trains, or says why not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, configure, set_statistics
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import WindowDataset, record
from robovlm_ros.vlm.checkpoint import load_vlm, save_policy
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .families import FAMILIES, save_family
from .makers import arm_contract, observation

CHUNK = 2
HEADS: dict[str, dict[str, Any]] = {
    "mlp": {"type": "mlp", "hidden": [16]},
    "lstm": {"type": "lstm", "hidden": [16], "width": 16},
    "gpt": {"type": "gpt", "hidden": [16], "width": 16, "depth": 1, "heads": 2},
    "flow": {"type": "flow", "width": 16, "steps": 3},
    "diffusion": {"type": "diffusion", "width": 16, "steps": 3},
    "discrete parallel": {"type": "discrete", "bins": 16},
    "discrete autoregressive": {"type": "discrete", "bins": 16, "decoding": "autoregressive"},
}
HISTORIES = {"one_step": 1, "policy_head": 3, "interleaved": 3}
LATENTS = ("action_token", "down_sample")
DIMS = (3, 7, 8, 14)


class Combination(NamedTuple):
    """One way to build a policy."""

    family: str
    head: str
    history: str
    latents: str
    dims: int


def reasons(made: Combination) -> list[str]:
    """Words of each reason why a combination cannot be, from what its parts are; none: it must work."""
    autoregressive = made.head == "discrete autoregressive"
    fuses = made.head in ("lstm", "gpt")
    found = {
        "goes on behind the action tokens": autoregressive
        and (made.latents == "down_sample" or made.history == "interleaved"),
        "decoder would be left out": made.latents == "down_sample" and made.family == "florence2",
        "history 'interleaved' is not for": made.history == "interleaved" and made.family in ("florence2", "idefics"),
        "joins a window": made.history == "interleaved" and fuses,
        "looks at one observation": made.history == "policy_head" and not fuses,
    }
    return [words for words, holds in found.items() if holds]


ALL = [Combination(*parts) for parts in itertools.product(FAMILIES, HEADS, HISTORIES, LATENTS, DIMS)]
ALLOWED = [made for made in ALL if not reasons(made)]


def pairs(made: Combination) -> set[tuple[tuple[int, Any], ...]]:
    """The pairs of choices that a combination shows."""
    return set(itertools.combinations(enumerate(made), 2))


def pairwise(combinations: list[Combination]) -> Iterator[Combination]:
    """Few of the combinations that together show every pair that any of them shows; greedy, always the same."""
    missing = set().union(*(pairs(made) for made in combinations))
    while missing:
        best = max(combinations, key=lambda made: len(pairs(made) & missing))
        missing -= pairs(best)
        yield best


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder for each family, made once."""
    root = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        save_family(name, root / name)
    return {name: root / name for name in FAMILIES}


def build(made: Combination, folder: Path) -> tuple[ActionTokenPolicy, ActionTokenProcessor, FinetuneOptions]:
    """The policy as fine-tuning builds it; UserError when it cannot be."""
    options = FinetuneOptions(
        head=HEADS[made.head],
        history=made.history,
        window=HISTORIES[made.history],
        latents=made.latents,
        latent_num=CHUNK * made.dims if made.head == "discrete parallel" else 1,
        chunk_size=CHUNK,
        cameras=("front",),
        prompt="{images}{instruction}",
    )
    vlm, words = load_vlm(folder)
    config = configure(options, vlm.config, arm_contract(made.dims))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = ActionTokenPolicy.from_vlm(vlm, config)
    apply_switches(policy, options)
    return policy, ActionTokenProcessor(config, words), options


def check(made: Combination, vlm: Path, folder: Path) -> None:
    """It learns in two steps, and what is loaded does as what was saved, over an episode."""
    policy, processor, options = build(made, vlm)
    contract, rng = processor.contract, np.random.default_rng(0)
    step = contract.step_ns
    seen = [observation(contract, "reach the red block", i, stamp_ns=i * step) for i in range(4)]
    actions = [np.append(rng.normal(0, 0.2, (CHUNK, made.dims - 1)), np.ones((CHUNK, 1)), axis=1) for _ in seen]
    episode = record("one", [(o, a, np.ones(CHUNK, bool)) for o, a in zip(seen, actions, strict=True)], processor, None)
    assert episode is not None
    processor = set_statistics(options, processor, [episode])
    dataset = WindowDataset([episode], processor)
    batch = processor.collate([dataset[item] for item in (1, 3)])
    del batch["item"]
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    before = {name: value.clone() for name, value in policy.named_parameters()}
    for _ in range(2):
        policy(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, value in policy.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("head.") for name in moved)
    assert any(name.startswith("vlm.") for name in moved)
    assert ("action_token" in moved) == (made.latents == "action_token")

    save_policy(folder, policy, processor)
    trained, loaded = PolicyEngine(policy.eval(), processor, fast="off"), PolicyEngine.load(folder)  # plain and fast
    decided = np.stack([[engine.infer(o).actions for o in seen] for engine in (trained, loaded)])
    assert decided.shape == (2, 4, CHUNK, made.dims)
    assert np.isfinite(decided).all()
    np.testing.assert_allclose(decided[1], decided[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("made", list(pairwise(ALLOWED)), ids=lambda made: "-".join(map(str, made)))
def test_any_two_choices_go_together(made: Combination, folders: dict[str, Path], tmp_path: Path) -> None:
    check(made, folders[made.family], tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_cannot_be_is_refused_when_it_is_built(family: str, folders: dict[str, Path]) -> None:
    for made in ALL:
        if made.family == family and made.dims == DIMS[0] and reasons(made):
            with pytest.raises(UserError, match="|".join(reasons(made))):
                build(made, folders[family])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_matrix(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    done: Counter[tuple[str, str, str]] = Counter()
    for index, made in enumerate(made for made in ALLOWED if made.family == family):
        check(made, folders[family], tmp_path / str(index))
        done[made.head, made.history, made.latents] += 1
    row = " | ".join(
        f"{done[head, history, latents]}/{len(DIMS)}" if done[head, history, latents] else "refused"
        for head, history, latents in itertools.product(HEADS, HISTORIES, LATENTS)
    )
    print(f"\n| {family} | {row} |")
