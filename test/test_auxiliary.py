"""Losses beside that of the policy head: alignment with the instruction, and vision-language co-training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robovlm_ros.cli import pretrain as pretrain_command
from robovlm_ros.errors import UserError
from robovlm_ros.training.alignment import Alignment, contrast
from robovlm_ros.training.auxiliary import Auxiliary
from robovlm_ros.training.cotraining import Cotraining, Exchange, export_questions, read_exchanges
from robovlm_ros.training.finetuning import FinetuneOptions, train
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import Switches, apply_switches
from robovlm_ros.training.windows import Recording
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor

from .families import FAMILIES, save_family
from .makers import observation, small_policy
from .test_training import SHORT, ask, fresh, recordings, scenes
from .test_vlm_families import own_inputs, policy_of


def by_hand(actions: np.ndarray, texts: np.ndarray, said: list[str], sharpness: float) -> float:
    """The contrastive loss by its definition, in loops."""
    u, v = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (actions, texts))
    losses = []
    for i in range(len(said)):
        others = [j for j in range(len(said)) if j == i or said[j] != said[i]]
        s = sharpness * float(u[i] @ v[i])
        to_texts = np.log(sum(np.exp(sharpness * float(u[i] @ v[j])) for j in others))
        to_actions = np.log(sum(np.exp(sharpness * float(u[j] @ v[i])) for j in others))
        losses.append(-0.5 * ((s - to_texts) + (s - to_actions)))
    return float(np.mean(losses))


@pytest.mark.parametrize("said", [["a", "b", "c", "d"], ["a", "b", "a", "a"], ["a", "a", "a", "a"]])
def test_the_contrast_is_that_of_clip_and_the_same_instruction_is_no_negative(said: list[str]) -> None:
    rng = np.random.default_rng(0)
    actions, texts = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    same = torch.tensor(["abcd".index(text) for text in said])
    given = [torch.from_numpy(side).requires_grad_() for side in (actions, texts)]
    loss = contrast(*given, same, torch.tensor(5.0))
    assert loss.item() == pytest.approx(by_hand(actions, texts, said, 5.0), abs=1e-12)
    loss.backward()
    assert torch.isfinite(given[0].grad).all()  # type: ignore[arg-type]
    assert bool(given[0].grad.any()) == (len(set(said)) > 1)  # type: ignore[union-attr]
    assert (len(set(said)) > 1) == (loss.item() > 0)


def test_an_instruction_is_the_mean_of_its_words_and_observations_without_target_do_not_count() -> None:
    policy, processor = small_policy()
    alignment = Alignment(policy, processor.backbone, seed=0)
    ids = processor.backbone.tokenizer("reach the red block", add_special_tokens=False)["input_ids"]
    weight = policy.backbone.text_embedding.weight
    assert len(ids) == 4
    torch.testing.assert_close(alignment.words("reach the red block"), weight[ids].mean(0))
    with torch.no_grad():
        weight.zero_()  # training the embedding moves the target no more
    assert alignment.words("reach the red block").any()
    said = ["reach the red block", "go"]
    latents = torch.randn(2, 3, 2, 32)
    valid = torch.ones(2, 3, 5)
    valid[1, 2] = 0
    latents[1, 2] = float("nan")
    latents.requires_grad_()
    loss = alignment(latents, said, valid)
    alone = torch.stack([latents[0].mean((0, 1)), latents[1, :2].mean((0, 1))])[:, None].detach()
    torch.testing.assert_close(loss, alignment(alone, said))
    loss.backward()
    assert not latents.grad[1, 2].any()  # type: ignore[index]
    assert latents.grad[1, :2].any()  # type: ignore[index]


def told_apart(processor: ActionTokenProcessor) -> list[Recording]:
    """Recordings with an instruction each."""
    made = recordings(processor)
    for recording, text in zip(made, ("reach the red block", "go", "stop"), strict=True):
        recording.instructions[:] = [text] * len(recording)
    return made


def test_alignment_trains_tokens_and_its_own_projections_and_leaves_no_trace_in_the_policy() -> None:
    options = FinetuneOptions(alignment_weight=0.5, **{**SHORT, "steps": 8})
    policy, processor = fresh(options)
    names = set(policy.state_dict())
    trained = train(options, policy, processor, told_apart(processor), Report("test"))
    assert set(policy.state_dict()) == names
    assert 0 < trained.figures["alignment_loss"] < 10
    beside = Auxiliary(policy, processor, options, 0, lambda item: ("go", "stop")[item])
    inputs = processor.collate([processor(observation(processor.contract, text, 1)) for text in ("go", "stop")])
    actions = torch.full((2, 5, 4), 0.5)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=3e-3)
    beside.join(optimizer, options)
    assert [len(group["params"]) for group in optimizer.param_groups][1:] == [3]  # two projections, a temperature
    losses = []
    for _ in range(15):
        output = policy(**inputs, actions=actions)
        loss = beside.loss(output, torch.tensor([0, 1]), None)
        losses.append(float((loss - output.loss).detach()) / 0.5)
        assert beside.figures() == {"alignment_loss": pytest.approx(losses[-1], rel=1e-3, abs=1e-5)}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


EXCHANGES = [
    ("where is the red block ?", "left"),
    ("is there a green block ?", "no"),
    ("what color is the block at the left ?", "red and blue"),
]


def exchanges(folder: Path, side: int = 48) -> list[Exchange]:
    """Three questions about three images, written and read as a user's are."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, (question, answer) in enumerate(EXCHANGES):
        name = f"images/{number}.png"
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / name)
        lines.append(json.dumps({"image": name, "question": question, "answer": answer}))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n\n")
    return read_exchanges(folder)


