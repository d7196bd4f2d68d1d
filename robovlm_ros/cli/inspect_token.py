"""``inspect token``: how far action tokens moved, where they look, and what actions depend on."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robovlm_ros.bags import Episode, list_episodes, observations, read_episode
from robovlm_ros.cli.command import Commands, HelpFormatter, print_rows, write_json
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    from robovlm_ros.runtime.ablation import Ablation
    from robovlm_ros.runtime.engine import PolicyEngine
    from robovlm_ros.vlm.movement import Movement

SWAPS = 3
"""Instructions of neighbouring episodes that are tried when none are named."""
NEIGHBOURS = 60
"""Neighbouring episodes that are searched for them."""
SHOWN_SLOTS = 8
"""Action tokens that the printed table names."""


def add_command(commands: Commands) -> None:
    """Add ``token`` to the things that `inspect` looks at."""
    token = commands.add_parser(
        "token",
        help="what the action token of a policy has come to mean",
        description="How far the action tokens of a policy have come from zero. With recorded episodes also where "
        "they look in the camera images, and how far actions move when the token, the instruction, the images or the "
        "state token are taken away or changed.",
        formatter_class=HelpFormatter,
    )
    token.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of a policy, as finetune writes it")
    token.add_argument("--episode", type=Path, nargs="+", default=[], metavar="FOLDER", help="recorded episodes")
    token.add_argument(
        "--swap", action="append", default=[], metavar="TEXT",
        help=f"instruction to swap in, may be given again; without any, up to {SWAPS} of the episodes beside the first",
    )  # fmt: skip
    token.add_argument("--output", type=Path, metavar="DIR", help="write pictures and films of the attention there")
    token.add_argument("--frames", type=int, default=4, help="instants of an episode that its picture shows")
    token.add_argument("--film", choices=("mp4", "gif", "none"), default="mp4", help="kind of film beside the picture")
    token.add_argument(
        "--occlusion", type=int, default=0, metavar="CELLS",
        help="also cover each of CELLS x CELLS parts of each image at those instants; 0: do not, for it takes as many "
        "decisions",
    )  # fmt: skip
    token.add_argument("--no-ablation", action="store_true", help="leave out what actions depend on")
    token.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    token.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    token.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too, as JSON")
    token.set_defaults(command=_token)


def _token(options: argparse.Namespace) -> int:
    if options.output and not options.episode:
        raise UserError("pictures need recorded observations: name an episode with --episode")
    for name, least in (("frames", 1), ("occlusion", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(options, name)}")
    episodes = [read_episode(path) for path in options.episode]

    from robovlm_ros.cli.inspect_attention import look
    from robovlm_ros.cli.inspect_occlusion import cover
    from robovlm_ros.runtime.ablation import Recorded, ablate
    from robovlm_ros.runtime.engine import PolicyEngine
    from robovlm_ros.vlm.movement import movement

    engine = PolicyEngine.load(options.checkpoint, options.device, options.threads)
    moved = movement(engine.policy, engine.processor.backbone.tokenizer)
    _print_movement(moved)
    results: dict[str, Any] = {
        "checkpoint": str(options.checkpoint),
        "movement": {"at_zero": moved.at_zero, **dataclasses.asdict(moved)},
    }
    recorded = []
    for episode in episodes:
        check_fits(engine, episode)
        steps = observations(episode, engine.cameras, engine.chunk_size)
        recorded.append(
            [Recorded(observation=step.observation, actions=step.actions, valid=step.valid) for step in steps]
        )
        if not recorded[-1]:
            raise UserError(f"episode {episode.path} holds no complete observation")
    if episodes:
        swaps = options.swap or _other_instructions(episodes)
        results["attention"] = [
            look(engine, episode, steps, swaps, options.output, options.frames, options.film)
            for episode, steps in zip(episodes, recorded, strict=True)
        ]
        if options.occlusion:
            results["occlusion"] = [
                cover(engine, episode, steps, swaps, options.output, options.frames, options.occlusion)
                for episode, steps in zip(episodes, recorded, strict=True)
            ]
        if not options.no_ablation:
            effects = ablate(
                engine.policy, engine.processor, recorded, swaps, lambda name: print(f"inspect: {name}", flush=True)
            )
            _print_ablation(effects, engine)
            results["ablation"] = _ablation_values(effects, engine)
    write_json(options.json, results)
    return 0


def check_fits(engine: PolicyEngine, episode: Episode) -> None:
    """UserError if an episode's state, actions or cameras are not those of the policy's contract."""
    ours, theirs = engine.contract, episode.contract
    if (ours.state_names, ours.action_dims) != (theirs.state_names, theirs.action_dims):
        raise UserError(
            f"episode {episode.path} was recorded with contract '{theirs.name}', whose state or actions are not those "
            f"of the policy's contract '{ours.name}'"
        )
    for camera in engine.cameras:
        theirs.camera(camera)


def _other_instructions(episodes: Sequence[Episode]) -> list[str]:
    """Instructions of the episodes that lie beside the first one, other than those of the episodes themselves."""
    own = {episode.instruction for episode in episodes}
    found: dict[str, None] = {}
    for path in list_episodes(episodes[0].path.resolve().parent)[:NEIGHBOURS]:
        text = read_episode(path).instruction
        if text and text not in own:
            found[text] = None
        if len(found) == SWAPS:
            break
    return list(found)


def _print_movement(moved: Movement) -> None:
    if moved.at_zero:
        print("action token: exactly zero (it was frozen by `freeze_action_token`, or the policy was never trained)")
    print(f"norm of a word of the backbone, median: {moved.word_norm:.3g}")
    rows = [["action token", "norm", "of a word's", "nearest words (cosine)"]]
    for slot, (norm, nearest) in enumerate(zip(moved.norms, moved.nearest, strict=True), start=1):
        words = ", ".join(f"{word} {cosine:.2f}" for word, cosine in nearest)
        rows.append([str(slot), f"{norm:.3g}", f"{100 * norm / moved.word_norm:.1f} %", words])
    print_rows(rows[: SHOWN_SLOTS + 1], left=(3,))
    if len(rows) > SHOWN_SLOTS + 1:
        print(f"... and {len(rows) - 1 - SHOWN_SLOTS} more; all of them with --json")
    print(f"(a random direction's nearest word has a cosine of {moved.chance:.2f})")
    apart = np.array(moved.distances)[np.triu_indices(len(moved.norms), 1)]
    if len(apart):
        print(f"distance between action tokens: {apart.min():.3g} to {apart.max():.3g}, mean {apart.mean():.3g}")


def _print_ablation(effects: Ablation, engine: PolicyEngine) -> None:
    dims = engine.contract.action_dims
    print(f"\nwhat actions depend on: {effects.observations} observations, chunks of {engine.chunk_size} steps")
    print("(change and error as shares of the recorded actions' deviation; per action the mean change in its unit)")
    rows = [
        [
            "",
            "change",
            "largest",
            "error",
            *(f"{dim.name} [{'flips' if dim.kind == 'binary' else dim.unit}]" for dim in dims),
        ]
    ]
    for effect in effects.effects:
        shares = (effect.change_share, effect.largest_share, effect.error_share)
        rows.append([effect.name, *(f"{x:.2f}" for x in shares), *(f"{x:.4f}" for x in effect.mean)])
    rows.append(["deviation of recorded actions", "", "", "", *(f"{value:.4f}" for value in effects.deviation)])
    print_rows(rows, left=(0,))


def _ablation_values(effects: Ablation, engine: PolicyEngine) -> dict[str, Any]:
    return {
        "observations": effects.observations,
        "actions": [{"name": dim.name, "unit": dim.unit, "kind": dim.kind} for dim in engine.contract.action_dims],
        "deviation": effects.deviation.tolist(),
        "effects": [
            {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(effect).items()}
            for effect in effects.effects
        ],
    }
