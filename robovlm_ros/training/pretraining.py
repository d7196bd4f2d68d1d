"""Stage one: a small VLM learns to see and to answer questions about what it sees; no actions yet.

Four losses, all from rendered scenes whose content the simulator knows:

- *answers*: cross entropy through the language model's own head. A location is two words, column and row,
  in random order; the last word of the question carries the mean of both targets, so that this one
  position must come to know the whole location (an action token will later stand at such a position).
- *what*: which image token a labelled thing lies in, by the scalar product of the label's word
  embedding with the image tokens.
- *where*: each image token, put through the language model's norm and head, says its location in the same
  words as answers do; a token that holds a thing says that thing's.
- *which*: behind the first layer of the text tower, the last word of a question resembles the image token
  that holds what it asks for.

An answer then is short work: know which thing is asked for, find the token that is like it, repeat its
location. With the answers' loss alone a small model stays for many hundred steps where it knows things and
words but not how to look up one by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from robovlm_ros.errors import UserError
from robovlm_ros.grounding import (
    LOCATION_BINS,
    X_WORDS,
    Y_WORDS,
    Question,
    Scenes,
    bin_weights,
    expected_coordinate,
    nearest_bin,
)
from robovlm_ros.training.optimisation import Optimisation
from robovlm_ros.training.reporting import Report, quiet_trainer

Asker = Callable[[Scenes, int, np.random.Generator], Sequence[Question]]


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(Optimisation):
    """How the tiny VLM is trained on rendered questions."""

    scenes: int = 24000
    """Rendered scenes to train on."""
    pads: float = 0.0
    """Share of scenes with coloured pads and with blocks in the hand, for tasks beside reaching; 0: none."""
    held_out: int = 500
    """Further scenes, kept aside to measure the localisation error."""
    questions: int = 3
    """Questions asked about each image in a batch; the image is encoded once for all of them."""
    steps: int = 1500
    """Optimiser steps."""
    batch_size: int = 32
    """Images per step."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    what_weight: float = 0.5
    """Weight of the loss on what image tokens hold, beside the answer loss."""
    where_weight: float = 0.3
    """Weight of the loss on where image tokens say they are."""
    which_weight: float = 0.5
    """Weight of the loss on which image token a question asks for."""
    seed: int = 0
    """Seed of weights, scenes, questions and order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scenes", "held_out", "questions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 <= self.pads <= 1.0:
            raise UserError(f"pads is a share of scenes, from 0 to 1, not {self.pads:g}")


class PackedQuestions(Dataset[dict[str, Any]]):
    """Item k: one scene with its own draw of questions; every item of a run differs."""

    def __init__(self, scenes: Scenes, asker: Asker, length: int, seed: int) -> None:
        self.scenes, self.asker, self.length, self.seed = scenes, asker, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, item))
        scene = item % len(self.scenes)
        questions = [self._orders(question, rng) for question in self.asker(self.scenes, scene, rng)]
        return {"image": self.scenes.images[scene], "points": self.scenes.points[scene], "questions": questions}

    def _orders(self, question: Question, rng: np.random.Generator) -> tuple[Question, bool]:
        """A question, and whether its location is answered row first."""
        return question, bool(rng.integers(2))


class QuestionCollator:
    """Items to tensors: one image, its questions behind one another, each blind to the others."""

    def __init__(self, processor: Any, labels: Sequence[str]) -> None:
        self.processor = processor
        tokenizer = processor.tokenizer
        self.vocabulary = len(tokenizer)
        self.x_ids = tokenizer.convert_tokens_to_ids(list(X_WORDS))
        self.y_ids = tokenizer.convert_tokens_to_ids(list(Y_WORDS))
        self.label_ids: list[list[int]] = [tokenizer.convert_tokens_to_ids(label.split()) for label in labels]
        """Of each label, the ids of its words."""
        if tokenizer.unk_token_id in (*self.x_ids, *self.y_ids, *(word for ids in self.label_ids for word in ids)):
            raise UserError("the tokenizer lacks location words or labels: build the tiny VLM's own processor")
        blank = np.zeros((8, 8, 3), np.uint8)
        self.prefix = processor(text=[processor.image_token], images=[[blank]])["input_ids"][0]
        self._ids: dict[str, list[int]] = {}

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Batch of `PackedQuestions` items.

        Returns input_ids (B, T), segments (B, T) with 0 for the image, 1.. for the questions and -1 for padding,
        position_ids (B, T), targets (B, T, V) that sum to 1 where an answer is due and to 0 elsewhere,
        asked (B, T, 2) the location asked for at the last word of a question and NaN elsewhere,
        pixel_values (B, 1, 3, H, W), points (B, labels, 2).
        """
        rows = [self._row(item["questions"]) for item in items]
        length = max(len(ids) for ids, _, _, _ in rows)
        batch = len(rows)
        input_ids = torch.zeros(batch, length, dtype=torch.long)
        segments = torch.full((batch, length), -1)
        positions = torch.zeros(batch, length, dtype=torch.long)
        targets = torch.zeros(batch, length, self.vocabulary)
        asked = torch.full((batch, length, 2), torch.nan)
        for index, (ids, segment, position, target) in enumerate(rows):
            input_ids[index, : len(ids)] = torch.tensor(ids)
            segments[index, : len(ids)] = torch.tensor(segment)
            positions[index, : len(ids)] = torch.tensor(position)
            for place, words, point in target:
                for word, weight in words:
                    targets[index, place, word] += weight
                if point is not None:
                    asked[index, place] = torch.tensor(point)
        images = self.processor.image_processor([[item["image"]] for item in items], return_tensors="pt")
        return {
            "input_ids": input_ids,
            "segments": segments,
            "position_ids": positions,
            "targets": targets,
            "asked": asked,
            "pixel_values": images["pixel_values"],
            "points": torch.from_numpy(np.stack([item["points"] for item in items])),
        }

    def _row(self, questions: Sequence[tuple[Question, bool]]) -> tuple[list[int], list[int], list[int], list[Any]]:
        ids, segment = list(self.prefix), [0] * len(self.prefix)
        positions = list(range(len(self.prefix)))
        targets: list[tuple[int, list[tuple[int, float]], tuple[float, float] | None]] = []
        for number, (question, row_first) in enumerate(questions, start=1):
            words = self.word_ids(question.text)
            answer, due = self._answer(question, row_first)
            start = len(ids) + len(words) - 1  # the last word of the question predicts the first of the answer
            points = [question.point] + [None] * (len(due) - 1)
            targets += [(start + offset, *what) for offset, what in enumerate(zip(due, points, strict=True))]
            ids += words + answer
            segment += [number] * (len(words) + len(answer))
            positions += range(len(self.prefix), len(self.prefix) + len(words) + len(answer))
        return ids, segment, positions, targets

    def word_ids(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        if text not in self._ids:
            self._ids[text] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._ids[text]

    def _answer(self, question: Question, row_first: bool) -> tuple[list[int], list[list[tuple[int, float]]]]:
        """Input ids of the answer, and what is due at its start and behind each of its words."""
        end = [(self.processor.tokenizer.eos_token_id, 1.0)]
        if question.point is None:
            ids = self.processor.tokenizer.convert_tokens_to_ids(list(question.answer))
            return ids, [*([(word, 1.0)] for word in ids), end]
        x, y = question.point
        column = [(word, w) for word, w in zip(self.x_ids, bin_weights(x).tolist(), strict=True) if w]
        row = [(word, w) for word, w in zip(self.y_ids, bin_weights(y).tolist(), strict=True) if w]
        both = [(word, w / 2) for word, w in (*column, *row)]
        words = [self.x_ids[nearest_bin(x)], self.y_ids[nearest_bin(y)]]
        if row_first:
            return words[::-1], [both, column, end]
        return words, [both, row, end]


def block_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, 1, T, T) additive attention mask: causal, each question sees the image and itself only."""
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]  # (B, T, 1), (B, 1, T)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = causal & ((key == 0) | (key == query)) & (key >= 0)  # (B, T, T)
    allowed |= torch.eye(length, dtype=torch.bool)  # padding sees itself, so that no row is empty
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
    return mask[:, None]


def answer_hidden(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Last hidden states (B, T, D) of a packed batch, its image tokens (B, N, D), hidden states behind layer 1."""
    features = torch.stack(list(model.get_image_features(batch["pixel_values"]).pooler_output))  # (B, N, D)
    embeddings = model.get_input_embeddings()(batch["input_ids"])  # (B, T, D)
    is_image = (batch["input_ids"] == model.config.image_token_id)[..., None]
    embeddings = embeddings.masked_scatter(is_image, features.to(embeddings.dtype))
    output = model.get_decoder()(
        inputs_embeds=embeddings,
        attention_mask=block_mask(batch["segments"], embeddings.dtype),
        position_ids=batch["position_ids"],
        use_cache=False,
        output_hidden_states=True,
    )
    return output.last_hidden_state, features, output.hidden_states[1]


