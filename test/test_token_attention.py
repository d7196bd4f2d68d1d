"""Where action tokens look: attention of the real forward, and where image tokens lie in a camera's image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.attention import attend, image_grids
from robovlm_ros.vlm.grid import square_side

from .families import FAMILIES, save_family
from .makers import observation, small_policy
from .test_vlm_families import CONTRACT, TEXTS, policy_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder for each family, made once."""
    root = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        save_family(name, root / name)
    return {name: root / name for name in FAMILIES}


APART = ("idefics", "florence2")
"""Families whose action tokens are not in one sequence with image tokens."""
NO_PLACE = ("kosmos-2", *APART)
"""Families whose image tokens have no place in the image, or none in the sequence."""


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in APART])
def test_attention_is_that_of_the_ordinary_forward_in_every_family(folders: dict[str, Path], name: str) -> None:
    policy, processor = policy_of(folders[name])
    inputs = processor.collate([processor(observation(CONTRACT, text, seed)) for seed, text in enumerate(TEXTS)])
    used = [module.config._attn_implementation for module in policy.modules() if hasattr(module, "config")]
    with torch.inference_mode():
        plain = policy(**inputs)
    seen = attend(policy, inputs)
    torch.testing.assert_close(seen.output.latents, plain.latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.output.actions, plain.actions, atol=1e-5, rtol=0)
    batch, layers, heads, slots, length = seen.weights.shape
    assert (batch, layers, heads, slots) == (3, 2, 2, 2)
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(batch, layers, heads, slots), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.rollout.sum(-1), torch.ones(batch, slots), atol=1e-5, rtol=0)
    torch.testing.assert_close(sum(seen.shares(seen.rollout).values()), torch.ones(batch, slots), atol=1e-5, rtol=0)
    for sample in range(batch):
        for slot, position in enumerate(seen.positions[sample]):
            row = seen.weights[sample, :, :, slot]  # (layers, heads, L)
            assert float(row[..., position + 1 :].abs().sum()) == 0.0, "neither later slots nor padding"
            assert float(seen.rollout[sample, slot, position + 1 :].abs().sum()) == 0.0
            assert float(row[..., : position + 1].abs().sum()) > 0.99 * layers * heads
    # alone, without padding, a sample's tokens look the same
    alone = attend(policy, processor.collate([processor(observation(CONTRACT, TEXTS[1], 1))]))
    short = alone.weights.shape[-1]
    assert short < length
    torch.testing.assert_close(seen.weights[1:2, ..., :short], alone.weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.rollout[1:2, ..., :short], alone.rollout, atol=1e-5, rtol=0)
    # and the policy is as it was
    assert [module.config._attn_implementation for module in policy.modules() if hasattr(module, "config")] == used
    with torch.inference_mode():
        torch.testing.assert_close(policy(**inputs).actions, plain.actions, atol=0, rtol=0)


@pytest.mark.parametrize("cameras", [("front",), ("side", "front")])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NO_PLACE])
def test_what_changes_in_a_cell_of_the_image_changes_its_token(
    folders: dict[str, Path], name: str, cameras: tuple[str, ...]
) -> None:
    policy, processor = policy_of(folders[name], cameras)
    for part, weight in policy.backbone.vision.named_parameters():
        if any(word in part for word in ("out_proj", "attn.proj", "projection_layer")):
            torch.nn.init.zeros_(weight)  # without attention, a token of the vision tower knows its own patch alone
    seen = observation(CONTRACT)
    images = seen.images
    shapes = [images[camera].shape for camera in cameras]
    prompt = processor.prompt(seen.instruction, shapes)
    grids = image_grids(policy, processor.backbone, processor(seen), shapes)

    def features(changed: dict[str, NDArray[np.uint8]]) -> torch.Tensor:
        inputs = processor.collate([{**processor.images([changed[camera] for camera in cameras]), **prompt}])
        keys = [key for key in processor.family.image_keys if key in inputs]
        with torch.inference_mode():
            return policy.image_embeddings(**{key: inputs[key] for key in keys})[0]

    base = features(dict(images))  # (N, D)
    assert len(grids) == len(cameras)
    for camera, grid in zip(cameras, grids, strict=True):
        assert grid.rows * grid.columns > 1
        height, width = images[camera].shape[:2]
        left, top, right, bottom = grid.box
        for row, column, inside in itertools.product(range(grid.rows), range(grid.columns), (0.25, 0.75)):
            x = (left + (right - left) * (column + inside) / grid.columns) * width
            y = (top + (bottom - top) * (row + inside) / grid.rows) * height
            changed = {**images, camera: images[camera].copy()}
            changed[camera][max(0, int(y) - 1) : int(y) + 1, max(0, int(x) - 1) : int(x) + 1] ^= 128
            moved = (features(changed) - base).norm(dim=-1)[grid.tokens]  # (rows * columns,)
            if 0 < x < width and 0 < y < height:  # else in the margin that a processor put around the image
                expected = torch.zeros(grid.rows * grid.columns, dtype=torch.bool)
                expected[row * grid.columns + column] = True
                assert torch.equal(moved > 0.5 * moved.max(), expected), (camera, row, column, moved)


