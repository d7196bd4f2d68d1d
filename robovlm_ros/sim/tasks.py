"""What there is to do on the tabletop, how it is said, and when it is done. Pure numpy, free of ROS and MuJoCo.

A task is one entry of `TASKS`: its name, its sentences and the point where the tool must end. A further
task (push, lift, put) is a further entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

RGB = {"red": (0.84, 0.10, 0.10), "green": (0.10, 0.62, 0.18), "blue": (0.12, 0.22, 0.86), "yellow": (0.92, 0.80, 0.10)}
"""Colours a block can have, as red, green, blue in 0..1."""
COLOURS = tuple(RGB)
"""Their names; each scene shows some of them, none twice."""
BLOCK_HEIGHT = 0.04
"""Height of a block [m]."""
HOVER = 0.03
"""The goal of reaching lies this far above the top of a block [m]."""
SUCCESS_RADII_M = (0.02, 0.03, 0.04)
"""Distances from the goal at which success is reported [m]."""


@dataclass(frozen=True)
class Block:
    """One coloured block."""

    colour: str
    """One of COLOURS."""
    position: NDArray[np.float64]
    """(3,) centre in base_link [m]."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an episode ended."""

    distance_m: float
    """From the tool point to the goal [m]."""
    success_2cm: bool
    success_3cm: bool
    success_4cm: bool
    """The tool point ended within 2, 3, 4 cm of the goal."""
    wrong_target: bool
    """The tool point ended within 4 cm of the goal of another block."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to do with a block that the instruction names by its colour."""

    name: str
    """Key in `TASKS`."""
    sentences: tuple[str, ...]
    """Instructions with a place for ``{colour}``, used for demonstrations."""
    held_out: tuple[str, ...]
    """Further instructions, never used for demonstrations: for tests of understanding."""
    goal: Callable[[Block], NDArray[np.float64]]
    """Block → (3,) point where the tool must end, in base_link [m]."""


def goal_position(block: Block) -> NDArray[np.float64]:
    """(3,) the point HOVER above the centre of the block's top, in base_link [m]."""
    above: NDArray[np.float64] = block.position + np.array([0.0, 0.0, BLOCK_HEIGHT / 2 + HOVER])
    return above


REACH = Task(
    name="reach",
    sentences=(
        "reach the {colour} block",
        "move to the {colour} block",
        "go to the {colour} block",
        "reach the {colour} cube",
        "move to the {colour} cube",
        "go to the {colour} cube",
        "move above the {colour} block",
        "go over to the {colour} block",
    ),
    held_out=("move over to the {colour} cube", "go above the {colour} cube"),
    goal=goal_position,
)
TASKS = {task.name: task for task in (REACH,)}
INSTRUCTIONS = REACH.sentences


def vocabulary() -> tuple[str, ...]:
    """Every word that an instruction of any task can hold, sorted."""
    text = " ".join(sentence for task in TASKS.values() for sentence in (*task.sentences, *task.held_out))
    return tuple(sorted({*text.replace("{colour}", " ").split(), *COLOURS}))


def sample_instruction(
    colours: Sequence[str], rng: np.random.Generator, *, task: Task = REACH, held_out: bool = False
) -> str:
    """An instruction of the task about one of ``colours``; ``held_out`` takes the sentences kept for tests."""
    sentences = task.held_out if held_out else task.sentences
    sentence, colour = int(rng.integers(len(sentences))), int(rng.integers(len(colours)))
    return sentences[sentence].format(colour=colours[colour])


def instruction_for(colour: str, rng: np.random.Generator, *, task: Task = REACH) -> str:
    """An instruction of the task about the block of that colour."""
    return sample_instruction([colour], rng, task=task)


def blank_instruction(instruction: str) -> str:
    """The same sentence without the words that name the target: what is left when nobody listens."""
    return " ".join(word for word in instruction.split() if word.lower() not in COLOURS)


def parse_target(instruction: str) -> str:
    """The colour that an instruction names, whatever its case and punctuation.

    Raises UserError, with the colours there are, when it names none or several.
    """
    words = set(re.findall(r"[a-z]+", instruction.lower()))
    named = [colour for colour in COLOURS if colour in words]
    if len(named) != 1:
        found = "no colour" if not named else f"several colours ({', '.join(named)})"
        raise UserError(f"instruction '{instruction}' names {found}: name one of {', '.join(COLOURS)}")
    return named[0]


def find_block(blocks: Sequence[Block], colour: str) -> Block:
    """The block of that colour; UserError with those on the table otherwise."""
    for block in blocks:
        if block.colour == colour:
            return block
    raise UserError(f"there is no {colour} block (on the table: {', '.join(b.colour for b in blocks) or 'none'})")


def outcome(
    tool_position: NDArray[np.floating], blocks: Sequence[Block], target: str, *, task: Task = REACH
) -> Outcome:
    """How well the tool point (3,) fulfils the task for the block of colour ``target``."""

    def distance(block: Block) -> float:
        return float(np.linalg.norm(np.asarray(tool_position, np.float64) - task.goal(block)))

    reached = distance(find_block(blocks, target))
    within = [reached < radius for radius in SUCCESS_RADII_M]
    others = [distance(block) for block in blocks if block.colour != target]
    return Outcome(
        distance_m=reached,
        success_2cm=within[0],
        success_3cm=within[1],
        success_4cm=within[2],
        wrong_target=any(other < SUCCESS_RADII_M[-1] for other in others),
    )
