"""The fast forward of the engine equals the plain one, and is refused where it does not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from robovlm_ros.checkpoints import find_checkpoint
from robovlm_ros.errors import UserError
from robovlm_ros.runtime.device_images import _FILTERS, DeviceImages
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.runtime.fast import PARTS, FastStages, PlainStages
from robovlm_ros.runtime.graph import GraphStages
from robovlm_ros.runtime.preprocessing import FusedImages
from robovlm_ros.runtime.starting import errors
from robovlm_ros.runtime.tape import NotRecordableError, record

from .families import FAMILIES, save_family
from .makers import observation, small_policy
from .test_vlm_families import CONTRACT, TEXTS, policy_of

NOT_FAST = {
    "llava_onevision": ["images"],
    "kosmos-2": ["text"],
    "idefics": ["text"],
    "florence2": ["text"],
}
"""Family → parts that are the plain ones, with a camera that is not square; all others are fast."""


@pytest.mark.parametrize("name", FAMILIES)
def test_every_part_that_is_fast_equals_the_plain_one(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path)
    policy, processor = policy_of(tmp_path)
    stages, plain = FastStages(policy, processor, padding=8), PlainStages(policy, processor)
    assert sorted(stages.why) == sorted(NOT_FAST.get(name, [])), stages.why
    assert all(error < 1e-5 for error in errors(stages).values())
    with torch.inference_mode():
        for seed, text in ((0, TEXTS[0]), (1, TEXTS[2]), (1, TEXTS[1])):  # another image, then another instruction
            seen = observation(CONTRACT, text, seed)
            found = []
            for way in (plain, stages):
                inputs = way.prepare(seen)
                found.append(way.decide(seen, inputs, way.see(inputs), None, None))
            torch.testing.assert_close(found[1].latents, found[0].latents, atol=1e-4, rtol=0)
            torch.testing.assert_close(found[1].actions, found[0].actions, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"head": {"type": "flow"}},
        {"head": {"type": "diffusion"}},
        {"head": {"type": "gpt", "width": 16, "depth": 1, "heads": 2}, "history": "policy_head", "window": 3},
        {"history": "interleaved", "window": 3},
        {"latents": "down_sample", "latent_num": 2, "resampler": {"type": "perceiver", "queries": 3, "depth": 1}},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_fast_and_plain_engines_decide_the_same_over_an_episode(settings: dict[str, Any]) -> None:
    policy, processor = small_policy(**settings)
    engines = [PolicyEngine(policy, processor, fast=fast) for fast in ("off", "auto")]
    assert "vision" in getattr(engines[1].stages, "parts", [])
    step = processor.contract.step_ns
    for number in range(4):
        seen = observation(processor.contract, seed=number // 2, stamp_ns=number * step)  # each frame comes twice
        decided = [engine.infer(seen).actions for engine in engines]
        np.testing.assert_allclose(decided[1], decided[0], atol=1e-5, rtol=0)
    bigger = replace(seen, images={name: np.repeat(image, 2, 0) for name, image in seen.images.items()})
    decided = [engine.infer(bigger).actions for engine in engines]
    np.testing.assert_allclose(decided[1], decided[0], atol=1e-6, rtol=0)


def test_the_shipped_policy_acts_as_before() -> None:
    folder = find_checkpoint("tabletop")
    engines = [PolicyEngine.load(folder, fast=fast) for fast in ("off", ",".join(PARTS))]
    scale = engines[0].processor.action_normaliser.scale
    for seed, text in enumerate(("reach the red block", "go to the blue cube", "reach the red block")):
        seen = observation(engines[0].contract, text, seed)
        plain, fast = (engine.infer(seen).actions for engine in engines)
        np.testing.assert_allclose(fast / scale, plain / scale, atol=1e-5, rtol=0)


def test_a_part_that_differs_from_the_plain_forward_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    policy, processor = small_policy()
    handle = policy.backbone.decoder_layers[0].register_forward_hook(lambda _layer, _inputs, out: 2 * out)
    seen = observation(processor.contract)
    with caplog.at_level(logging.WARNING):
        found = PolicyEngine(policy, processor).infer(seen).actions
    assert len(caplog.records) == 1
    assert "text (it differs from the plain forward by" in caplog.text
    np.testing.assert_allclose(found, PolicyEngine(policy, processor, fast="off").infer(seen).actions, atol=1e-6)
    with pytest.raises(UserError, match="fast 'text' cannot be with this policy: it differs"):
        PolicyEngine(policy, processor, fast="text").infer(seen)
    handle.remove()
    with pytest.raises(
        UserError, match="fast 'all' is not one of: auto, off, or out of images, vision, text, head, graph"
    ):
        PolicyEngine(policy, processor, fast="all")


def test_a_tape_holds_what_depends_on_its_input_alone_and_merges_projections() -> None:
    weights = [torch.randn(3, 4), torch.randn(5, 4)]
    fixed = torch.randn(2, 3)

    def function(x: torch.Tensor) -> torch.Tensor:
        parts = [torch.nn.functional.linear(x, weight) for weight in weights]
        return parts[0] * fixed.exp().flip(0) + parts[1].sum()

    tape = record(function, torch.zeros(2, 4))
    assert sum("mm" in name for name in tape.operations) == 1
    assert not any("exp" in name for name in tape.operations)
    x = torch.randn(2, 4)
    torch.testing.assert_close(tape(x), function(x))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x * 2 if bool(x.sum() > 0) else x, "asks for a value"),
        (lambda x: x[x > 0], "decides the size"),
        (lambda x: torch.zeros(3).add_(x), "writes into what does not depend"),
        (lambda x: torch.zeros(3), "does not depend on its inputs"),
    ],
)
def test_what_depends_on_values_is_not_recorded(function: Any, why: str) -> None:
    with pytest.raises(NotRecordableError, match=why):
        record(function, torch.ones(3))


class Operations(TorchDispatchMode):
    """Names of the operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["paligemma", "paligemma2", "gemma3", "qwen3_vl", "smolvlm", "internvl"])
