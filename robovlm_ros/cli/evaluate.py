"""Success of a policy in the simulator, through the real nodes and topics.

Each episode is a seeded scene and an instruction. The same scenes are then shown with the words
that name the target left out (the no-language control): what is left is what a policy reaches
without listening. Success is judged by where the tool ends.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.cli.command import parser, run, write_json
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    from robovlm_ros.sim.tasks import Block

STILL_M = 0.003
"""The arm has come to rest when the tool stays within this [m] ..."""
STILL_S = 0.6
"""... for so long [s]."""

REACTION_AFTER_NS = 500_000_000
"""How long the first instruction is followed before it is changed [ns]."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What happened in one episode."""

    seed: int
    """Seed of the scene."""
    instruction: str
    """What the policy was told."""
    target: str
    """Colour of the block that was meant."""
    distance_m: float
    """Distance of the tool from the target's goal at the end [m]."""
    wrong_target: bool
    """The tool ended at another block."""
    seconds: float
    """Length of the episode on the robot's clock [s]."""

    @property
    def success(self) -> bool:
        """Within 4 cm."""
        return self.distance_m < 0.04


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros evaluate``."""
    return run(lambda: _evaluate(_arguments().parse_args()))


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("evaluate", __doc__)
    arguments.add_argument("--checkpoint", default="tabletop", help="checkpoint: a folder or a shipped name")
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name")
    arguments.add_argument("--episodes", type=int, default=100, help="how many episodes, and as many of the control")
    arguments.add_argument("--seed", type=int, default=0, help="chooses the scenes; no training seed is used")
    arguments.add_argument("--seconds", type=float, default=5.0, help="longest episode [s of the robot's clock]")
    arguments.add_argument("--lockstep", action="store_true", help="the simulator waits for the policy")
    arguments.add_argument("--reactions", type=int, default=0, help="also change the instruction so often under way")
    arguments.add_argument("--no-control", action="store_true", help="leave the no-language control out")
    arguments.add_argument("--video", type=Path, help="write a film of the episodes (.mp4 or .gif)")
    arguments.add_argument("--json", type=Path, help="write the results as JSON")
    return arguments


def _evaluate(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.film import Film, SceneCamera
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session, local_environment

    contract = Contract.load(options.contract)
    if contract.simulator != "mujoco":
        raise UserError(f"contract '{contract.name}' names no simulator to evaluate in (simulator: mujoco)")
    if options.episodes < 1:
        raise UserError(f"--episodes must be at least 1, not {options.episodes}")
    if options.seed < 0 or not options.seconds > 0:
        raise UserError(f"--seed must be 0 or more and --seconds above 0, not {options.seed} and {options.seconds:g}")
    if options.json:  # a place that cannot be written is said now, not when the results are there
        options.json.parent.mkdir(parents=True, exist_ok=True)
    environment = local_environment()
    os.environ.update(environment)
    mode = "lockstep" if options.lockstep else "realtime"
    print(f"evaluate: '{options.checkpoint}', {options.episodes} episodes, {mode}, seed {options.seed}", flush=True)
    start = time.monotonic()
    film = Film(options.video, fps=contract.rate_hz) if options.video else None
    camera = SceneCamera(contract) if film else None
    with Nodes(environment) as nodes:
        nodes.start("sim_node", {"contract": options.contract, "lockstep": options.lockstep})
        nodes.start(
            "policy_node",
            {
                "contract": options.contract,
                "checkpoint": options.checkpoint,
                "lockstep": options.lockstep,
                "use_sim_time": options.lockstep,
            },
        )
        with Session(contract, "evaluate", nodes.check) as session:
            session.wait_for_policy()
            runner = Runner(session, options.seconds, options.lockstep)
            episodes = []
            for index in range(options.episodes):
                seed = scene_seed(options.seed, index)
                episode = runner.run(seed)
                episodes.append(episode)
                _say(index + 1, options.episodes, episodes)
                if film and camera:
                    camera.show(film, session, runner.first_ns, episode)
            control: list[Episode] = []
            for index in range(0 if options.no_control else options.episodes):
                control.append(runner.run(scene_seed(options.seed, index), blank=True))
                if len(control) % 10 == 0:
                    print(f"[{len(control)}/{options.episodes}] no-language control", flush=True)
            reactions = runner.reactions(scene_seed(options.seed, 5000), options.reactions)
        nodes.check()
        nodes.end()
        said = [line for line in nodes.log("policy_node") if " p50 " in line][-1:]
    if film:
        film.close()
        print(f"evaluate: film in {options.video}")
    results = summary(episodes, control, mode, options.seed, time.monotonic() - start)
    if reactions:
        results["reaction_s"] = {"p50": float(np.median(reactions)), "max": max(reactions), "changes": len(reactions)}
    if said:
        results["policy_statistics"] = said[0].partition("[policy_node]: ")[2]
        results["latency_ms"] = latency(said[0])
    _report(results)
    write_json(options.json, results)
    return 0


def scene_seed(seed: int, index: int) -> int:
    """Seed of the index-th scene: evaluation seeds are above ten million, training seeds below."""
    return 10_000_000 + seed * 10_000 + index


class Runner:
    """Runs one episode after another in a session."""

    def __init__(self, session: Any, seconds: float, lockstep: bool = False) -> None:
        self._session = session
        self._lockstep = lockstep
        self._limit_ns = round(seconds * 1e9)
        self.first_ns = 0
        """Stamp at which the newest episode began [ns]."""

    def run(self, seed: int, blank: bool = False) -> Episode:
        """One episode: a scene, an instruction (or one that names no target), and where the tool ended."""
        from robovlm_ros.sim.tasks import blank_instruction, parse_target, sample_instruction

        session = self._session
        session.instruct("")  # the policy holds while the scene changes
        session.reset(seed)
        colours = [block.colour for block in session.blocks]
        instruction = sample_instruction(colours, np.random.default_rng(seed))
        target = parse_target(instruction)
        return self.follow(seed, blank_instruction(instruction) if blank else instruction, target)

    def follow(self, seed: int, instruction: str, target: str) -> Episode:
        """Give an instruction in the present scene and watch until the arm rests or the time is over."""
        from robovlm_ros.sim.tasks import outcome

        session = self._session
        session.spin(0.05)  # what was seen while nobody listened here is of the past
        self.first_ns = begin = session.time_ns if self._lockstep else session.now_ns
        session.instruct(instruction)
        end = begin + self._limit_ns
        session.wait(lambda: session.time_ns >= end or self._rests(begin), 120.0, "the end of the episode")
        end = min(end, session.time_ns)
        result = outcome(session.tool_at(end), session.blocks, target)
        return Episode(
            seed=seed,
            instruction=instruction,
            target=target,
            distance_m=float(result.distance_m),
            wrong_target=bool(result.wrong_target),
            seconds=(end - begin) / 1e9,
        )

    def reactions(self, first_seed: int, count: int) -> list[float]:
        """Reaction times [s] in so many scenes in which two blocks lie on either side of the tool."""
        times: list[float] = []
        for seed in itertools.count(first_seed):
            if len(times) == count:
                break
            time_s = self.react(seed)
            times += [] if time_s is None else [time_s]
        return times

    def react(self, seed: int) -> float | None:
        """Change the instruction under way; the time until the tool has turned and come 1 cm back [s].

        None in a scene where both blocks lie on one side of the tool: there is nothing to turn for.
        """
        from robovlm_ros.sim.tasks import goal_position, instruction_for

        session = self._session
        rng = np.random.default_rng(seed)
        session.instruct("")
        session.reset(seed)
        first, second = _either_side(session.poses[-1][1], session.blocks)
        way = (goal_position(second) - goal_position(first))[:2]
        way = way / np.linalg.norm(way)  # (2,) going to the first goal leads against it
        if (session.poses[-1][1] - goal_position(first))[:2] @ way < 0.03:
            return None
        if (goal_position(second) - session.poses[-1][1])[:2] @ way < 0.03:
            return None
        begin = session.time_ns
        session.instruct(instruction_for(first.colour, rng))
        session.wait(lambda: session.time_ns >= begin + REACTION_AFTER_NS, 60.0, "the first half second")
        if not self._lockstep:  # at any moment between two observations, not just after one
            session.spin(float(rng.uniform(0.0, session.contract.step_ns / 1e9)))
        change = session.time_ns if self._lockstep else session.now_ns
        session.instruct(instruction_for(second.colour, rng))
        least = float(session.poses[-1][1][:2] @ way)

        def turned() -> bool:
            nonlocal least
            along = float(session.poses[-1][1][:2] @ way)
            least = min(least, along)  # it still moves on towards the first goal
            return along > least + 0.01 or bool(session.time_ns - change > self._limit_ns)

        session.wait(turned, 60.0, "the reaction")
        return float(session.time_ns - change) / 1e9

    def _rests(self, begin_ns: int) -> bool:
        """The tool has hardly moved for a while (and was given time to start)."""
        poses = self._session.poses
        if not poses or poses[-1][0] - begin_ns < 1e9 + STILL_S * 1e9:
            return False
        since = poses[-1][0] - round(STILL_S * 1e9)
        recent = np.array([position for stamp, position in poses if stamp >= since])  # (n, 3)
        return bool(np.linalg.norm(recent - recent[-1], axis=1).max() < STILL_M)


def _either_side(tool: NDArray[np.float64], blocks: Sequence[Block]) -> tuple[Block, Block]:
    """Two blocks between which the tool is, as far as can be: going to the one leads away from the other."""
    from robovlm_ros.sim.tasks import goal_position

    def between(pair: tuple[Block, Block]) -> float:
        first, second = (goal_position(block)[:2] for block in pair)
        way = (second - first) / np.linalg.norm(second - first)  # (2,)
        return min(float((tool[:2] - first) @ way), float((second - tool[:2]) @ way))

    return max(itertools.permutations(blocks, 2), key=between)


def latency(line: str) -> dict[str, float]:
    """Camera stamp to command [ms], from the policy's own line of statistics; empty where it measured none."""
    found = re.search(r"camera stamp to command p50 ([0-9.]+) ms, p99 ([0-9.]+) ms", line)
    return {"p50": float(found[1]), "p99": float(found[2])} if found else {}


