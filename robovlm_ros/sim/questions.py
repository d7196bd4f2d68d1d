"""Rendered scenes with questions about them: what the tiny VLM is pre-trained on. No actions occur here."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.grounding import Question, Scenes
from robovlm_ros.sim.tasks import COLOURS, INSTRUCTIONS, MOST_PADS, TASKS
from robovlm_ros.sim.world import Tabletop

GRIPPER = "gripper"
HELD = "hold"
LABELS = (*COLOURS, GRIPPER)
"""Things of scenes without pads; a colour alone is that of a block."""
PADS = tuple(f"{colour} pad" for colour in COLOURS)
ALL_LABELS = (*LABELS, *PADS, HELD)
"""Things of scenes with pads, where the gripper may hold a block."""
SHARD = 500
"""Scenes that share one random generator; shards can be rendered beside each other."""

WHERE = (
    "where is the {} ?",
    "point to the {} .",
    "find the {} .",
    "where do you see the {} ?",
    "where is the middle of the {} ?",
    "show me the {} .",
)
NOUNS = ("block", "cube")
PURPOSE = "to {} , where do you go ?"
"""Question about the place that an instruction is about; a policy's prompt may use the same words."""
THEN = "to {} , where do you put it ?"
"""Question about the place that a block is brought to."""


def where_phrase(label: str) -> str:
    """The plain question for the place of a labelled thing."""
    plain = {GRIPPER: GRIPPER, HELD: "block you hold", **{pad: pad for pad in PADS}}
    return WHERE[0].format(plain.get(label, f"{label} block"))


def ask(scenes: Scenes, index: int, rng: np.random.Generator, count: int = 3) -> list[Question]:
    """Questions about one scene: mostly where each block is, now and then one that is answered in words."""
    if PADS[0] in scenes.labels:
        return _ask_of_all(scenes, index, rng, count)
    points = dict(zip(scenes.labels, scenes.points[index].tolist(), strict=True))
    seen = [colour for colour in COLOURS if points[colour][0] == points[colour][0]]
    order = rng.permutation(len(seen))
    questions = []
    for number in range(count):
        colour = seen[order[number % len(seen)]]
        draw = rng.random()
        if draw < 0.85:
            questions.append(_where(colour, points[colour], rng))
        elif draw < 0.90 and points[GRIPPER][0] == points[GRIPPER][0]:
            questions.append(Question(text=where_phrase(GRIPPER), point=_pair(points[GRIPPER])))
        elif draw < 0.95:
            questions.append(_exists(seen, rng))
        else:
            questions.append(_order(seen, points, rng))
    return questions


def _ask_of_all(scenes: Scenes, index: int, rng: np.random.Generator, count: int) -> list[Question]:
    """The same for scenes with pads: places of blocks and pads, where each task leads, what the gripper holds."""
    points = {
        label: _pair(point)
        for label, point in zip(scenes.labels, scenes.points[index].tolist(), strict=True)
        if point[0] == point[0]
    }
    blocks = [colour for colour in COLOURS if colour in points]
    pads = [pad for pad in PADS if pad in points]
    held = next((colour for colour in blocks if points[colour] == points.get(HELD)), None)
    questions = []
    for number, first in enumerate(rng.permutation(len(blocks))[np.arange(count) % len(blocks)]):
        colour, draw = blocks[first], rng.random()
        if draw < 0.45:
            questions.append(_purpose(colour, held, pads, points, rng))
        elif draw < 0.65:
            noun = f"{colour} {NOUNS[rng.integers(len(NOUNS))]}"
            questions.append(Question(text=WHERE[rng.integers(len(WHERE))].format(noun), point=points[colour]))
        elif draw < 0.85 and pads:
            pad = pads[number % len(pads)]
            questions.append(Question(text=WHERE[rng.integers(len(WHERE))].format(pad), point=points[pad]))
        elif draw < 0.90 and GRIPPER in points:
            questions.append(Question(text=where_phrase(GRIPPER), point=points[GRIPPER]))
        elif draw < 0.95:
            questions.append(Question(text="which block do you hold ?", answer=(held or "none",)))
        else:
            pad = PADS[rng.integers(len(PADS))]
            questions.append(Question(text=f"is there a {pad} ?", answer=("yes" if pad in pads else "no",)))
    return questions


def _purpose(
    colour: str, held: str | None, pads: Sequence[str], points: dict[str, tuple[float, float]], rng: np.random.Generator
) -> Question:
    """Where an instruction leads: to its block, or, when that is in the hand, to the pad where it belongs."""
    tasks = [task for task in TASKS.values() if pads or not task.names_pad]
    # a put leads to two places and names two things: it is asked about as often as two other tasks
    task = tasks[min(int(rng.integers(len(tasks) + 1)), len(tasks) - 1)]
    sentence = task.sentences[rng.integers(len(task.sentences))]
    if not task.names_pad:
        return Question(text=PURPOSE.format(sentence.format(colour=colour)), point=points[colour])
    pad = pads[int(rng.integers(len(pads)))]
    sentence = sentence.format(colour=colour, pad=pad.split()[0])
    if rng.random() < 0.3:
        return Question(text=THEN.format(sentence), point=points[pad])
    return Question(text=PURPOSE.format(sentence), point=points[pad if held == colour else colour])