def test_a_step_is_one_program_that_an_instruction_only_copies_into(name: str, tmp_path: Path) -> None:
    save_family(name, tmp_path)
    policy, processor = policy_of(tmp_path)
    stages, plain = GraphStages(policy, processor), PlainStages(policy, processor)
    with torch.inference_mode():
        where = set()
        for seed, text in enumerate((*TEXTS, TEXTS[0])):
            seen = observation(CONTRACT, text, seed)
            found = stages.decide(seen, stages.prepare(seen), torch.empty(0), None, None)
            inputs = plain.prepare(seen)
            wanted = plain.decide(seen, inputs, plain.see(inputs), None, None)
            torch.testing.assert_close(found.actions, wanted.actions, atol=1e-4, rtol=0)
            where.add(stages.instruct(text).prompt.tokens.embeddings.data_ptr())
        assert stages.captures == len(where) == 1
        with Operations() as operations:
            program = stages.instruct(TEXTS[1])
        assert set(operations.names) == {"aten.copy_.default"}
        tape = record(lambda *_: stages.step(program.prompt)[0], *stages.raw, stages.state)  # nothing asks for a value
        torch.testing.assert_close(tape(*stages.raw, stages.state), program.run()[0])


def test_an_engine_runs_on_a_graph_by_name_and_says_where_it_cannot() -> None:
    policy, processor = small_policy(head={"type": "lstm", "width": 8, "depth": 1}, history="policy_head", window=3)
    engines = [PolicyEngine(policy, processor, fast=fast) for fast in ("off", "graph")]
    for number in range(4):
        seen = observation(processor.contract, seed=number, stamp_ns=number * processor.contract.step_ns)
        decided = [engine.infer(seen).actions for engine in engines]
        np.testing.assert_allclose(decided[1], decided[0], atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="it reads on behind earlier observations"):
        PolicyEngine(*small_policy(history="interleaved", window=3), fast="graph").warm_up()


@pytest.mark.parametrize("resample", sorted(_FILTERS))
def test_a_device_resizes_to_the_very_bytes_that_pillow_gives(resample: int) -> None:
    _, processor = small_policy(cameras=["side"])
    fused = FusedImages(processor)
    image = np.random.default_rng(0).integers(0, 256, fused.shapes[0], dtype=np.uint8)
    for sizes in (((21, 53),), ((37, 20), (64, 64))):
        plan = replace(fused.plans[0], sizes=sizes, resample=resample, shape=(1, 3, *sizes[-1]), order=None)
        plan = replace(plan, scale=torch.ones(3, 1, 1), shift=torch.zeros(3, 1, 1))
        made = DeviceImages._way(plan, image.shape, torch.device("cpu"))(torch.from_numpy(image))
        np.testing.assert_array_equal(made[0].permute(1, 2, 0).numpy(), plan.resized(image))


@pytest.mark.parametrize("precision", ["int8", "float8"])
@pytest.mark.parametrize("fast", ["auto", "graph"])
def test_eight_bits_are_near_and_calibrated_on_recorded_frames(precision: str, fast: str) -> None:
    policy, processor = small_policy(latent_num=20)  # enough tokens for the last layer to be in eight bits, too
    frames = [observation(processor.contract, seed=seed) for seed in range(3)]
    plain = PolicyEngine(policy, processor, fast="off")
    engine = PolicyEngine(policy, processor, fast=fast, precision=precision)
    scale = processor.action_normaliser.scale[:3]

    def error() -> float:
        apart = [engine.infer(seen).actions - plain.infer(seen).actions for seen in frames]
        return float(np.abs(np.array(apart)[..., :3] / scale).max())

    dynamic = error()
    assert 1e-6 < dynamic < 0.05  # it is not the plain forward, and it is near
    engine.calibrate(frames)
    assert 1e-6 < error() < 0.05
    assert error() != dynamic


def test_a_precision_that_cannot_be_is_refused() -> None:
    policy, processor = small_policy()
    with pytest.raises(UserError, match="precision 'int4' is not one of: auto, int8, float8"):
        PolicyEngine(policy, processor, precision="int4")
    with pytest.raises(UserError, match="precision 'int8' is of the fast text tower: choose fast auto"):
        PolicyEngine(policy, processor, fast="off", precision="int8")
    with pytest.raises(UserError, match="fast 'text' cannot be with this policy: it reads on"):
        PolicyEngine(*small_policy(history="interleaved", window=3), precision="int8").warm_up()
    with pytest.raises(UserError, match="precision 'auto' has no scales to calibrate"):
        PolicyEngine(policy, processor).calibrate([])
