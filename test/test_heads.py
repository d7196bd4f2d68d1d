"""Policy heads: shapes for any robot, formulas, histories, folders that act as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, configure, set_statistics, train
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import Recording, WindowDataset, record
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.heads import build_head
from robovlm_ros.vlm.heads.base import HeadShape, PolicyHead
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import arm_contract, observation, small_policy, small_vlm

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"type": "mlp", "hidden": [16]},
    "lstm": {"type": "lstm", "hidden": [16], "width": 16},
    "gpt": {"type": "gpt", "hidden": [16], "width": 16, "depth": 2, "heads": 2},
    "flow": {"type": "flow", "width": 16, "steps": 4},
    "diffusion": {"type": "diffusion", "width": 16, "steps": 4},
}
"""Every head, small."""
FUSING = ("lstm", "gpt")
GENERATIVE = ("flow", "diffusion")
COMBINATIONS = [
    (kind, window, dims)
    for kind in SMALL
    for window, dims in (((1, 3), (1, 8), (3, 7), (3, 14)) if kind in FUSING else ((1, 3), (1, 7), (1, 8), (1, 14)))
]
"""Every head with every number of actions."""


def head(kind: str, dims: int = 4, window: int = 1, binary: int = 1, **options: Any) -> PolicyHead:
    """A small head with random weights, whose last actions are binary."""
    shape = HeadShape(
        hidden_size=8, latent_num=2, chunk_size=5, window=window, binary=(False,) * (dims - binary) + (True,) * binary
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_head(shape, {**SMALL[kind], **options}).eval()


def history(window: int) -> dict[str, Any]:
    return {"history": "one_step" if window == 1 else "policy_head", "window": window}


def recordings(processor: ActionTokenProcessor, count: int = 2, length: int = 4) -> list[Recording]:
    """Episodes of random observations; the instruction changes behind the second."""
    rng = np.random.default_rng(0)
    dims = len(processor.contract.action_dims)
    made = []
    for index in range(count):
        steps = []
        for t in range(length):
            text = "reach the red block" if t < 2 else "go"
            actions = rng.normal(0, 0.2, (5, dims))
            actions[:, -1] = rng.integers(0, 2, 5)
            seen = observation(processor.contract, text, 10 * index + t)
            steps.append((seen, actions, np.arange(5) < length - t))
        one = record(f"episode_{index}", steps, processor, None)
        assert one is not None
        made.append(one)
    return made


@pytest.mark.parametrize(("kind", "window", "dims"), COMBINATIONS)
def test_a_policy_trains_is_saved_and_acts_as_before(tmp_path: Path, kind: str, window: int, dims: int) -> None:
    options = FinetuneOptions(
        head=SMALL[kind], steps=2, batch_size=3, chunk_size=5, warmup_steps=1, device="cpu", **history(window)
    )
    vlm, backbone = small_vlm()
    policy = ActionTokenPolicy.from_vlm(vlm, configure(options, vlm.config, arm_contract(dims)))
    apply_switches(policy, options)
    processor = ActionTokenProcessor(policy.config, backbone)
    before = {name: value.clone() for name, value in policy.named_parameters()}
    trained = train(options, policy, processor, recordings(processor), Report("test"))
    learned = {name: value for name, value in policy.named_parameters() if name.startswith("head.")}
    still = [name for name, value in learned.items() if value.equal(before[name])]
    assert still == []
    assert 0 < trained.figures["validation_error"] < 10
    save_policy(tmp_path / "policy", policy, trained.processor)
    engines = PolicyEngine(policy, trained.processor), PolicyEngine.load(tmp_path / "policy")
    for t in range(3):
        seen = at(observation(processor.contract, seed=t), t)
        one, other = (engine.infer(seen).actions for engine in engines)
        assert one.shape == (5, dims)
        assert np.isfinite(one).all()
        assert set(one[:, -1]) <= {0.0, 1.0}
        np.testing.assert_allclose(other, one, atol=1e-6)


def at(seen: Observation, step: int) -> Observation:
    """The same observation at another time."""
    return Observation(
        stamp_ns=10**9 + step * 10**8, images=seen.images, state=seen.state, instruction=seen.instruction
    )


@pytest.mark.parametrize("binary", [0, 1, 4])
@pytest.mark.parametrize("kind", SMALL)
def test_heads_take_any_mixture_of_kinds(kind: str, binary: int) -> None:
    built = head(kind, binary=binary)
    latents, actions = torch.randn(2, 1, 2, 8), torch.rand(2, 1, 5, 4)
    decided = built(latents)
    assert decided.shape == (2, 1, 5, 4)
    assert bool(((decided[..., 4 - binary :] >= 0) & (decided[..., 4 - binary :] <= 1)).all())
    assert built.loss(latents, actions, torch.ones(2, 1, 5)).item() > 0


@pytest.mark.parametrize("kind", SMALL)
def test_what_does_not_count_has_no_influence(kind: str) -> None:
    built = head(kind, window=3 if kind in FUSING else 1)
    latents, actions = torch.randn(2, 3, 2, 8), torch.rand(2, 3, 5, 4)
    valid = torch.ones(2, 3, 5)
    valid[:, :, 3:] = 0
    valid[1, 2] = 0
    changed, other = actions.clone(), latents.clone()
    changed[valid == 0] = 50.0
    other[1, 2] = 50.0
    losses = []
    for given, targets in ((latents, actions), (other, changed)):
        torch.manual_seed(0)
        losses.append(float(built.loss(given, targets, valid).detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.parametrize("kind", FUSING)
def test_a_decision_rests_on_the_past_and_never_on_the_future(kind: str) -> None:
    built = head(kind, window=4)
    latents = torch.randn(1, 4, 2, 8)
    whole = built(latents)
    for length in range(1, 5):
        torch.testing.assert_close(built(latents[:, :length]), whole[:, :length], atol=1e-5, rtol=0)
    changed = latents.clone()
    changed[:, 0] += 1.0
    assert not torch.allclose(built(changed)[:, 3], whole[:, 3], atol=1e-4)


@pytest.mark.parametrize("kind", FUSING)
def test_running_step_by_step_gives_what_the_whole_window_gives(kind: str) -> None:
    policy, processor = small_policy(head=SMALL[kind], **history(3))
    engine = PolicyEngine(policy, processor)
    seen = [at(observation(processor.contract, seed=t), t) for t in range(5)]
    inputs = [processor(one) for one in seen]
    for t in range(5):
        frames = processor.collate(inputs[max(0, t - 2) : t + 1])
        with torch.inference_mode():
            whole = policy(**{key: value[None] for key, value in frames.items()}).actions[0, -1]
        chunk = engine.infer(seen[t])
        np.testing.assert_allclose(chunk.actions, processor.actions(whole, seen[t].state), atol=1e-5)


@pytest.mark.parametrize(("kind", "kept"), [("lstm", "policy_head"), ("mlp", "interleaved")])
def test_memory_ends_with_instruction_episode_and_gap_and_never_holds_what_is_not_a_number(
    kind: str, kept: str
) -> None:
    policy, processor = small_policy(head=SMALL[kind], history=kept, window=3)
    engine = PolicyEngine(policy, processor)

    def seen(step: int, text: str = "go", state: float = 0.1) -> Observation:
        made = observation(processor.contract, text)
        return at(Observation(stamp_ns=0, images=made.images, state=made.state * 0 + state, instruction=text), step)

    def decide(first: Observation | None, last: Observation) -> np.ndarray:
        engine.reset()
        if first is not None:
            engine.infer(first)
        return engine.infer(last).actions

    anew = decide(None, seen(10))
    assert not np.allclose(decide(seen(9, state=0.9), seen(10)), anew, atol=1e-5)
    for first in (
        seen(9, "stop", state=0.9),  # another instruction
        seen(1, state=0.9),  # too long ago
        seen(12, state=0.9),  # time has begun anew
        seen(9, state=float("nan")),
    ):
        np.testing.assert_array_equal(decide(first, seen(10)), anew)
    engine.warm_up()
    assert engine.memory is None


def test_windows_begin_with_the_instruction_and_are_filled_up_without_weight() -> None:
    _, processor = small_policy(head=SMALL["lstm"], **history(3))
    made = recordings(processor, count=1)
    dataset = WindowDataset(made, processor)
    single = WindowDataset(made, small_policy(head=SMALL["mlp"])[1])
    for item, steps in enumerate([(0,), (0, 1), (2,), (2, 3)]):
        window = dataset[item]
        assert window["actions"].shape == (3, 5, 4)
        for place, t in enumerate(steps):
            for key in ("input_ids", "pixel_values", "state", "actions", "valid"):
                assert torch.equal(window[key][place], single[t][key]), key
        assert not window["valid"][len(steps) :].any()


def by_cosine(step: int, count: int) -> float:
    """Share of the signal that `step` + 1 steps of cosine noise leave, by the definition."""
    left = 1.0
    for i in range(step + 1):
        later, now = (np.cos(((i + more) / count + 0.008) / 1.008 * np.pi / 2) ** 2 for more in (1, 0))
        left *= 1 - min(1 - later / now, 0.999)
    return left


@pytest.mark.parametrize("kind", GENERATIVE)
def test_the_loss_of_a_generative_head_is_the_masked_squared_error_of_its_velocity(kind: str) -> None:
    built = head(kind)
    rng = np.random.default_rng(0)
    latents, time = torch.from_numpy(rng.normal(size=(2, 1, 2, 8))).float(), np.array([[0.314], [0.998]])
    chunk, noise = rng.normal(size=(2, 1, 5, 3)), rng.normal(size=(2, 1, 5, 3))
    valid = np.ones((2, 1, 5))
    valid[1, 0, 2:] = 0
    given = [torch.from_numpy(value).float() for value in (chunk, valid, noise, time)]
    loss = built.generative_loss(latents, *given)  # type: ignore[operator]
    errors: list[float] = []
    for b, count in enumerate((5, 2)):
        a, e, moment = chunk[b, 0], noise[b, 0], time[b, 0]
        if kind == "flow":
            x, v = (1 - moment) * e + moment * a, a - e
        else:
            step = int(moment * 100)
            s, moment = by_cosine(step, 100), (step + 1) / 100
            x, v = s**0.5 * a + (1 - s) ** 0.5 * e, s**0.5 * e - (1 - s) ** 0.5 * a
        x[count:] = e[count:]
        inputs = (torch.from_numpy(value).float() for value in (x[None, None], np.array([[moment]])))
        predicted = built.network(*inputs, latents[b : b + 1])[0, 0].detach().numpy()  # type: ignore[operator]
        errors += list((predicted - v)[:count].ravel() ** 2)
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("kind", GENERATIVE)
def test_a_perfect_velocity_leads_to_the_chunk_from_any_noise(kind: str, steps: int) -> None:
    built = head(kind, 3, binary=0, steps=steps)
    chunk = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))

    class Perfect(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, time: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            if kind == "flow":
                return (chunk - noisy) / (1 - time[..., None, None])
            s = torch.tensor(by_cosine(round(float(time[0, 0]) * 100) - 1, 100), dtype=torch.float32)
            noise = (noisy - s.sqrt() * chunk) / (1 - s).sqrt()
            return s.sqrt() * noise - (1 - s).sqrt() * chunk

    built.network = Perfect()
    found = built.generate(torch.zeros(2, 1, 2, 8), torch.randn(2, 1, 5, 3))  # type: ignore[operator]
    torch.testing.assert_close(found, chunk.expand(2, 1, 5, 3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", SMALL)
def test_half_precision_serves_in_the_backbone_alone_and_in_all_parts(kind: str) -> None:
    policy, processor = small_policy(head=SMALL[kind])
    inputs = processor.collate([processor(observation(processor.contract))])
    full = policy(**inputs).actions
    policy.vlm.bfloat16()
    loss = policy(**inputs, actions=torch.full((1, 5, 4), 0.5)).loss
    loss.backward()
    assert policy.head.state_dict().keys() == {name for name, p in policy.head.named_parameters() if p.grad is not None}
    for part in (policy.vlm, policy):
        part.bfloat16()
        torch.testing.assert_close(policy(**inputs).actions.float(), full, atol=0.1, rtol=0)


def test_diffusion_runs_by_the_steps_of_ddim() -> None:
    built = head("diffusion", 3, binary=0, steps=4).double()
    latents, noise = torch.randn(2, 1, 2, 8).double(), torch.randn(2, 1, 5, 3).double()
    x = noise
    with torch.inference_mode():
        for step, following in ((99, 74), (74, 49), (49, 24), (24, None)):
            s, later = by_cosine(step, 100), 1.0 if following is None else by_cosine(following, 100)
            velocity = built.network(x, torch.full((2, 1), (step + 1) / 100).double(), latents)  # type: ignore[operator]
            e = s**0.5 * velocity + (1 - s) ** 0.5 * x
            x = later**0.5 * (x - (1 - s) ** 0.5 * e) / s**0.5 + (1 - later) ** 0.5 * e  # eq. 12, sigma = 0
        torch.testing.assert_close(built.generate(latents, noise), x, atol=1e-5, rtol=0)  # type: ignore[operator]


def test_generative_heads_keep_two_ways_apart_where_regression_goes_between() -> None:
    torch.manual_seed(0)
    latents = torch.randn(1, 1, 2, 8).expand(256, -1, -1, -1)
    actions = torch.ones(256, 1, 5, 3)
    actions[::2] = -1.0
    ends: dict[str, torch.Tensor] = {}
    for kind, options in (("mlp", {"loss": "mse"}), *((kind, {"width": 48, "draws": 1}) for kind in GENERATIVE)):
        built = head(kind, 3, binary=0, **options)  # type: ignore[arg-type]
        optimizer = torch.optim.Adam(built.parameters(), lr=3e-3)
        for _ in range(300):
            optimizer.zero_grad()
            built.loss(latents, actions, torch.ones(256, 1, 5)).backward()
            optimizer.step()
        with torch.inference_mode():
            if kind == "mlp":
                ends[kind] = built(latents[:1])
            else:
                ends[kind] = built.generate(latents[:64], torch.randn(64, 1, 5, 3))  # type: ignore[operator]
                assert built(latents[:1]).equal(built(latents[:1]))
    assert float(ends["mlp"].abs().max()) < 0.3
    for kind in GENERATIVE:
        assert float((ends[kind].abs() - 1).abs().mean()) < 0.2, kind
        share = float((ends[kind].mean((1, 2, 3)) > 0).float().mean())
        assert 0.2 < share < 0.8, kind


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"history": "policy_head", "window": 3}, "head 'mlp' looks at one observation, but window is 3"),
        ({"window": 3}, "history 'one_step' has a window of 1, not 3"),
        ({"history": "sometimes"}, "history 'sometimes' is not one of: one_step, policy_head"),
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"head": {"type": "gpt", "width": 10}}, "width 10 must be a multiple of heads 4"),
        ({"head": {"type": "flow", "steps": 0}}, "steps must be at least 1, not 0"),
        ({"head": {"type": "diffusion", "steps": 200}}, "noise_steps must be at least its steps, 200, not 100"),
        ({"head": {"type": "lstm", "depth": 0}}, "depth must be at least 1, not 0"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_built(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small_policy(**settings)


def test_new_weights_depend_on_the_seed_alone() -> None:
    options = FinetuneOptions(
        head=SMALL["gpt"], steps=1, batch_size=2, chunk_size=5, learning_rate=1e-30, device="cpu", **history(2)
    )
    found = []
    for drawn in (1, 2):
        vlm, backbone = small_vlm()
        torch.manual_seed(drawn)
        policy = ActionTokenPolicy.from_vlm(vlm, configure(options, vlm.config, arm_contract(4)))
        processor = ActionTokenProcessor(policy.config, backbone)
        made = recordings(processor)
        train(options, policy, set_statistics(options, processor, made), made, Report("test"))
        found.append(policy.head.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