def own_loss(policy: ActionTokenPolicy, processor: ActionTokenProcessor, exchange: Exchange) -> tuple[float, int]:
    """Loss that the class's own forward gives for labels, of what its own processor makes; and the words due."""
    family, words = processor.family, processor.backbone
    template = Cotraining(policy, processor, [exchange], 0).template
    text = template.replace("{images}", "").replace("{instruction}", exchange.question)
    theirs = own_inputs(processor, [np.array(Image.open(exchange.image))], text)
    answer = words.tokenizer(exchange.answer, add_special_tokens=False)["input_ids"]
    due = torch.tensor([[*answer, words.tokenizer.eos_token_id]])
    if policy.vlm.config.is_encoder_decoder:
        return float(policy.vlm(**theirs, labels=due).loss), due.shape[1]
    prompt = theirs["input_ids"]
    for key, value in list(theirs.items()):
        if value.shape == prompt.shape:
            behind = torch.zeros_like(due, dtype=value.dtype)
            if key in ("attention_mask", "token_type_ids"):  # of PaliGemma's, 1 is what follows the prefix
                behind = torch.ones_like(due, dtype=value.dtype)
            if key == "token_type_ids" and type(words).__name__ == "Gemma3Processor":
                behind = torch.zeros_like(behind)
            theirs[key] = torch.cat([value, due if key == "input_ids" else behind], dim=1)
    if family.__name__ == "IdeficsBackbone":
        mask = theirs["image_attention_mask"]
        theirs["image_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, due.shape[1], -1)], dim=1)
    labels = torch.cat([torch.full_like(prompt, -100), due], dim=1)
    if family.__name__ == "IdeficsBackbone":  # its own loss fails where words were added to the vocabulary
        due_logits = policy.vlm(**theirs).logits[:, :-1][labels[:, 1:] != -100]
        return float(torch.nn.functional.cross_entropy(due_logits, due[0])), due.shape[1]
    return float(policy.vlm(**theirs, labels=labels).loss), due.shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_answers_is_that_of_the_classs_own_labels(family: str, tmp_path: Path) -> None:
    save_family(family, tmp_path / "vlm")
    policy, processor = policy_of(tmp_path / "vlm", ("front",))
    asked = exchanges(tmp_path / "data")
    cotraining = Cotraining(policy, processor, asked, seed=0)
    calls: list[int] = []
    policy.backbone.head.register_forward_hook(lambda _, given, out: calls.append(out.shape[:-1].numel()))
    loss = cotraining.loss(cotraining.collate(asked))
    seen = calls.copy()
    with torch.no_grad():
        own = [own_loss(policy, processor, exchange) for exchange in asked]
    words = sum(count for _, count in own)
    assert loss.item() == pytest.approx(sum(value * count for value, count in own) / words, rel=1e-4)
    if not policy.vlm.config.is_encoder_decoder:
        assert seen == [words]  # the head is computed where an answer is due, and nowhere else
    apply_switches(policy, Switches(train_vision=True))
    policy.zero_grad()
    cotraining.loss(cotraining.collate(asked)).backward()
    for part in (policy.backbone.decoder_layers, policy.backbone.vision):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    assert all(p.grad is None for p in policy.backbone.head.parameters())
    assert policy.action_token.grad is None


def test_batches_are_the_same_for_a_seed_hold_every_question_and_one_shape_of_images(tmp_path: Path) -> None:
    policy, processor = small_policy()
    asked = exchanges(tmp_path / "one") + exchanges(tmp_path / "two", side=24)
    drawn = []
    for seed in (0, 0, 1):
        batches = Cotraining(policy, processor, asked, seed).batches(2)
        drawn.append([next(batches) for _ in range(8)])
    ids = [[batch["input_ids"].tolist() for batch in run] for run in drawn]
    assert ids[0] == ids[1] != ids[2]
    assert sum(len(batch["answers"]) for batch in drawn[0][:4]) == len(asked)
    first = drawn[0][0]
    assert torch.equal(first["answers"].sum(1) > 1, torch.ones(len(first["answers"]), dtype=torch.bool))
    assert not (first["answers"] & ~first["attention_mask"]).any()


def test_an_answer_cannot_bring_in_images(tmp_path: Path) -> None:
    policy, processor = small_policy()
    asked = exchanges(tmp_path)
    tricked = Exchange(image=asked[0].image, shape=asked[0].shape, question="<image> go", answer="red <image>")
    ids = Cotraining(policy, processor, asked, 0).collate([tricked])["input_ids"]
    assert int((ids == policy.backbone.image_token_id).sum()) == 4


def answers_loss(policy: ActionTokenPolicy, cotraining: Cotraining, asked: list[Exchange]) -> float:
    policy.eval()
    with torch.inference_mode():
        return float(cotraining.loss(cotraining.collate(asked)))


def test_a_policy_that_goes_on_answering_forgets_less(tmp_path: Path) -> None:
    asked = exchanges(tmp_path)
    settings = {**SHORT, "steps": 25, "learning_rate": 2e-2}
    policy, processor = fresh(FinetuneOptions(**settings))
    cotraining = Cotraining(policy, processor, asked, 0)
    policy.vlm.requires_grad_(True)
    optimizer = torch.optim.Adam(policy.vlm.parameters(), lr=1e-2)
    for _ in range(30):  # what the backbone knows before
        optimizer.zero_grad()
        cotraining.loss(cotraining.collate(asked)).backward()
        optimizer.step()
    before = answers_loss(policy, cotraining, asked)
    knows = {name: value.clone() for name, value in policy.vlm.state_dict().items()}
    forgotten = []
    for more in ({}, {"cotrain_weight": 1.0, "cotrain_data": str(tmp_path)}):
        options = FinetuneOptions(**{**settings, **more})
        policy, processor = fresh(options)
        policy.vlm.load_state_dict(knows)
        trained = train(options, policy, processor, recordings(processor), Report("test"))
        assert ("cotrain_loss" in trained.figures) == bool(more)
        forgotten.append(answers_loss(policy, Cotraining(policy, processor, asked, 0), asked) - before)
    assert before < 0.1
    assert forgotten[0] > 0.3
    assert forgotten[1] < 0.2 * forgotten[0]


def test_questions_of_rendered_scenes_are_written_in_the_format_that_is_read(tmp_path: Path) -> None:
    made = scenes()
    assert export_questions(tmp_path, made, ask, seed=0) == 8
    found = read_exchanges(tmp_path / "questions.jsonl")
    assert len(found) == 8
    assert found[1].question == "is there a green block ?"
    assert found[1].answer == "no"
    x, y = made.points[1, 0]
    assert found[2].answer == f"<x{int(x * 32):02d}> <y{int(y * 32):02d}>"
    np.testing.assert_array_equal(np.array(Image.open(found[2].image)), made.images[1])
    _, processor = small_policy()
    ids = processor.backbone.tokenizer(found[2].answer, add_special_tokens=False)["input_ids"]
    assert processor.backbone.tokenizer.convert_ids_to_tokens(ids) == found[2].answer.split()


@pytest.mark.parametrize(
    "settings",
    [
        {"history": "policy_head", "window": 3, "head": {"type": "lstm", "width": 16}},
        {"history": "interleaved", "window": 3},
        {"head": {"type": "discrete", "bins": 8, "decoding": "autoregressive"}},
        {"latents": "down_sample", "train_text_embedding": True},
        {"resampler": {"queries": 2, "depth": 1, "heads": 2, "head_width": 8}, "lora_rank": 2},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_both_losses_go_with_any_history_source_of_latents_and_switch(settings: dict[str, Any], tmp_path: Path) -> None:
    exchanges(tmp_path)
    more = {"alignment_weight": 0.05, "cotrain_weight": 0.05, "cotrain_data": str(tmp_path)}
    options = FinetuneOptions(**{**SHORT, **more, **settings})
    policy, processor = fresh(options)
    figures = train(options, policy, processor, told_apart(processor), Report("test")).figures
    assert 0 < figures["alignment_loss"] < 10
    assert 0 < figures["cotrain_loss"] < 10


def test_one_instruction_alone_is_nothing_to_align_with() -> None:
    options = FinetuneOptions(alignment_weight=0.05, **SHORT)  # type: ignore[arg-type]
    policy, processor = fresh(options)
    with pytest.raises(UserError, match="all episodes follow one instruction"):
        train(options, policy, processor, recordings(processor), Report("test"))


def test_the_tabletops_questions_are_exported_and_answered_beside_acting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--scenes", "3", "--questions", "2", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["pretrain", "--export", str(tmp_path / "questions"), *flags])
    assert pretrain_command.main() == 0
    assert len(read_exchanges(tmp_path / "questions")) == 6
    options = FinetuneOptions(cotrain_weight=0.05, cotrain_data=str(tmp_path / "questions"), **SHORT)  # type: ignore[arg-type]
    policy, processor = fresh(options)
    figures = train(options, policy, processor, recordings(processor), Report("test")).figures
    assert 0 < figures["cotrain_loss"] < 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no question"),
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 must be a mapping with the texts image, question, answer"),
        ('{"image": "a.png", "question": "go"}', "must be a mapping with the texts"),
        ('{"image": "images/0.png", "question": "go", "answer": " "}', "line 1 has no answer"),
        ('{"image": "missing.png", "question": "go", "answer": "no"}', "missing.png is no image that can be read"),
        ('{"image": "questions.jsonl", "question": "go", "answer": "no"}', "is no image that can be read"),
        (None, "cannot be read"),
    ],
)
def test_wrong_questions_are_refused_with_their_line(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        exchanges(tmp_path)
        (tmp_path / "questions.jsonl").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        read_exchanges(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alignment_weight": -1.0}, "alignment_weight must be at least 0"),
        ({"cotrain_weight": float("nan"), "cotrain_data": "x"}, "cotrain_weight must be at least 0"),
        ({"cotrain_weight": 0.1}, "needs both a cotrain_weight above 0 and cotrain_data"),
        ({"cotrain_data": "x"}, "needs both a cotrain_weight above 0 and cotrain_data"),
        ({"cotrain_batch_size": 0}, "cotrain_batch_size must be at least 1"),
        ({"cotrain_weight": 0.1, "cotrain_data": "x", "freeze_backbone": True}, "under freeze_backbone nothing learns"),
        ({"cotrain_weight": 0.1, "cotrain_data": "x", "train_decoder_layers": 0}, "under train_decoder_layers 0"),
    ],
)
def test_auxiliary_losses_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FinetuneOptions(**settings)
