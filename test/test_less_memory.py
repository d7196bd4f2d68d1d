"""What makes large models fit: layers that are computed again, mixed precision, and the shipped configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import FinetuneOptions, finetune
from robovlm_ros.training.loop import checkpoint_activations
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import Switches, apply_switches

from .families import save_family
from .makers import observation
from .runs import make_base, make_episodes, small_run
from .test_bags import CONTRACT
from .test_options import finetune_options
from .test_vlm_families import policy_of

SWITCHES = {
    "all": Switches(train_vision=True),
    "adapters": Switches(train_vision=True, lora_rank=2, lora_dropout=0.3),
    "new parts alone": Switches(freeze_backbone=True),
    "last layer": Switches(train_decoder_layers=1, train_vision=True),
}


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("family", ["paligemma", "smolvlm"])
def test_layers_that_are_computed_again_keep_less_and_give_the_same_gradients(
    family: str, switches: str, tmp_path: Path
) -> None:
    save_family(family, tmp_path)
    found: list[tuple[dict[str, torch.Tensor], int, int]] = []
    for again in (False, True):
        policy, processor = policy_of(tmp_path)
        apply_switches(policy, SWITCHES[switches])
        if again:
            checkpoint_activations(policy)
        inputs = processor.collate([processor(observation(processor.contract, seed=seed)) for seed in range(8)])
        weights = {value.untyped_storage().data_ptr() for value in policy.state_dict().values()}
        kept: dict[int, int] = {}
        runs: list[int] = []
        policy.backbone.decoder_layers[0].mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept, weights: set[int] = weights) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        policy.train()
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = policy(**inputs, actions=torch.full((8, 5, 4), 0.5)).loss
        total = sum(kept.values())
        loss.backward()
        found.append(({n: p.grad for n, p in policy.named_parameters() if p.grad is not None}, total, len(runs)))
    (plain, most, once), (gradients, least, twice) = found
    assert (once, twice) == (1, 2)
    assert least < 0.6 * most
    assert gradients.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_mixed_precision_computes_in_halves_and_learns_in_whole(tmp_path: Path) -> None:
    make_base(tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    seen: dict[str, set[torch.dtype]] = {}

    def spy(module: torch.nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Linear) and module.training:
            seen.setdefault(precision, set()).add(output.dtype)

    losses = {}
    for precision in ("float32", "bfloat16"):
        report = Report("test", every=1)
        hook = torch.nn.modules.module.register_module_forward_hook(spy)
        try:
            trained = small_run(tmp_path, precision, report, precision=precision, accumulate=2)
        finally:
            hook.remove()
        assert {value.dtype for value in trained.policy.parameters()} == {torch.float32}
        losses[precision] = [entry["loss"] for entry in report.log]
    assert seen == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
    with pytest.raises(UserError, match=r"learns in float32, but vlm\..* are in half precision: set dtype float32"):
        small_run(tmp_path, "halves", precision="bfloat16", dtype="bfloat16")


def test_the_norm_of_all_gradients_together_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_base(tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def measured(self: torch.optim.AdamW, *arguments: Any, **more: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        return step(self, *arguments, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured)
    for clip in (1e6, 0.01):
        small_run(tmp_path, f"clip_{clip}", clip=clip, accumulate=2, alignment_weight=1.0, steps=3)
    assert min(norms[:3]) > 0.02
    assert norms[3:] == pytest.approx([0.01] * 3, rel=1e-3)


@pytest.mark.parametrize("name", ["tabletop", "lora", "full"])
def test_each_shipped_configuration_trains_a_tiny_paligemma(name: str, tmp_path: Path) -> None:
    save_family("paligemma", tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    flags = ["--config", name, "--steps", 2, "--batch-size", 4, "--device", "cpu", "--warmup-steps", 0]
    if name == "tabletop":
        flags += ["--prompt", "{images}{instruction}"]  # words of its own vocabulary
    trained = finetune(
        finetune_options(*flags), tmp_path / "episodes", str(tmp_path / "vlm"), Report("t"), tmp_path / "p"
    )
    learned = {row["part"] for row in trained.figures["trainable"] if row["trained"]}
    assert {"text tower", "policy head", "action tokens"} <= learned
    assert ("vision tower" in learned) == (name == "full")
    if name != "tabletop":
        chunk = PolicyEngine.load(tmp_path / "p" / "checkpoints" / "step_2").infer(observation(CONTRACT))
        assert chunk.actions.shape == (10, 4)


def test_event_files_hold_what_the_log_holds(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from robovlm_ros.training.curves import event_writer

    report = Report("test", every=1)
    report.listeners.append(event_writer(tmp_path / "tensorboard"))
    make_base(tmp_path / "vlm")
    make_episodes(tmp_path / "episodes")
    small_run(tmp_path, "policy", report, steps=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) >= {"loss", "learning_rate", "validation_error"}
    written = [(event.step, event.value) for event in events.Scalars("loss")]
    assert written == [(entry["step"], pytest.approx(entry["loss"], rel=1e-6)) for entry in report.log]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"accumulate": 3}, "batch_size 64 cannot be computed in 3 parts that are alike"),
        ({"precision": "float16"}, "precision 'float16' is not one of: float32, bfloat16"),
        ({"save_every": -1}, "save_every must be at least 0, not -1"),
        ({"evaluate_episodes": 0}, "evaluate_episodes must be at least 1, not 0"),
        ({"evaluate_flags": "--task 'push"}, "evaluate_flags cannot be split into flags"),
    ],
)
def test_options_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FinetuneOptions(**settings)
