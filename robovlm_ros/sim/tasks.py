"""What there is to do on the tabletop, and how it is said. Pure numpy, free of ROS and MuJoCo.

A task is one entry of `TASKS`: its name, its sentences, the place of pads in them. When it is done, `measure`
says; how it is done, `expert`.

Left and right are those of the static camera's picture, and of a person who sits in front of the robot and looks
at it: left is towards -y of base_link (the robot's own right), right towards +y.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

RGB = {"red": (0.84, 0.10, 0.10), "green": (0.10, 0.62, 0.18), "blue": (0.12, 0.22, 0.86), "yellow": (0.92, 0.80, 0.10)}
"""Colours a block can have, as red, green, blue in 0..1."""
COLOURS = tuple(RGB)
"""Their names; each scene shows some of them, none twice."""
MOST_PADS = 2
"""More pads than these would not fit between the blocks."""
BLOCK_HEIGHT = 0.04
"""Height of a block [m]."""
HOVER = 0.03
"""The goal of reaching lies this far above the top of a block [m]."""
SUCCESS_RADII_M = (0.02, 0.03, 0.04)
"""Distances from the goal at which success of reaching is reported [m]."""


def _upright() -> NDArray[np.float64]:
    return np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Block:
    """One coloured block."""

    colour: str
    """One of COLOURS."""
    position: NDArray[np.float64]
    """(3,) centre in base_link [m]."""
    orientation: NDArray[np.float64] = field(default_factory=_upright)
    """(4,) orientation in base_link as (x, y, z, w)."""


@dataclass(frozen=True)
class Pad:
    """One coloured square on the table."""

    colour: str
    """One of COLOURS; a block of the same colour may lie beside it."""
    position: NDArray[np.float64]
    """(3,) middle of its top in base_link [m]."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an episode of reaching ended."""

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
    """Instructions with a place for ``{colour}`` (and ``{pad}``, a pad's colour), used for demonstrations."""
    held_out: tuple[str, ...]
    """Further instructions, never used for demonstrations: for tests of understanding."""
    seconds: float = 5.0
    """Longest episode when a policy is judged [s]."""
    direction: float = 0.0
    """Along y of base_link: where a push leads, -1 (left) or 1 (right)."""

    @property
    def names_pad(self) -> bool:
        """The instruction names a pad, too."""
        return "{pad}" in self.sentences[0]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an instruction asks for."""

    task: Task
    colour: str
    """Colour of the block."""
    pad: str = ""
    """Colour of the pad, of tasks that have one."""


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
)


def _push(side: str, direction: float) -> Task:
    return Task(
        name=f"push_{side}",
        sentences=(
            f"push the {{colour}} block {side}",
            f"push the {{colour}} block to the {side}",
            f"slide the {{colour}} block {side}",
            f"slide the {{colour}} block to the {side}",
            f"move the {{colour}} block to the {side}",
            f"push the {{colour}} cube {side}",
            f"push the {{colour}} cube to the {side}",
            f"shove the {{colour}} cube {side}",
        ),
        held_out=(f"shove the {{colour}} block to the {side}", f"slide the {{colour}} cube to the {side}"),
        seconds=10.0,
        direction=direction,
    )


PUSH_LEFT, PUSH_RIGHT = _push("left", -1.0), _push("right", 1.0)
LIFT = Task(
    name="lift",
    sentences=(
        "lift the {colour} block",
        "lift up the {colour} block",
        "lift the {colour} block up",
        "raise the {colour} block",
        "pick up the {colour} block",
        "lift the {colour} cube",
        "raise the {colour} cube",
        "pick up the {colour} cube",
    ),
    held_out=("lift the {colour} cube up", "pick the {colour} block up"),
    seconds=10.0,
)
PUT = Task(
    name="put",
    sentences=(
        "put the {colour} block on the {pad} pad",
        "place the {colour} block on the {pad} pad",
        "put the {colour} block onto the {pad} pad",
        "drop the {colour} block on the {pad} pad",
        "move the {colour} block onto the {pad} pad",
        "bring the {colour} block to the {pad} pad",
        "put the {colour} cube on the {pad} pad",
        "place the {colour} cube on the {pad} pad",
    ),
    held_out=("place the {colour} cube onto the {pad} pad", "bring the {colour} cube to the {pad} pad"),
    seconds=15.0,
)
TASKS = {task.name: task for task in (REACH, PUSH_LEFT, PUSH_RIGHT, LIFT, PUT)}
GROUPS = {"push": (PUSH_LEFT, PUSH_RIGHT), "all": tuple(TASKS.values())}
"""Names that stand for several tasks."""
INSTRUCTIONS = REACH.sentences


def choose_tasks(name: str) -> tuple[Task, ...]:
    """The tasks of a name of `TASKS` or `GROUPS`; UserError with the names there are."""
    if name in GROUPS:
        return GROUPS[name]
    if name not in TASKS:
        raise UserError(f"there is no task '{name}' (tasks: {', '.join((*TASKS, *GROUPS))})")
    return (TASKS[name],)


def vocabulary() -> tuple[str, ...]:
    """Every word that an instruction of any task can hold, sorted."""
    text = " ".join(sentence for task in TASKS.values() for sentence in (*task.sentences, *task.held_out))
    return tuple(sorted({*re.sub(r"\{\w+\}", " ", text).split(), *COLOURS}))


def sample_instruction(
    colours: Sequence[str],
    rng: np.random.Generator,
    *,
    task: Task = REACH,
    pads: Sequence[str] = (),
    held_out: bool = False,
) -> str:
    """An instruction of the task about one of ``colours`` and, where it needs one, one of ``pads``.

    ``held_out`` takes the sentences kept for tests. UserError if the task needs a pad and there is none.
    """
    if task.names_pad and not pads:
        raise UserError(f"task '{task.name}' needs a pad, and there is none in this scene (pads: 1 or 2)")
    sentences = task.held_out if held_out else task.sentences
    sentence, colour = int(rng.integers(len(sentences))), int(rng.integers(len(colours)))
    pad = pads[int(rng.integers(len(pads)))] if task.names_pad else ""
    return sentences[sentence].format(colour=colours[colour], pad=pad)


def instruction_for(colour: str, rng: np.random.Generator, *, task: Task = REACH, pads: Sequence[str] = ()) -> str:
    """An instruction of the task about the block of that colour."""
    return sample_instruction([colour], rng, task=task, pads=pads)


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


def parse_order(instruction: str) -> Order:
    """What an instruction asks for, by its words, whatever its case and punctuation.

    A pad makes it "put", left or right a push, lift, raise or pick a lift; all else is "reach". UserError when the
    block, the pad or the side is not named exactly once.
    """
    words = re.findall(r"[a-z]+", instruction.lower())
    if "pad" in words:
        where = words.index("pad")
        pad, rest = words[where - 1] if where else "", words[: max(where - 1, 0)] + words[where + 1 :]
        if pad not in COLOURS:
            raise UserError(f"instruction '{instruction}' names no pad: say the COLOUR pad ({', '.join(COLOURS)})")
        return Order(task=PUT, colour=parse_target(" ".join(rest)), pad=pad)
    sides = [task for word, task in (("left", PUSH_LEFT), ("right", PUSH_RIGHT)) if word in words]
    if len(sides) > 1:
        raise UserError(f"instruction '{instruction}' names both sides: say left or right")
    lifts = not sides and any(word in words for word in ("lift", "raise", "pick"))
    return Order(task=sides[0] if sides else LIFT if lifts else REACH, colour=parse_target(instruction))


def find_block(blocks: Sequence[Block], colour: str) -> Block:
    """The block of that colour; UserError with those on the table otherwise."""
    for block in blocks:
        if block.colour == colour:
            return block
    raise UserError(f"there is no {colour} block (on the table: {', '.join(b.colour for b in blocks) or 'none'})")


def find_pad(pads: Sequence[Pad], colour: str) -> Pad:
    """The pad of that colour; UserError with those on the table otherwise."""
    for pad in pads:
        if pad.colour == colour:
            return pad
    raise UserError(f"there is no {colour} pad (on the table: {', '.join(p.colour for p in pads) or 'none'})")


def outcome(tool_position: NDArray[np.floating], blocks: Sequence[Block], target: str) -> Outcome:
    """How well the tool point (3,) has reached the block of colour ``target``."""

    def distance(block: Block) -> float:
        return float(np.linalg.norm(np.asarray(tool_position, np.float64) - goal_position(block)))

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
