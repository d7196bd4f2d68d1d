"""Training images that vary: how far, how exactly, and where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from robovlm_ros.errors import UserError
from robovlm_ros.training.augmentation import Augmentation, Augmenter, Change, change_image
from robovlm_ros.training.finetuning import FinetuneOptions, configure, finetune
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.windows import Recording, WindowDataset, record
from robovlm_ros.vlm.checkpoint import save_vlm
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .makers import arm_contract, observation, small_policy, small_vlm
from .test_bags import episode_messages
from .test_bags import record as record_bag

STRONG = Augmentation(augment_shift=(10, 4), augment_crop=0.9, augment_colour=0.2)


def smooth_image(height: int = 40, width: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image of moderate colours without noise."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    channels = [90 + 60 * np.sin(rows / 9), 110 + 50 * np.cos(columns / 7), 100 + 40 * np.sin((rows + columns) / 11)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def test_no_change_is_none() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(change_image(image, Change()), image)


@pytest.mark.parametrize(("down", "right"), [(3, -5), (-2, 7), (0, 0)])
def test_a_shift_moves_every_pixel_and_repeats_the_edge(down: int, right: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    moved = change_image(image, Change(shift=(down, right)))
    for y in range(20):
        for x in range(30):
            assert (moved[y, x] == image[min(max(y - down, 0), 19), min(max(x - right, 0), 29)]).all()


@pytest.mark.parametrize(("top", "left"), [(0.0, 0.0), (1.0, 0.5), (0.5, 1.0)])
def test_a_crop_is_the_part_scaled_up_as_pillow_does_it(top: float, left: float) -> None:
    image = smooth_image()
    changed = change_image(image, Change(crop=(top, left, 0.75)))
    y, x = round(top * 10), round(left * 12)
    part = Image.fromarray(image[y : y + 30, x : x + 36])
    expected = np.asarray(part.resize((48, 40), Image.Resampling.BILINEAR))
    assert np.abs(changed.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("factor", [0.8, 1.3])
@pytest.mark.parametrize(
    ("what", "pillow"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_colours_change_as_pillow_changes_them(what: str, pillow: Any, factor: float) -> None:
    image = smooth_image()
    changed = change_image(image, Change(**{what: factor}))
    expected = np.asarray(pillow(Image.fromarray(image)).enhance(factor))
    assert np.abs(changed.astype(int) - image).max() > 5
    assert np.abs(changed.astype(int) - expected).max() <= 2


def test_draws_follow_the_seed_and_stay_within_their_bounds() -> None:
    draws = [[one.draw() for _ in range(300)] for one in (Augmenter(STRONG, 2, seed) for seed in (0, 0, 1))]
    assert draws[0] == draws[1] != draws[2]
    for camera, bound in enumerate((10, 4)):
        changes = [draw[camera] for draw in draws[0]]
        shifts = np.array([change.shift for change in changes])
        assert (shifts.min(), shifts.max()) == (-bound, bound)
        for name in ("brightness", "contrast", "saturation"):
            factors = [getattr(change, name) for change in changes]
            assert 0.8 <= min(factors) < 0.82
            assert 1.18 < max(factors) <= 1.2
        assert {change.crop[2] for change in changes} == {0.9}


def recordings(processor: ActionTokenProcessor, *, raw: bool) -> list[Recording]:
    """One episode of three observations."""
    steps = [(observation(processor.contract, "go", t), np.zeros((5, 4)), np.ones(5, bool)) for t in range(3)]
    made = record("one", steps, processor, None, raw=raw)
    assert made is not None
    return [made]


def test_kept_images_give_what_their_tensors_would_and_vary_only_where_asked() -> None:
    _, processor = small_policy(cameras=["front", "side"])
    plain, kept = (WindowDataset(recordings(processor, raw=raw), processor) for raw in (False, True))
    for item in range(3):
        expected, found = plain[item], kept[item]
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    varied = WindowDataset(recordings(processor, raw=True), processor, Augmenter(STRONG, 2, 0))
    first, second = varied[0], varied[0]
    for other in (plain[0], second):
        assert not torch.equal(first["pixel_values"], other["pixel_values"])
        assert all(torch.equal(first[key], other[key]) for key in first if key != "pixel_values")


def test_the_images_of_one_window_change_alike() -> None:
    _, processor = small_policy(cameras=["front", "side"], history="policy_head", window=3, head={"type": "lstm"})
    steps = [(observation(processor.contract, "go", 0), np.zeros((5, 4)), np.ones(5, bool))] * 3
    made = record("one", steps, processor, None, raw=True)
    assert made is not None
    images = WindowDataset([made], processor, Augmenter(STRONG, 2, 0))[2]["pixel_values"]  # (W, cameras, 3, H, W)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_finetune_varies_training_images_in_the_same_way_for_the_same_seed_and_never_others(tmp_path: Path) -> None:
    save_vlm(tmp_path / "vlm", *small_vlm())
    for index in range(2):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))
    runs = []
    for shift in (20, 20, 0):
        options = FinetuneOptions(
            augment_shift=(shift,), cache_features=False, steps=1, batch_size=4, chunk_size=3, warmup_steps=0,
            learning_rate=1e-7, validation_share=0.5, device="cpu",
        )  # fmt: skip
        runs.append(finetune(options, tmp_path / "episodes", str(tmp_path / "vlm"), Report("test")))
    first, second, plain = (run.policy.state_dict() for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["action_token"], plain["action_token"])
    # so small a step changes hardly anything: the error on the same images is the same
    assert runs[0].figures["validation_error"] == pytest.approx(runs[2].figures["validation_error"], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment_shift": (4,)}, "set cache_features false"),
        ({"augment_crop": 0.9, "freeze_backbone": True}, "set cache_features false"),
        ({"augment_shift": (-1,)}, "augment_shift must be at least 0 px, not -1"),
        ({"augment_crop": 0.0}, "augment_crop must be above 0 and at most 1, not 0"),
        ({"augment_colour": 1.0}, "augment_colour must be at least 0 and less than 1, not 1"),
        ({"augment_shift": (4, 2, 1), "cache_features": False}, "names 3 cameras, but the policy looks at 1"),
    ],
)
def test_what_cannot_vary_is_refused_when_it_is_asked_for(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configure(FinetuneOptions(**settings), small_vlm()[0].config, arm_contract(4))
