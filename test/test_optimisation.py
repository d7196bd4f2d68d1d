"""The optimiser: which weights learn at which rate, and options that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robovlm_ros.errors import UserError
from robovlm_ros.training.finetuning import FinetuneOptions
from robovlm_ros.training.optimisation import build_optimizer
from robovlm_ros.training.pretraining import PretrainOptions
from robovlm_ros.training.reporting import Report, quiet_trainer
from robovlm_ros.training.switches import apply_switches

from .makers import small_policy


def rates(**settings: Any) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of each weight that learns, by its name."""
    options = FinetuneOptions(learning_rate=1e-3, weight_decay=0.1, **settings)
    policy, _ = small_policy()
    apply_switches(policy, options)
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    found = {}
    for group in build_optimizer(policy, options).param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found.keys() == {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    return found


@pytest.mark.parametrize(
    ("settings", "token", "head"),
    [
        ({}, 2.0, 2.0),
        ({"new_rate": 5.0}, 5.0, 5.0),
        ({"token_rate": 0.5}, 0.5, 2.0),
        ({"new_rate": 3.0, "token_rate": 7.0, "head_rate": 11.0}, 7.0, 11.0),
        ({"token_rate": 7.0, "lora_rank": 2}, 7.0, 2.0),
    ],
)
def test_backbone_token_and_head_learn_at_rates_of_their_own(settings: Any, token: float, head: float) -> None:
    found = rates(**settings)
    multiple = {"vlm": 1.0, "action_token": token, "state_token": token, "head": head}
    assert {name.split(".")[0] for name in found} == set(multiple)
    for name, (rate, decay) in found.items():
        assert rate == pytest.approx(1e-3 * multiple[name.split(".")[0]]), name
        vector = name == "action_token" or name.endswith("bias") or "norm" in name
        assert decay == (0.0 if vector else 0.1), name


@pytest.mark.parametrize(
    ("schedule", "share"), [("cosine", [0.5, 1.0, 0.75, 0.25]), ("constant", [0.5, 1.0, 1.0, 1.0])]
)
def test_the_rate_warms_up_and_then_follows_the_schedule(schedule: str, share: list[float]) -> None:
    from transformers import Trainer

    options = FinetuneOptions(steps=5, warmup_steps=2, schedule=schedule, learning_rate=0.1, device="cpu")
    policy, _ = small_policy()
    optimizer = build_optimizer(policy, options)
    trainer = quiet_trainer(
        Trainer, model=policy, dataset=[0], collator=None, options=options, report=Report("test"),
        optimizer=optimizer, device="cpu",
    )  # fmt: skip
    scheduler = trainer.create_scheduler(num_training_steps=options.steps, optimizer=optimizer)
    seen = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    for group, start in enumerate(scheduler.base_lrs):
        assert [step[group] / start for step in seen] == pytest.approx(share)
    assert torch.tensor(scheduler.base_lrs).max() == pytest.approx(0.2)


@pytest.mark.parametrize("options", [FinetuneOptions, PretrainOptions])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, not 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, not nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be a number above 0, not inf"),
        ({"clip": 0.0}, "clip must be a number above 0, not 0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, not -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
        ({"schedule": "step"}, "schedule 'step' is not one of: cosine, constant"),
    ],
)
def test_options_that_cannot_train_are_refused_in_both_stages(options: Any, settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}$"):
        options(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"new_rate": 0.0}, "new_rate must be a number above 0"),
        ({"token_rate": -1.0}, "token_rate must be a number above 0"),
        ({"head_rate": float("inf")}, "head_rate must be a number above 0"),
        ({"state_normalisation": "limits"}, "state_normalisation 'limits' is not one of: quantile"),
        ({"action_normalisation": "log"}, "action_normalisation 'log' is not one of: quantile"),
    ],
)
def test_options_of_a_policy_that_cannot_work_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        FinetuneOptions(**settings)
