"""Success of a policy in the simulator, through the real nodes and topics.

Each episode is a seeded scene and an instruction. The same scenes are then shown with the words
that name the target left out (the no-language control): what is left is what a policy reaches
without listening. Success is judged by where tool and blocks end, by the measure of the task.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robovlm_ros.cli.command import parser, run, write_json
from robovlm_ros.cli.episodes import Episode, Runner, scene_seed
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.tasks import MOST_PADS, REACH, Task, choose_tasks

if TYPE_CHECKING:
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session

TRAJECTORIES = "tabletop_trajectory"
"""Contract of the simulated arm when it takes joint trajectories."""
GAZEBO_S = 150.0
"""How long Gazebo may take to start and to show a scene [s]."""
SETTLE_S = 1.0
"""After an episode an arm with a servo comes to rest for so long [s], before it is put elsewhere."""


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros evaluate``."""
    return run(lambda: _evaluate(_arguments().parse_args()))


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("evaluate", __doc__)
    arguments.add_argument("--checkpoint", default="tabletop", help="checkpoint: a folder or a shipped name")
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name")
    arguments.add_argument(
        "--task", default="reach", help="what is asked for: reach, push_left, push_right, push, lift, put, or all"
    )
    arguments.add_argument(
        "--episodes", type=int, default=100, help="how many episodes of each task, and as many of the control"
    )
    arguments.add_argument("--seed", type=int, default=0, help="chooses the scenes; no training seed is used")
    arguments.add_argument(
        "--seconds",
        type=float,
        help="longest episode [s of the robot's clock] (default: reach 5, push and lift 10, put 15)",
    )
    arguments.add_argument("--pads", type=int, help="coloured pads on the table (default: 0 for reach alone, else 2)")
    arguments.add_argument(
        "--simulator", choices=("mujoco", "gazebo"), default="mujoco", help="what plays the robot; gazebo needs ros_gz"
    )
    arguments.add_argument("--held-out", action="store_true", help="use sentences that no demonstration has had")
    arguments.add_argument("--lockstep", action="store_true", help="the simulator waits for the policy")
    arguments.add_argument(
        "--servo", action="store_true", help="the arm takes joint trajectories, which servo_node makes of tool poses"
    )
    arguments.add_argument("--reactions", type=int, default=0, help="also change the instruction so often under way")
    arguments.add_argument("--no-control", action="store_true", help="leave the no-language control out")
    arguments.add_argument("--video", type=Path, help="write a film of the episodes (.mp4 or .gif)")
    arguments.add_argument("--json", type=Path, help="write the results as JSON")
    return arguments


