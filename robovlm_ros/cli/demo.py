"""Give the running tabletop one instruction after another, say how each ends, and film it.

Started by ``policy.launch.py demo:=true`` beside the simulator and the policy; ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from robovlm_ros.cli.command import parser, run
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros demo``."""
    return run(_demo)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("demo", __doc__)
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name")
    arguments.add_argument("--film", type=Path, default=Path("demo/tabletop.mp4"), help="film to write (.mp4 or .gif)")
    arguments.add_argument(
        "--task", default="reach", help="what is asked for: reach, push_left, push_right, push, lift, put, or all"
    )
    arguments.add_argument(
        "--scenes",
        type=int,
        default=0,
        help="scenes of three instructions each (tasks beside reach: of one); 0: until Ctrl-C",
    )
    arguments.add_argument("--seed", type=int, default=0, help="chooses the scenes")
    arguments.add_argument(
        "--lockstep", choices=("true", "false"), default="false", help="the simulator waits for the policy"
    )
    arguments.add_argument(
        "--seconds",
        type=float,
        help="longest time for one instruction [s] (reach: 6, push, lift: 10, put: 15)",
    )
    return arguments


def _demo() -> int:
    from rclpy.utilities import remove_ros_args

    from robovlm_ros.cli.episodes import Runner, scene_seed
    from robovlm_ros.cli.film import Film, SceneCamera, outcome_text
    from robovlm_ros.cli.session import Session
    from robovlm_ros.sim.tasks import REACH, choose_tasks, instruction_for, parse_order

    options = _arguments().parse_args(remove_ros_args(sys.argv)[1:])
    contract = Contract.load(options.contract)
    if contract.simulator != "mujoco":
        raise UserError(f"contract '{contract.name}' names no simulator: the demo needs one (simulator: mujoco)")
    tasks = choose_tasks(options.task)
    if options.scenes < 0 or options.seed < 0 or not (options.seconds is None or options.seconds > 0):
        raise UserError("--scenes and --seed must be 0 or more, --seconds above 0")
    film = Film(options.film, fps=contract.rate_hz)
    reached = asked = scene = 0
    print(f"film: {options.film.resolve()}", flush=True)
    try:
        with Session(contract, "demo") as session:
            session.wait_for_policy()
            runner = Runner(
                session, options.seconds or (6.0 if tasks == (REACH,) else None), options.lockstep == "true"
            )
            camera: SceneCamera | None = None
            while not options.scenes or scene < options.scenes:
                seed = scene_seed(options.seed, scene)
                rng = np.random.default_rng(seed)
                session.instruct("")
                session.reset(seed)
                camera = camera or SceneCamera(contract, len(session.pads))
                task = tasks[scene % len(tasks)]
                scene += 1
                if tasks != (REACH,):
                    episode = runner.run(seed, task)
                    asked += 1
                    reached += episode.success
                    verdict, _ = outcome_text(episode)
                    print(
                        f'instruction: "{episode.instruction}"\n  {verdict}   ({reached} of {asked} done)', flush=True
                    )
                    camera.show(film, session, runner.first_ns, episode)
                    continue
                colours = [block.colour for block in session.blocks]
                print(f"a new scene: {', '.join(colours)} blocks", flush=True)
                for target in rng.permutation(colours):
                    instruction = instruction_for(str(target), rng)
                    print(f'instruction: "{instruction}"', flush=True)
                    episode = runner.follow(seed, instruction, parse_order(instruction))
                    asked += 1
                    reached += episode.success
                    verdict, _ = outcome_text(episode)
                    print(f"  {verdict}, after {episode.seconds:.1f} s   ({reached} of {asked} reached)", flush=True)
                    camera.show(film, session, runner.first_ns, episode)
    except KeyboardInterrupt:
        pass  # the usual end of a demo
    finally:
        film.close()
        print(f"film of {asked} instructions: {options.film.resolve()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