@pytest.mark.parametrize("latent_num", [1, 2])
def test_weights_and_rollout_are_made_of_what_transformers_itself_reports(latent_num: int) -> None:
    policy, processor = small_policy(latent_num=latent_num)
    inputs = processor.collate([processor(observation(processor.contract))])
    seen = attend(policy, inputs)
    text = policy.vlm.model.text_model
    embeddings = []
    handle = text.register_forward_pre_hook(lambda _m, _a, given: embeddings.append(given), with_kwargs=True)
    with torch.inference_mode():
        policy(**inputs)
        handle.remove()
        text.set_attn_implementation("eager")
        given = {key: embeddings[0][key] for key in ("inputs_embeds", "attention_mask", "position_ids")}
        layers = text(**given, output_attentions=True, use_cache=False).attentions
    own = torch.stack([layer[0] for layer in layers])  # (layers, heads, L, L)
    torch.testing.assert_close(seen.weights[0], own[:, :, -latent_num:], atol=1e-6, rtol=0)
    rollout = np.eye(own.shape[-1])
    for matrix in own.mean(1).double().numpy():
        rollout = (0.5 * matrix + 0.5 * np.eye(len(matrix))) @ rollout
    np.testing.assert_allclose(seen.rollout[0].numpy(), rollout[-latent_num:], atol=1e-6)
    shares = seen.shares(seen.rollout)
    np.testing.assert_allclose(shares["action tokens"][0], rollout[-latent_num:, -latent_num:].sum(1), atol=1e-6)
    np.testing.assert_allclose(shares["state token"][0], rollout[-latent_num:, -latent_num - 1], atol=1e-6)


def test_an_answer_behind_the_action_tokens_is_not_taken_for_attention() -> None:
    policy, processor = small_policy(head={"type": "discrete", "bins": 16, "decoding": "autoregressive"})
    items = [processor(observation(processor.contract, text, seed)) for seed, text in enumerate(TEXTS)]
    inputs = processor.collate(items[:1])
    with torch.inference_mode():
        plain = policy(**inputs)
    seen = attend(policy, inputs)
    torch.testing.assert_close(seen.output.actions, plain.actions, atol=1e-5, rtol=0)
    assert seen.weights.shape[-1] == inputs["input_ids"].shape[1] + 2  # with state token and action token
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(1, 2, 2, 1), atol=1e-5, rtol=0)
    padded = processor.collate(items)
    with pytest.raises(UserError, match="without padding"):
        attend(policy, padded)


def test_attention_and_places_that_do_not_exist_are_refused_with_the_reason(folders: dict[str, Path]) -> None:
    policy, processor = policy_of(folders["kosmos-2"])
    seen = observation(CONTRACT)
    with pytest.raises(UserError, match="have no place in the image"):
        image_grids(policy, processor.backbone, processor(seen), [image.shape for image in seen.images.values()])
    for name in APART:
        policy, processor = policy_of(folders[name])
        with pytest.raises(UserError, match=f"'{name}' are not in one sequence with the image tokens"):
            attend(policy, processor.collate([processor(seen)]))
    with pytest.raises(UserError, match=r"10 image tokens of a camera .* is not known .*'new': they are no square"):
        square_side(10, "new")