def summary(
    episodes: Sequence[Episode], control: Sequence[Episode], mode: str, seed: int, seconds: float
) -> dict[str, Any]:
    """The figures of one evaluation, as written by ``--json``."""
    count = len(episodes)
    low, high = wilson(sum(e.success for e in episodes), count)
    return {
        "episodes": count,
        "success_rate": sum(e.success for e in episodes) / count,
        "success_interval_95": [low, high],
        "success_rate_2cm": sum(e.distance_m < 0.02 for e in episodes) / count,
        "success_rate_3cm": sum(e.distance_m < 0.03 for e in episodes) / count,
        "wrong_target_rate": sum(e.wrong_target for e in episodes) / count,
        "no_language_success_rate": sum(e.success for e in control) / len(control) if control else None,
        "mode": mode,
        "seconds": round(seconds, 1),
        "seed": seed,
        "episode_results": [asdict(e) for e in episodes],
        "no_language_results": [asdict(e) for e in control],
    }


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a success rate (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    rate = successes / count
    centre = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _say(number: int, total: int, episodes: Sequence[Episode]) -> None:
    last = episodes[-1]
    verdict = "reached" if last.success else ("WRONG BLOCK" if last.wrong_target else "missed")
    print(
        f"[{number}/{total}] {last.instruction!r}: {verdict}, {last.distance_m * 100:.1f} cm, {last.seconds:.1f} s"
        f"   (so far {sum(e.success for e in episodes)}/{number})",
        flush=True,
    )


def _report(results: dict[str, Any]) -> None:
    if "policy_statistics" in results:
        print(results["policy_statistics"])
    if "reaction_s" in results:
        reaction = results["reaction_s"]
        print(f"a changed instruction turns the arm after {reaction['p50']:.2f} s (at most {reaction['max']:.2f} s)")
    low, high = results["success_interval_95"]
    print(
        f"success within 4 cm {results['success_rate']:.1%} (95 %: {low:.1%} to {high:.1%}), "
        f"3 cm {results['success_rate_3cm']:.1%}, 2 cm {results['success_rate_2cm']:.1%}; "
        f"wrong target {results['wrong_target_rate']:.1%}"
    )
    if results["no_language_success_rate"] is not None:
        print(f"no-language control {results['no_language_success_rate']:.1%} (chance among three blocks: 33 %)")


if __name__ == "__main__":
    sys.exit(main())