def _evaluate(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.film import Film, SceneCamera
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session, local_environment
    from robovlm_ros.sim.model import URDF

    contract = Contract.load(options.contract)
    if contract.simulator != "mujoco":
        raise UserError(f"contract '{contract.name}' names no simulator to evaluate in (simulator: mujoco)")
    if options.episodes < 1:
        raise UserError(f"--episodes must be at least 1, not {options.episodes}")
    if options.seed < 0 or not (options.seconds is None or options.seconds > 0):
        raise UserError(f"--seed must be 0 or more and --seconds above 0, not {options.seed} and {options.seconds}")
    gazebo = options.simulator == "gazebo"
    if gazebo and (options.lockstep or options.servo):
        raise UserError(
            "--simulator gazebo runs in its own time and with its own servo: leave --lockstep and --servo out"
        )
    tasks, pads = tasks_and_pads(options.task, options.pads)
    if options.servo and options.lockstep:
        raise UserError("--servo sends trajectories at a rate of its own, for which --lockstep does not wait")
    if options.reactions and REACH not in tasks:
        raise UserError("--reactions measures how a reaching arm turns: choose --task reach or all")
    if options.json:  # a place that cannot be written is said now, not when the results are there
        options.json.parent.mkdir(parents=True, exist_ok=True)
    environment = local_environment()
    os.environ.update(environment)
    mode = "gazebo" if gazebo else "lockstep" if options.lockstep else "realtime"
    own_time = gazebo or options.lockstep  # what is measured has stamps of the simulator's clock
    print(
        f"evaluate: '{options.checkpoint}', {', '.join(task.name for task in tasks)}, {options.episodes} episodes"
        f"{' each' if len(tasks) > 1 else ''}, {mode}, seed {options.seed}",
        flush=True,
    )
    start = time.monotonic()
    film = Film(options.video, fps=contract.rate_hz) if options.video else None
    camera = SceneCamera(contract, pads) if film else None
    with Nodes(environment) as nodes:
        robot = TRAJECTORIES if options.servo else options.contract
        if gazebo:
            nodes.launch("sim.launch.py", {"simulator": "gazebo", "contract": options.contract, "pads": pads})
        else:
            nodes.start("sim_node", {"contract": robot, "lockstep": options.lockstep, "pads": pads})
        if options.servo:
            urdf = URDF.read_text(encoding="utf-8")
            nodes.start("servo_node", {"contract": options.contract, "robot_description": urdf, "publish_pose": True})
        nodes.start(
            "policy_node",
            {
                "contract": options.contract,
                "checkpoint": options.checkpoint,
                "lockstep": options.lockstep,
                "use_sim_time": own_time,
            },
        )
        with Session(contract, "evaluate", nodes.check) as session:
            if gazebo:  # whoever makes its first scene commands the arm, too, and is not to be taken for the policy
                _wait_for_gazebo(session, nodes)
            session.wait_for_policy()
            session.settle_s = SETTLE_S if options.servo or gazebo else 0.0
            runner = Runner(session, options.seconds, own_time, held_out=options.held_out)
            asked = [(task, scene_seed(options.seed, i)) for i in range(options.episodes) for task in tasks]
            episodes = []
            for task, seed in asked:  # the tasks take turns, so that a film or a broken run has some of each
                episode = runner.run(seed, task)
                episodes.append(episode)
                _say(len(asked), episodes)
                if film and camera:
                    camera.show(film, session, runner.first_ns, episode)
            control: list[Episode] = []
            for task, seed in [] if options.no_control else asked:
                control.append(runner.run(seed, task, blank=True))
                if len(control) % 10 == 0:
                    print(f"[{len(control)}/{len(asked)}] no-language control", flush=True)
            reactions = runner.reactions(scene_seed(options.seed, 5000), options.reactions)
        nodes.check()
        nodes.end()
        said = [line for line in nodes.log("policy_node") if " p50 " in line][-1:]
    if film:
        film.close()
        print(f"evaluate: film in {options.video}")
    results = summary(episodes, control, mode, options.seed, time.monotonic() - start)
    results["held_out_sentences"] = options.held_out
    results["servo"] = options.servo
    if reactions:
        results["reaction_s"] = {"p50": float(np.median(reactions)), "max": max(reactions), "changes": len(reactions)}
    if said:
        results["policy_statistics"] = said[0].partition("[policy_node]: ")[2]
        results["latency_ms"] = latency(said[0])
    _report(results)
    write_json(options.json, results)
    return 0


def _wait_for_gazebo(session: Session, nodes: Nodes) -> None:
    """Until its first scene is there; UserError, with what the launch has complained of last, if it does not come."""
    try:
        session.wait(lambda: bool(session.blocks), GAZEBO_S, "Gazebo's first scene")
    except UserError as error:
        complaints = [line for line in nodes.log("sim.launch.py") if "[ERROR]" in line][-1:]
        raise UserError(": ".join([str(error), *complaints])) from error
    session.scene_s = GAZEBO_S


def tasks_and_pads(name: str, pads: int | None) -> tuple[tuple[Task, ...], int]:
    """The tasks of a name, and how many pads lie on the table; UserError if these cannot go together."""
    tasks = choose_tasks(name)
    if pads is None:
        pads = 0 if tasks == (REACH,) else MOST_PADS
    if not 0 <= pads <= MOST_PADS:
        raise UserError(f"--pads must be from 0 to {MOST_PADS}, not {pads}")
    if not pads and any(task.names_pad for task in tasks):
        raise UserError(f"--task {name} puts blocks on pads, and --pads is 0: choose 1 or {MOST_PADS}")
    return tasks, pads


def latency(line: str) -> dict[str, float]:
    """Camera stamp to command [ms], from the policy's own line of statistics; empty where it measured none."""
    found = re.search(r"camera stamp to command p50 ([0-9.]+) ms, p99 ([0-9.]+) ms", line)
    return {"p50": float(found[1]), "p99": float(found[2])} if found else {}


def summary(
    episodes: Sequence[Episode], control: Sequence[Episode], mode: str, seed: int, seconds: float
) -> dict[str, Any]:
    """The figures of one evaluation, as written by ``--json``: over all episodes, and of each task."""
    tasks = {name: _rates(_of(name, episodes), _of(name, control)) for name in dict.fromkeys(e.task for e in episodes)}
    return {
        **_rates(episodes, control),
        "tasks": tasks,
        "mode": mode,
        "seconds": round(seconds, 1),
        "seed": seed,
        "episode_results": [asdict(e) for e in episodes],
        "no_language_results": [asdict(e) for e in control],
    }


def _of(task: str, episodes: Sequence[Episode]) -> list[Episode]:
    return [episode for episode in episodes if episode.task == task]


def _rates(episodes: Sequence[Episode], control: Sequence[Episode]) -> dict[str, Any]:
    """Rates of episodes; closer radii of reaching only where there is nothing else."""
    count = len(episodes)
    low, high = wilson(sum(e.success for e in episodes), count)
    rates: dict[str, Any] = {
        "episodes": count,
        "success_rate": sum(e.success for e in episodes) / count,
        "success_interval_95": [low, high],
    }
    if all(e.task == REACH.name for e in episodes):
        rates["success_rate_2cm"] = sum(e.distance_m < 0.02 for e in episodes) / count
        rates["success_rate_3cm"] = sum(e.distance_m < 0.03 for e in episodes) / count
    rates["wrong_target_rate"] = sum(e.wrong_target for e in episodes) / count
    rates["no_language_success_rate"] = sum(e.success for e in control) / len(control) if control else None
    if len({e.task for e in episodes}) == 1 and episodes[0].stages:
        rates["stages"] = {name: sum(e.stages[name] for e in episodes) / count for name in episodes[0].stages}
    return rates


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a success rate (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    rate = successes / count
    centre = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _say(total: int, episodes: Sequence[Episode]) -> None:
    last = episodes[-1]
    done = "reached" if last.task == REACH.name else "done"
    verdict = done if last.success else ("WRONG TARGET" if last.wrong_target else "missed")
    alike = _of(last.task, episodes)
    print(
        f"[{len(episodes)}/{total}] {last.instruction!r}: {verdict}, {last.distance_m * 100:.1f} cm, "
        f"{last.seconds:.1f} s   ({last.task} so far {sum(e.success for e in alike)}/{len(alike)})",
        flush=True,
    )


def _report(results: dict[str, Any]) -> None:
    if "policy_statistics" in results:
        print(results["policy_statistics"])
    if "reaction_s" in results:
        reaction = results["reaction_s"]
        print(f"a changed instruction turns the arm after {reaction['p50']:.2f} s (at most {reaction['max']:.2f} s)")
    for name, rates in results["tasks"].items():
        low, high = rates["success_interval_95"]
        radii = [f"{cm} cm {rates[key]:.1%}" for cm in (3, 2) if (key := f"success_rate_{cm}cm") in rates]
        stages = [f"{stage} {rate:.0%}" for stage, rate in rates.get("stages", {}).items()]
        print(
            f"{name}: success {'within 4 cm ' if radii else ''}{rates['success_rate']:.1%} "
            f"(95 %: {low:.1%} to {high:.1%}); {', '.join([*radii, *stages])}; "
            f"wrong target {rates['wrong_target_rate']:.1%}"
        )
        if rates["no_language_success_rate"] is not None:
            print(f"{name}: no-language control {rates['no_language_success_rate']:.1%}")


if __name__ == "__main__":
    sys.exit(main())