def answer_loss(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy -Σ target·log softmax(head(hidden)) over the positions that have a target."""
    due = targets.sum(-1) > 0  # (B, T)
    logits = model.lm_head(hidden[due])  # (n, V); the head runs only where an answer is due
    return -(targets[due] * functional.log_softmax(logits, dim=-1)).sum(-1).mean()


def label_embeddings(model: Any, label_ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """(L, D) embedding of each label: the sum of those of its n words over √n, so that all have one size."""
    embed = model.get_input_embeddings()
    return torch.stack([embed(torch.tensor(ids)).sum(0) / len(ids) ** 0.5 for ids in label_ids])


def what_loss(features: torch.Tensor, words: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Cross entropy between softmax(word·image token) over the tokens and where the labelled thing is.

    features (B, N, D) row-major image tokens, words (L, D), points (B, L, 2) in [0, 1] or NaN. The target is
    spread over the four nearest tokens by bilinear weights.
    """
    side = int(features.shape[1] ** 0.5)
    scores = torch.einsum("bnd,ld->bln", features, words) / features.shape[-1] ** 0.5  # (B, L, N)
    present = ~points.isnan().any(-1)  # (B, L)
    target = token_weights(points[present], side)  # (n, N)
    return -(target * functional.log_softmax(scores[present], dim=-1)).sum(-1).mean()


def which_loss(hidden: torch.Tensor, features: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Cross entropy between softmax(hidden·image token) over the tokens and where the thing asked for is.

    hidden (B, T, D) behind the first layer, features (B, N, D), asked (B, T, 2) in [0, 1] or NaN.
    """
    due = ~asked.isnan().any(-1)  # (B, T)
    own = features[due.nonzero()[:, 0]]  # (n, N, D) image tokens of the sample that each question belongs to
    scores = torch.einsum("nd,nkd->nk", hidden[due], own) / features.shape[-1] ** 0.5  # (n, N)
    target = token_weights(asked[due], int(features.shape[1] ** 0.5))
    return -(target * functional.log_softmax(scores, dim=-1)).sum(-1).sum() / due.sum().clamp(min=1)


def token_weights(points: torch.Tensor, side: int) -> torch.Tensor:
    """(n, side²) bilinear weights of the four image tokens nearest to points (n, 2) in [0, 1]."""
    place = (points * side - 0.5).clamp(0, side - 1)  # (n, 2)
    hat = (1 - (place[..., None] - torch.arange(side)).abs()).clamp(min=0)  # (n, 2, side)
    return (hat[:, 1, :, None] * hat[:, 0, None, :]).flatten(1)


def where_loss(
    model: Any, features: torch.Tensor, points: torch.Tensor, x_ids: Sequence[int], y_ids: Sequence[int]
) -> torch.Tensor:
    """Cross entropy of the location words that image tokens (B, N, D) give through the model's norm and head.

    points (B, L, 2) in [0, 1] or NaN. Due is the place of the thing in the token's cell (the first label wins),
    else the middle of the cell; each coordinate as weights of its two nearest bins.
    """
    batch, count, _ = features.shape
    side = int(count**0.5)
    centres = (torch.arange(side) + 0.5) / side
    middle = torch.stack([centres.repeat(side), centres.repeat_interleave(side)], dim=-1)  # (N, 2) column, row
    place = middle.expand(batch, -1, -1).clone()  # (B, N, 2)
    for label in reversed(range(points.shape[1])):
        rows = (~points[:, label].isnan().any(-1)).nonzero()[:, 0]  # (n,)
        cell = (points[rows, label] * side).long().clamp(0, side - 1)  # (n, 2)
        place[rows, cell[:, 1] * side + cell[:, 0]] = points[rows, label]
    position = (place * LOCATION_BINS - 0.5).clamp(0, LOCATION_BINS - 1)
    weights = (1 - (position[..., None] - torch.arange(LOCATION_BINS)).abs()).clamp(min=0)  # (B, N, 2, bins)
    words = functional.log_softmax(model.lm_head(model.get_decoder().norm(features)), dim=-1)  # (B, N, V)
    said = torch.stack([words[..., list(x_ids)], words[..., list(y_ids)]], dim=2)  # (B, N, 2, bins)
    return -(weights * said).sum(-1).mean()


@torch.inference_mode()
def localisation_error(
    model: Any, collator: QuestionCollator, scenes: Scenes, phrase: Callable[[str], str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 2) absolute error [px] in column and row of every present labelled thing, asked by ``phrase(label)``."""
    model.eval()
    errors = []
    for start in range(0, len(scenes), 50):
        items = []
        for index in range(start, min(start + 50, len(scenes))):
            points = scenes.points[index]
            for label, (x, y) in zip(scenes.labels, points.tolist(), strict=True):
                if x == x:
                    question = Question(text=phrase(label), point=(x, y))
                    items.append({"image": scenes.images[index], "points": points, "questions": [(question, False)]})
        batch = collator(items)
        hidden, _, _ = answer_hidden(model, batch)
        first = (batch["targets"].sum(-1) > 0).int().argmax(1)  # (B,) the position that knows the location
        logits = model.lm_head(hidden[torch.arange(len(items)), first])  # (B, V)
        found = np.stack(
            [expected_coordinate(logits[:, ids].softmax(-1).numpy()) for ids in (collator.x_ids, collator.y_ids)], 1
        )
        truth = np.array([item["questions"][0][0].point for item in items])
        height, width = scenes.images.shape[1:3]
        errors.append(np.abs(found - truth) * [width, height])
    return np.concatenate(errors)


def pretrain(
    model: Any,
    processor: Any,
    scenes: Scenes,
    held_out: Scenes,
    asker: Asker,
    phrase: Callable[[str], str],
    options: PretrainOptions,
    report: Report,
) -> dict[str, float]:
    """Train the model in place; returns the held-out figures."""
    from transformers import Trainer

    torch.set_num_threads(options.threads)
    collator = QuestionCollator(processor, scenes.labels)

    class AnswerTrainer(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            hidden, features, early = answer_hidden(model, inputs)
            loss = answer_loss(model, hidden, inputs["targets"])
            words = label_embeddings(model, collator.label_ids)  # (L, D)
            points = inputs["points"]
            loss = loss + options.what_weight * what_loss(features, words, points)
            loss = loss + options.where_weight * where_loss(model, features, points, collator.x_ids, collator.y_ids)
            loss = loss + options.which_weight * which_loss(early, features, inputs["asked"])
            return (loss, {}) if return_outputs else loss

    def measure() -> dict[str, float]:
        some = Scenes(images=held_out.images[:100], points=held_out.points[:100], labels=held_out.labels)
        error = localisation_error(model, collator, some, phrase)
        model.train()
        return {"error_px": float(error.mean())}

    dataset = PackedQuestions(scenes, asker, options.steps * options.batch_size, options.seed)
    trainer = quiet_trainer(
        AnswerTrainer,
        model=model,
        dataset=dataset,
        collator=collator,
        options=options,
        report=report,
        measure=measure,
    )
    trainer.train()
    error = localisation_error(model, collator, held_out, phrase)
    return {
        "error_px_mean": float(error.mean()),
        "error_px_median": float(np.median(error)),
        "error_px_p95": float(np.quantile(error, 0.95)),
        "train_loss": report.last("loss"),
    }
