"""Vision-language co-training: beside actions, the backbone goes on answering questions, and so forgets less.

The data are a file of one JSON mapping a line, ``questions.jsonl``::

    {"image": "images/000001.png", "question": "where is the red block ?", "answer": "<x03> <y17>"}

with images (JPEG or PNG) by their paths from the file's folder. A question stands where the family's prompt has its
own; the answer follows it, then the end of text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from robovlm_ros.errors import UserError
from robovlm_ros.grounding import X_WORDS, Y_WORDS, Question, Scenes, nearest_bin
from robovlm_ros.images import decode_compressed
from robovlm_ros.training.switches import Switches
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.prompts import QUESTION, fill_prompt
from robovlm_ros.vlm.sequence import NEW

QUESTIONS = "questions.jsonl"
_KEYS = ("image", "question", "answer")


@dataclass(frozen=True, kw_only=True)
class CotrainingOptions:
    """Questions about images that are answered beside acting."""

    cotrain_weight: float = 0.0
    """Weight of the loss on answers to questions about images, which the backbone goes on learning; 0: none
    (RoboVLMs: 0.05)."""
    cotrain_data: str | None = None
    """Questions to answer: a file of JSON lines with image, question and answer, or a folder with questions.jsonl."""
    cotrain_batch_size: int = 8
    """Questions per step."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cotrain_weight) and self.cotrain_weight >= 0):
            raise UserError(f"cotrain_weight must be at least 0, not {self.cotrain_weight:g}")
        if (self.cotrain_weight > 0) != (self.cotrain_data is not None):
            raise UserError("co-training needs both a cotrain_weight above 0 and cotrain_data: give both, or neither")
        if self.cotrain_batch_size < 1:
            raise UserError(f"cotrain_batch_size must be at least 1, not {self.cotrain_batch_size}")