def _where(colour: str, point: Sequence[float], rng: np.random.Generator) -> Question:
    if rng.random() < 0.4:
        sentence = INSTRUCTIONS[rng.integers(len(INSTRUCTIONS))].format(colour=colour)
        return Question(text=PURPOSE.format(sentence), point=_pair(point))
    noun = f"{colour} {NOUNS[rng.integers(len(NOUNS))]}"
    return Question(text=WHERE[rng.integers(len(WHERE))].format(noun), point=_pair(point))


def _exists(seen: Sequence[str], rng: np.random.Generator) -> Question:
    colour = COLOURS[rng.integers(len(COLOURS))]
    return Question(text=f"is there a {colour} block ?", answer=("yes" if colour in seen else "no",))


def _order(seen: Sequence[str], points: dict[str, list[float]], rng: np.random.Generator) -> Question:
    """Which of two blocks is further left in the image, or a yes/no question about it."""
    one, other = (seen[index] for index in rng.permutation(len(seen))[:2])
    left = points[one][0] < points[other][0]
    if rng.random() < 0.5:
        return Question(text=f"is the {one} block left of the {other} block ?", answer=("yes" if left else "no",))
    leftmost = min(seen, key=lambda colour: points[colour][0])
    return Question(text="what color is the block at the left ?", answer=(leftmost,))


def _pair(point: Sequence[float]) -> tuple[float, float]:
    return (float(point[0]), float(point[1]))


def render_shard(contract: Contract, camera: str, seed: int, shard: int, count: int, pads: float = 0.0) -> Scenes:
    """Scenes of one shard, the same for the same seed wherever they are rendered; ``pads``: share that has pads."""
    rng = np.random.default_rng((seed, shard))
    plain = Tabletop(contract)
    padded = Tabletop(contract, pads=MOST_PADS) if pads else plain
    labels = ALL_LABELS if pads else LABELS
    view = contract.camera(camera)
    size = np.array([view.width, view.height])
    images = np.empty((count, view.height, view.width, 3), dtype=np.uint8)
    points = np.full((count, len(labels), 2), np.nan, dtype=np.float32)
    for index in range(count):
        world = padded if pads and rng.random() < pads else plain
        world.randomise(rng)
        images[index] = world.render(camera)
        things = {block.colour: block.position for block in world.blocks}
        things[GRIPPER] = world.tool_position
        things |= {f"{pad.colour} pad": pad.position for pad in world.pads}
        if world.held is not None:
            things[HELD] = world.held.position
        places = world.project(camera, np.array(list(things.values()))) / size  # (things, 2)
        for label, place in zip(things, places, strict=True):
            if np.all((place >= 0) & (place <= 1)):
                points[index, labels.index(label)] = place
    return Scenes(images=images, points=points, labels=labels)


def render_scenes(
    contract: Contract,
    camera: str,
    count: int,
    seed: int,
    *,
    pads: float = 0.0,
    workers: int = 1,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scenes:
    """``count`` random scenes; read from ``cache`` when it holds exactly these, else rendered and kept there.

    ``pads``: share of scenes with pads, and with blocks in the hand; 0: scenes of `LABELS` only.
    """
    labels = ALL_LABELS if pads else LABELS
    key = _key(contract, camera, count, seed, pads)
    if cache is not None and cache.is_file() and (found := _read(cache, key, labels)) is not None:
        return found
    sizes = [min(SHARD, count - start) for start in range(0, count, SHARD)]
    shards: list[Scenes] = []
    if workers > 1:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [
                pool.submit(render_shard, contract, camera, seed, shard, size, pads) for shard, size in enumerate(sizes)
            ]
            for job in jobs:
                shards.append(job.result())
                progress(sum(map(len, shards)), count)
    else:
        for shard, size in enumerate(sizes):
            shards.append(render_shard(contract, camera, seed, shard, size, pads))
            progress(sum(map(len, shards)), count)
    scenes = Scenes(
        images=np.concatenate([shard.images for shard in shards]),
        points=np.concatenate([shard.points for shard in shards]),
        labels=labels,
    )
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name(f".{cache.name}.partial.npz")
        np.savez(partial, images=scenes.images, points=scenes.points, key=np.array(key))
        partial.replace(cache)
    return scenes


def _key(contract: Contract, camera: str, count: int, seed: int, pads: float) -> str:
    """Names what the scenes depend on: contract, camera, number, seed, and the simulator's own sources."""
    sources = hashlib.sha256()
    unseen = ("expert.py", "manipulation.py", "measure.py", "__init__.py")  # no image depends on these
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".urdf") and path.name not in unseen:
            sources.update(path.read_bytes())
    return json.dumps([contract.to_dict(), camera, count, seed, pads, sources.hexdigest()], sort_keys=True)


def _read(path: Path, key: str, labels: tuple[str, ...]) -> Scenes | None:
    """The cached scenes, or None when they are others."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                return None
            return Scenes(images=arrays["images"], points=arrays["points"], labels=labels)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"the cache {path} cannot be read ({error}): remove it") from error
