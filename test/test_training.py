"""Both training stages: their losses, their data, and the two commands end to end on tiny data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robovlm_ros.cli import finetune as finetune_command
from robovlm_ros.cli import pretrain as pretrain_command
from robovlm_ros.errors import UserError
from robovlm_ros.grounding import Question, Scenes, bin_weights, expected_coordinate
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.training.finetuning import (
    FinetuneOptions,
    configure,
    feature_encoder,
    finetune,
    set_statistics,
    train,
)
from robovlm_ros.training.pretraining import (
    PackedQuestions,
    QuestionCollator,
    answer_hidden,
    answer_loss,
    localisation_error,
    what_loss,
    where_loss,
    which_loss,
)
from robovlm_ros.training.reporting import Report
from robovlm_ros.training.switches import apply_switches
from robovlm_ros.training.windows import Recording, WindowDataset, mixture_weights, record, split
from robovlm_ros.vlm.checkpoint import load_vlm
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import WORDS

from .makers import arm_contract, observation, small_vlm
from .test_bags import CONTRACT, episode_messages
from .test_bags import record as record_bag


def scenes(count: int = 4) -> Scenes:
    rng = np.random.default_rng(0)
    points = rng.random((count, 2, 2), dtype=np.float32)
    points[0, 1] = np.nan
    return Scenes(
        images=rng.integers(0, 256, (count, 48, 48, 3), dtype=np.uint8), points=points, labels=("red", "green")
    )


def ask(found: Scenes, index: int, rng: np.random.Generator) -> list[Question]:
    x, y = found.points[index, 0].tolist()
    return [
        Question(text="where is the red block ?", point=(x, y)),
        Question(text="is there a green block ?", answer=("no",)),
    ]


@pytest.mark.parametrize("coordinate", [0.0, 0.01, 0.2, 0.5, 0.731, 0.99, 1.0])
def test_a_location_in_words_is_finer_than_a_bin(coordinate: float) -> None:
    weights = bin_weights(coordinate)
    assert weights.sum() == pytest.approx(1.0)
    assert expected_coordinate(weights) == pytest.approx(min(max(coordinate, 0.5 / 32), 1 - 0.5 / 32), abs=1e-6)


def test_packed_questions_are_answered_as_if_each_were_asked_alone() -> None:
    model, processor = small_vlm()
    model.eval()
    collator = QuestionCollator(processor, ("red", "green"))
    image, points = scenes().images[0], scenes().points[0]
    questions = [(question, False) for question in ask(scenes(), 0, np.random.default_rng(0))]
    packed = collator([{"image": image, "points": points, "questions": questions}])
    with torch.inference_mode():
        together = answer_hidden(model, packed)[0][0]
        for number, (question, order) in enumerate(questions, start=1):
            own = together[packed["segments"][0] == number]
            single = collator([{"image": image, "points": points, "questions": [(question, order)]}])
            alone = model.model(input_ids=single["input_ids"], pixel_values=single["pixel_values"]).last_hidden_state[
                0, -len(own) :
            ]
            torch.testing.assert_close(own, alone, atol=1e-5, rtol=0)


def test_the_last_word_of_a_question_must_hold_the_whole_location() -> None:
    _, processor = small_vlm()
    collator = QuestionCollator(processor, ("red", "green"))
    question = Question(text="where is the red block ?", point=(0.5 / 32, 3.5 / 32))
    image, points = scenes().images[0], scenes().points[0]
    for row_first in (False, True):
        batch = collator([{"image": image, "points": points, "questions": [(question, row_first)]}])
        words = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        place = words.index("?")
        due = [
            {processor.tokenizer.convert_ids_to_tokens(int(i)): round(float(t[i]), 3) for i in t.nonzero()}
            for t in batch["targets"][0, place : place + 3]
        ]
        assert due[0] == {"<x00>": 0.5, "<y03>": 0.5}
        assert words[place + 1 :] == (["<y03>", "<x00>"] if row_first else ["<x00>", "<y03>"])
        assert due[1:] == [{"<x00>" if row_first else "<y03>": 1.0}, {"</s>": 1.0}]
        assert batch["asked"][0, place].tolist() == pytest.approx([0.5 / 32, 3.5 / 32])


def test_every_pretraining_loss_is_least_for_the_right_answer() -> None:
    model, processor = small_vlm()
    collator = QuestionCollator(processor, ("red", "green"))
    batch = collator([PackedQuestions(scenes(), ask, 4, 0)[i] for i in range(4)])
    side, width = 2, 32
    points = torch.tensor([[[0.25, 0.75]]])  # the middle of the token in the second row, first column
    features = torch.zeros(1, side * side, width)
    features[0, 2, 0] = 100.0
    word = torch.zeros(1, width)
    word[0, 0] = 1.0
    assert float(what_loss(features, word, points)) < 1e-3 < float(what_loss(features.flip(1), word, points))
    asked = points.clone()
    assert (
        float(which_loss(word[None], features, asked)) < 1e-3 < float(which_loss(word[None], features.flip(1), asked))
    )
    hidden, found, early = answer_hidden(model, batch)
    for loss in (
        answer_loss(model, hidden, batch["targets"]),
        where_loss(model, found, batch["points"], collator.x_ids, collator.y_ids),
        which_loss(early, found, batch["asked"]),
    ):
        assert 0 < loss.item() < 20


def test_the_localisation_error_is_that_of_guessing_for_an_untrained_model() -> None:
    model, processor = small_vlm()
    error = localisation_error(
        model, QuestionCollator(processor, ("red", "green")), scenes(), lambda label: f"where is the {label} block ?"
    )
    assert error.shape == (7, 2)  # one of the eight things is absent
    assert 3 < error.mean() < 30


def test_the_vocabulary_knows_every_word_of_tasks_and_questions() -> None:
    from robovlm_ros.sim.questions import ALL_LABELS, NOUNS, PURPOSE, THEN, WHERE, where_phrase
    from robovlm_ros.sim.tasks import vocabulary

    said = [*vocabulary(), *NOUNS, *" ".join((*ALL_LABELS, *map(where_phrase, ALL_LABELS))).split()]
    said += [
        word
        for phrase in (*WHERE, PURPOSE, THEN, "which you hold none yes no")
        for word in phrase.replace("{}", "").split()
    ]
    assert sorted(set(said) - set(WORDS)) == []


def test_pretrain_makes_a_folder_that_transformers_loads_and_reuses_its_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--scenes", "6", "--held-out", "3", "--steps", "2", "--batch-size", "3", "--workers", "1"]
    for output in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["pretrain", "--output", str(tmp_path / output), *flags])
        assert pretrain_command.main() == 0
    assert capsys.readouterr().out.count("9/9 scenes") == 1
    one, processor = load_vlm(tmp_path / "one")
    two, _ = load_vlm(tmp_path / "two")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert processor.image_seq_len == 16
    assert json.loads((tmp_path / "one" / "measured.json").read_text())["error_px_mean"] > 0
    assert "no robot action" in (tmp_path / "one" / "README.md").read_text().lower()


def recordings(processor: ActionTokenProcessor, count: int = 3, encode: object = None) -> list[Recording]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        steps = []
        for t in range(4):
            seen = observation(processor.contract, "reach the red block", seed=10 * index + t)
            actions = rng.normal(0, 0.2, (5, 4))
            actions[:, 3] = rng.integers(0, 2, 5)
            steps.append((seen, actions, np.arange(5) < 4 - t))
        one = record(f"episode_{index}", steps, processor, encode)  # type: ignore[arg-type]
        assert one is not None
        made.append(one)
    return made


def fresh(options: FinetuneOptions) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    vlm, backbone = small_vlm()
    config = configure(options, vlm.config, arm_contract(4))
    policy = ActionTokenPolicy.from_vlm(vlm, config)
    apply_switches(policy, options)
    return policy, ActionTokenProcessor(config, backbone)


SHORT = {"steps": 3, "batch_size": 4, "chunk_size": 5, "validation_share": 0.34, "warmup_steps": 1, "device": "cpu"}


def test_cached_features_train_the_same_policy_as_images() -> None:
    weights = []
    for cached in (True, False):
        options = FinetuneOptions(cache_features=cached, **SHORT)  # type: ignore[arg-type]
        policy, processor = fresh(options)
        encode = feature_encoder(policy, options, torch.device("cpu"))
        assert (encode is not None) == cached
        train(options, policy, processor, recordings(processor, encode=encode), Report("test"))
        weights.append({name: value.clone() for name, value in policy.state_dict().items()})
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=2e-5, rtol=0, msg=name)


def test_training_moves_the_action_token_from_zero_and_leaves_frozen_parts_alone() -> None:
    options = FinetuneOptions(freeze_backbone=True, **SHORT)  # type: ignore[arg-type]
    policy, processor = fresh(options)
    before = {name: value.clone() for name, value in policy.vlm.state_dict().items()}
    trained = train(options, policy, processor, recordings(processor), Report("test"))
    assert bool(policy.action_token.abs().sum() > 0)
    assert all(torch.equal(value, before[name]) for name, value in policy.vlm.state_dict().items())
    assert trained.figures["validation_error"] > 0
    assert trained.figures["episodes"] == 2


def test_frozen_action_tokens_stay_zero_while_the_rest_learns() -> None:
    options = FinetuneOptions(freeze_action_token=True, **SHORT)  # type: ignore[arg-type]
    policy, processor = fresh(options)
    before = policy.head.layers[0].weight.clone()
    trained = train(options, policy, processor, recordings(processor), Report("test"))
    assert not bool(policy.action_token.any())
    assert not torch.equal(policy.head.layers[0].weight, before)
    assert {"part": "action tokens", "parameters": policy.action_token.numel(), "trained": 0} in trained.figures[
        "trainable"
    ]


def test_statistics_come_from_valid_steps_of_relative_actions_alone() -> None:
    options = FinetuneOptions(action_normalisation="min_max", **SHORT)  # type: ignore[arg-type]
    _, processor = fresh(options)
    made = recordings(processor)
    for recording in made:
        recording.actions[~recording.valid] = 1e6
    normaliser = set_statistics(options, processor, made).action_normaliser
    relative = np.concatenate(
        [(r.actions - np.append(r.states[:, :3], np.zeros((4, 1)), 1)[:, None])[r.valid] for r in made]
    )
    np.testing.assert_allclose(normaliser.normalise(relative)[:, :3].min(0), -1)
    np.testing.assert_allclose(normaliser.normalise(relative)[:, :3].max(0), 1)
    assert (normaliser.offset[3], normaliser.scale[3]) == (0.0, 1.0)


def test_targets_and_actions_are_inverse_of_each_other() -> None:
    options = FinetuneOptions(**SHORT)  # type: ignore[arg-type]
    _, processor = fresh(options)
    made = recordings(processor)
    processor = set_statistics(options, processor, made)
    item = WindowDataset(made, processor)[1]
    again = processor.actions(item["actions"], made[0].states[1])
    np.testing.assert_allclose(again, made[0].actions[1], atol=1e-6)


def test_whole_episodes_are_kept_aside() -> None:
    _, processor = fresh(FinetuneOptions(**SHORT))  # type: ignore[arg-type]
    made = recordings(processor, count=6)
    training, validation = split(made, 0.3, seed=0)
    assert len(validation) == 2
    assert {r.name for r in training} | {r.name for r in validation} == {r.name for r in made}


def test_a_loss_that_is_no_number_is_refused_with_the_episodes_name() -> None:
    options = FinetuneOptions(**SHORT)  # type: ignore[arg-type]
    policy, processor = fresh(options)
    made = recordings(processor)
    for recording in made:
        recording.images["pixel_values"][:] = float("nan")
    with pytest.raises(UserError, match=r"the loss is nan at step 0 for episode_\d\[\d\]"):
        train(options, policy, processor, made, Report("test"))


def test_finetune_makes_a_policy_from_bags_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, processor = small_vlm()
    vlm.save_pretrained(tmp_path / "vlm")
    processor.save_pretrained(tmp_path / "vlm")
    for index in range(3):
        record_bag(tmp_path / "episodes" / f"episode_{index}", episode_messages(4))
    yaml = tmp_path / "options.yaml"
    yaml.write_text(
        "state: [ee.x, ee.y, ee.z]\nchunk_size: 3\nsteps: 99\nhead: {type: mlp, hidden: [16], loss: huber}\n"
    )
    flags = [
        "--config",
        str(yaml),
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--latent-num",
        "2",
        "--cameras",
        "static,wrist",
        "--cache",
        str(tmp_path / "cache"),
    ]
    base = ["--base", str(tmp_path / "vlm"), "--output", str(tmp_path / "policy")]
    monkeypatch.setattr(sys, "argv", ["finetune", "--episodes", str(tmp_path / "episodes"), *base, *flags])
    assert finetune_command.main() == 0
    engine = PolicyEngine.load(tmp_path / "policy")
    assert engine.contract == CONTRACT
    assert engine.cameras == ("static", "wrist")
    chunk = engine.infer(observation(CONTRACT))
    assert chunk.actions.shape == (3, 4)
    assert np.isfinite(chunk.actions).all()
    assert set(chunk.actions[:, 3]) <= {0.0, 1.0}
    measured = json.loads((tmp_path / "policy" / "measured.json").read_text())
    assert (measured["steps"], measured["observations"]) == (2, 8)
    assert "/" not in json.dumps(measured["options"])  # no path of this machine
    assert "3 recorded" not in (tmp_path / "policy" / "README.md").read_text()  # one of three was kept aside


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--base", "./missing"], "no checkpoint folder missing"),
        (["--steps", "many"], "'steps' must be a whole number, not 'many'"),
        (["--head", "magic"], "head 'magic' is not one of: mlp"),
        (["--state", "ee.q"], "no state 'ee.q'"),
        (["--cameras", "ceiling"], "no camera 'ceiling' (cameras: static, wrist)"),
        (["--config", "nothing"], "no configuration 'nothing'"),
        (["--device", "abacus"], "device 'abacus' is not one of"),
    ],
)
def test_bad_options_get_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    vlm, processor = small_vlm()
    vlm.save_pretrained(tmp_path / "vlm")
    processor.save_pretrained(tmp_path / "vlm")
    record_bag(tmp_path / "episodes" / "episode_0", episode_messages(2))
    monkeypatch.chdir(tmp_path)
    given = ["--episodes", "episodes", "--base", "./vlm", "--output", "policy", *flags]
    monkeypatch.setattr(sys, "argv", ["finetune", *given])
    capsys.readouterr()
    assert finetune_command.main() == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("error: ")


def test_a_mixture_gives_each_folder_its_share_whatever_its_size() -> None:
    options = FinetuneOptions(mixture=(3.0, 1.0), **SHORT)  # type: ignore[arg-type]
    _, processor = fresh(options)
    made = recordings(processor)
    few, many = Path("few"), Path("many")
    for number, recording in enumerate(made):
        recording.source = few if number == 0 else many
    weights = mixture_weights(made, [few, many], options.mixture)
    first = len(made[0])
    assert weights[:first].sum() / weights.sum() == pytest.approx(0.75)
    assert len(set(weights[:first])) == len(set(weights[first:])) == 1
    with pytest.raises(UserError, match="no observation of elsewhere"):
        mixture_weights(made, [few, many, Path("elsewhere")], (1.0, 1.0, 1.0))


def test_training_draws_from_folders_by_their_shares() -> None:
    rare, often = Path("rare"), Path("often")
    for mixture in ((), (1e-9, 1.0)):
        settings = {**SHORT, "steps": 4, "validation_share": 0.0}
        options = FinetuneOptions(mixture=mixture, **settings)  # type: ignore[arg-type]
        policy, processor = fresh(options)
        made = recordings(processor)
        for number, recording in enumerate(made):
            recording.source = often if number else rare
        made[0].images = {key: torch.full_like(value, torch.nan) for key, value in made[0].images.items()}
        if mixture:
            train(options, policy, processor, made, Report("test"), [rare, often])
        else:  # who draws from the first folder is told
            with pytest.raises(UserError, match=r"the loss is nan .* episode_0"):
                train(options, policy, processor, made, Report("test"))


@pytest.mark.parametrize("shares", [(1.0, 0.0), (float("nan"),), (-1.0, 2.0)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="shares above 0"):
        FinetuneOptions(mixture=shares)


def test_a_mixture_needs_one_share_for_each_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 shares for 1 folders"):
        finetune(FinetuneOptions(mixture=(1.0, 2.0)), tmp_path, str(tmp_path), Report("test"))
