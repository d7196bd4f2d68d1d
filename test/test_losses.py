"""Losses of policy heads: against torch's own, and with no gradient where nothing counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.heads import HEADS, build_head, head_options
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.losses import chunk_loss

SMALL: dict[str, dict[str, Any]] = {
    "gpt": {"width": 16, "depth": 1, "heads": 2},
    "lstm": {"width": 16},
    "flow": {"width": 16},
    "diffusion": {"width": 16},
    "discrete": {"bins": 8},
}


@pytest.mark.parametrize(
    ("kind", "delta", "known"),
    [
        ("mse", 1.0, nn.MSELoss()),
        ("l1", 1.0, nn.L1Loss()),
        ("huber", 1.0, nn.HuberLoss()),
        ("huber", 0.2, nn.HuberLoss(delta=0.2)),
    ],
)
def test_errors_are_those_of_torch_over_what_counts(kind: str, delta: float, known: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, actions = (torch.randn(4, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    actions[..., 1] = (actions[..., 1] > 0).double()
    predicted.requires_grad_()
    binary = torch.tensor([False, True, False])
    valid = (torch.rand(4, 5, generator=generator) > 0.4).double()
    counts = valid > 0
    loss = chunk_loss(predicted, actions, valid, binary, kind=kind, binary_weight=0.3, huber_delta=delta)
    expected = known(predicted[counts][:, ~binary], actions[counts][:, ~binary])
    expected = expected + 0.3 * nn.BCEWithLogitsLoss()(predicted[counts][:, binary], actions[counts][:, binary])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    gradient = predicted.grad
    assert gradient is not None
    assert not gradient[~counts].any()
    assert gradient[counts].all()


@pytest.mark.parametrize("kind", HEADS)
def test_steps_and_observations_that_do_not_count_have_no_gradient_at_all(kind: str) -> None:
    window = 3 if HEADS[kind][0].fuses_history else 1
    chunk, dims = 5, 4
    shape = HeadShape(
        hidden_size=8, latent_num=chunk * dims if kind == "discrete" else 2, chunk_size=chunk, window=window,
        binary=(False,) * (dims - 1) + (True,),
    )  # fmt: skip
    torch.manual_seed(0)
    head = build_head(shape, {"type": kind, **SMALL.get(kind, {})})
    said: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        said.append(output)

    for name in ("layers", "network", "decide", "logits"):  # what says values of a chunk, in any head
        if isinstance(part := getattr(head, name, None), nn.Module):
            part.register_forward_hook(keep)
    latents = torch.randn(3, window, shape.latent_num, 8, requires_grad=True)
    actions = torch.rand(3, window, chunk, dims)
    valid = torch.ones(3, window, chunk)
    valid[0, :, 3:] = 0
    valid[1, -1] = 0
    valid[2] = 0
    head.loss(latents, actions, valid).backward()
    assert said
    for output in said:
        assert output.grad is not None
        draws = len(output) // len(valid)
        gradient = output.grad.reshape(draws, *valid.shape, -1)  # (draws, B, W, C, values)
        assert not gradient[:, valid == 0].any()
        assert gradient[:, valid == 1].any(-1).all()
    assert latents.grad is not None
    assert not latents.grad[2].any()
    assert not latents.grad[1, -1].any()
    assert latents.grad[0].flatten(1).any(1).all()


def test_a_batch_in_which_nothing_counts_has_a_loss_of_zero() -> None:
    predicted = torch.randn(2, 5, 3, requires_grad=True)
    loss = chunk_loss(
        predicted, torch.rand(2, 5, 3), torch.zeros(2, 5), torch.tensor([False, False, True]),
        kind="l1", binary_weight=1.0,
    )  # fmt: skip
    loss.backward()
    assert loss.item() == 0.0
    assert predicted.grad is not None
    assert not predicted.grad.any()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"type": "mlp", "loss": "l2"}, "the head's loss 'l2' is not one of: mse, l1, huber"),
        ({"type": "lstm", "huber_delta": 0.0}, "huber_delta must be above 0, not 0"),
        ({"type": "gpt", "binary_weight": -1.0}, "binary_weight must be at least 0, not -1"),
        ({"type": "flow", "binary_weight": float("nan")}, "binary_weight must be at least 0, not nan"),
        ({"type": "mlp", "hidden": [0]}, r"hidden widths must be at least 1, not \[0\]"),
    ],
)
def test_losses_that_there_are_not_are_refused_when_the_options_are_read(head: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        head_options(head)