def check_learns(switches: Switches) -> None:
    """UserError for co-training under switches that leave nothing of the backbone to learn from answers."""
    tower = not switches.freeze_backbone and switches.train_decoder_layers != 0
    if not (tower or switches.train_vision or switches.train_text_embedding):
        why = "freeze_backbone" if switches.freeze_backbone else "train_decoder_layers 0"
        raise UserError(
            f"cotrain_weight: under {why} nothing learns from answers, and nothing can be forgotten: leave it off"
        )


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question about one image, and its answer."""

    image: Path
    """A JPEG or PNG file."""
    shape: tuple[int, int]
    """Height and width of the image [px]."""
    question: str
    """In words."""
    answer: str
    """In words."""


def read_exchanges(place: str | Path) -> list[Exchange]:
    """The questions of a file, or of a folder that holds `QUESTIONS`; UserError names the line that is wrong."""
    from PIL import Image, UnidentifiedImageError

    path = Path(place).expanduser()
    path = path / QUESTIONS if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cotrain_data: {path} cannot be read: {error}") from error
    found = []
    sizes: dict[Path, tuple[int, int]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"cotrain_data: {path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {error}") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in _KEYS):
            raise UserError(f"{where} must be a mapping with the texts {', '.join(_KEYS)}")
        if not values["answer"].strip():
            raise UserError(f"{where} has no answer")
        image = path.parent / values["image"]
        if image not in sizes:
            try:
                with Image.open(image) as opened:  # reads no more than the size
                    sizes[image] = (opened.height, opened.width)
            except (UnidentifiedImageError, OSError) as error:
                raise UserError(f"{where}: {image} is no image that can be read") from error
        found.append(Exchange(image=image, shape=sizes[image], question=values["question"], answer=values["answer"]))
    if not found:
        raise UserError(f"cotrain_data: {path} holds no question")
    return found


class Cotraining:
    """Batches of questions without end, and their loss. Deterministic for a seed."""

    def __init__(
        self, policy: ActionTokenPolicy, processor: ActionTokenProcessor, exchanges: Sequence[Exchange], seed: int
    ) -> None:
        self.policy, self.exchanges = policy, list(exchanges)
        self.family, self.backbone = processor.family, processor.backbone
        own = self.family.template(self.backbone)
        self.template = own.replace(QUESTION, "{instruction}") if QUESTION in own else "{images}{instruction}"
        """The family's prompt with a question in the place of its own."""
        self._seed = seed

    def batches(self, size: int) -> Iterator[dict[str, torch.Tensor]]:
        """Shuffled batches, epoch after epoch."""
        return map(self.collate, self.draws(size))

    def draws(self, size: int) -> Iterator[list[Exchange]]:
        """What `batches` are made of; the images of one are of one shape, so that they can be stacked."""
        rng = np.random.default_rng(self._seed)
        shapes = sorted({exchange.shape for exchange in self.exchanges})
        groups = [[i for i, exchange in enumerate(self.exchanges) if exchange.shape == shape] for shape in shapes]
        while True:
            epoch = []
            for group in groups:
                order = rng.permutation(group)
                epoch += [order[start : start + size] for start in range(0, len(order), size)]
            for index in rng.permutation(len(epoch)):
                yield [self.exchanges[item] for item in epoch[index]]

    def collate(self, exchanges: Sequence[Exchange]) -> dict[str, torch.Tensor]:
        """The family's tensors (B, ...) for prompts with their answers, and ``answers`` (B, L), 1 where they lie."""
        tokenizer = self.backbone.tokenizer
        rows = []
        for exchange in exchanges:
            image = decode_compressed(exchange.image.suffix, exchange.image.read_bytes())
            text = fill_prompt(self.family, self.backbone, self.template, exchange.question, 1)
            row = self.family.prompt_tensors(self.backbone, text, [image])
            said = exchange.answer
            for word in self.family.reserved(self.backbone):
                said = said.replace(word, " ")
            ids = tokenizer(said, add_special_tokens=False)["input_ids"]
            answer = torch.tensor([*ids, tokenizer.eos_token_id], dtype=row["input_ids"].dtype)
            row["answers"] = torch.cat([torch.zeros_like(row["input_ids"]), torch.ones_like(answer)])
            row["input_ids"] = torch.cat([row["input_ids"], answer])
            row["attention_mask"] = torch.cat([row["attention_mask"], torch.ones_like(answer)])
            rows.append({**row, **self.family.image_tensors(self.backbone, [image])})
        length = max(len(row["input_ids"]) for row in rows)
        for row in rows:
            for key, blank in (("input_ids", tokenizer.pad_token_id), ("attention_mask", 0), ("answers", 0)):
                row[key] = functional.pad(row[key], (0, length - len(row[key])), value=blank)
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean cross entropy -log softmax(head(h))_word over the words of all answers, each from the one before it.

        It is what transformers' own classes give for labels that leave out the prompt, with the head computed where
        an answer is due and nowhere else.
        """
        backbone = self.policy.backbone
        batch = {key: value.to(self.policy.vlm.device) for key, value in batch.items()}
        ids, mask, answers = batch["input_ids"], batch["attention_mask"], batch["answers"] != 0  # (B, L) each
        if self.policy.vlm.config.is_encoder_decoder:  # its decoder sees answers alone, and the head with it
            labels = torch.nn.utils.rnn.pad_sequence(
                [row[due] for row, due in zip(ids, answers, strict=True)], batch_first=True, padding_value=-100
            )  # (B, answer)
            pixels = batch["pixel_values"].flatten(0, 1)  # (B, 3, H, W)
            prompt = mask * ~answers
            output = self.policy.vlm(input_ids=ids, attention_mask=prompt, pixel_values=pixels, labels=labels)
            own: torch.Tensor = output.loss
            return own
        features = backbone.image_embeddings(**{key: batch[key] for key in self.family.image_keys if key in batch})
        layout = {key: batch[key] for key in self.family.text_keys[2:]}
        tokens = backbone.embed(ids, mask, features, **layout)
        # an answer is behind the prompt what action tokens are: a prompt that sees all of itself does not see it
        hidden = backbone.decode(replace(tokens, ids=ids.masked_fill(answers, NEW)))  # (B, L, D)
        due = answers[:, 1:]  # (B, L - 1)
        return functional.cross_entropy(backbone.logits(hidden[:, :-1][due]).float(), ids[:, 1:][due])


def export_questions(
    folder: Path, scenes: Scenes, asker: Callable[[Scenes, int, np.random.Generator], Sequence[Question]], seed: int
) -> int:
    """Write scenes and questions about them in the format of co-training; returns the number of questions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = []
    for index in range(len(scenes)):
        name = f"images/{index:06d}.png"
        _write_png(folder / name, scenes.images[index])
        for question in asker(scenes, index, rng):
            words = question.answer
            if question.point is not None:
                words = (X_WORDS[nearest_bin(question.point[0])], Y_WORDS[nearest_bin(question.point[1])])
            lines.append(json.dumps({"image": name, "question": question.text, "answer": " ".join(words)}))
    (folder / QUESTIONS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)
