"""Record demonstrations of the scripted expert: simulator, commands and recorder through their real topics.

Each episode is one rosbag2 folder. The simulator runs in lockstep, as fast as the machine allows;
what the topics carry is the same as in real time.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.cli.command import parser, run
from robovlm_ros.cli.evaluate import tasks_and_pads
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.messages import fill_command, message_class
from robovlm_ros.sim.expert import as_action
from robovlm_ros.sim.tasks import REACH, Order, choose_tasks

SETTLE_STEPS = 7
"""Steps recorded after the task is done, so that the policy learns to stay ..."""
PUSH_ON_STEPS = 4
"""... or, in a push, to go on."""

_ASTRAY = 1  # keeps these random numbers apart from those of the demonstration
_ASTRAY_M, _ASTRAY_LOW_M = (0.03, 0.10), (0.022, 0.06)  # the tool's distance from the block, and its height [m]
_ASTRAY_HIGH_M, _ASTRAY_STEP_M, _ASTRAY_STEPS = 0.12, 0.03, 25  # on the way there: height, step [m], most steps


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros collect``."""
    return run(lambda: _collect(_arguments().parse_args()))


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("collect", __doc__)
    arguments.add_argument("--output", type=Path, required=True, help="folder that receives the episodes")
    arguments.add_argument("--episodes", type=int, default=100, help="how many episodes to record")
    arguments.add_argument("--seed", type=int, default=100_000, help="seed of the first scene; the next add one")
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name")
    arguments.add_argument(
        "--task", default="reach", help="what is shown: reach, push_left, push_right, push, lift, put, or all in turn"
    )
    arguments.add_argument("--pads", type=int, help="coloured pads on the table (default: 0 for reach alone, else 2)")
    arguments.add_argument(
        "--steps", type=int, help="longest episode [steps of the contract's rate] (default: 45 for reach, else 150)"
    )
    arguments.add_argument("--noise", type=float, default=0.004, help="noise on the expert's commands [m]")
    arguments.add_argument(
        "--recoveries",
        type=float,
        default=0.0,
        help="share of episodes (0 to 1) that begin low beside the block, as after a miss, to show how to recover",
    )
    arguments.add_argument("--workers", type=int, default=1, help="simulators beside each other, one domain each")
    return arguments


def _collect(options: argparse.Namespace) -> int:
    contract = Contract.load(options.contract)
    if contract.simulator != "mujoco":
        raise UserError(f"contract '{contract.name}' names no simulator: the expert needs one (simulator: mujoco)")
    tasks, options.pads = tasks_and_pads(options.task, options.pads)
    options.steps = (45 if tasks == (REACH,) else 150) if options.steps is None else options.steps
    for name in ("episodes", "steps", "workers"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}")
    for name in ("seed", "noise"):
        if not 0 <= getattr(options, name) < math.inf:
            raise UserError(f"--{name} must be 0 or more, not {getattr(options, name)}")
    if not 0 <= options.recoveries <= 1:
        raise UserError(f"--recoveries must be between 0 and 1, not {options.recoveries}")
    as_action(contract, np.zeros(4))
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    if any(output.glob("episode_*")):
        raise UserError(f"folder {output} holds episodes already: name another one")
    start = time.monotonic()
    workers = min(options.workers, options.episodes)
    print(f"collect: {options.episodes} episodes of '{contract.name}' into {output} ({workers} simulators)", flush=True)
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_worker, args=(options, worker, workers), name=f"collect-{worker}")
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    if any(process.exitcode for process in processes):
        raise UserError("a simulator stopped early (its line is above); what was recorded stays")
    print(f"collect: done in {time.monotonic() - start:.0f} s", flush=True)
    return 0


def _worker(options: argparse.Namespace, worker: int, workers: int) -> None:
    """Record every ``workers``-th episode in a domain of our own."""
    sys.exit(run(lambda: _record(options, worker, workers)))


def _record(options: argparse.Namespace, worker: int, workers: int) -> int:
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session, local_environment

    contract = Contract.load(options.contract)
    environment = local_environment(worker)
    os.environ.update(environment)
    parts = options.output / f".worker_{worker}"
    with Nodes(environment) as nodes:
        nodes.start("sim_node", {"contract": options.contract, "lockstep": True, "pads": options.pads})
        recorder = {"contract": options.contract, "directory": parts, "operator": "expert", "use_sim_time": True}
        nodes.start("recorder_node", {**recorder, "compress": True})  # in lockstep nothing comes too fast for it
        with Session(contract, "collect", nodes.check) as session:
            _episodes(session, options, worker, workers, parts)
        nodes.check()
    shutil.rmtree(parts, ignore_errors=True)
    return 0


def _episodes(session: Any, options: argparse.Namespace, worker: int, workers: int, parts: Path) -> None:
    """The episodes of one worker."""
    from std_srvs.srv import SetBool, Trigger

    from robovlm_ros.sim.measure import Moment, find_scene
    from robovlm_ros.sim.tasks import parse_order, sample_instruction
    from robovlm_ros.sim.world import Tabletop

    node = session.node
    start = node.create_client(Trigger, "/recorder_node/start")
    stop = node.create_client(Trigger, "/recorder_node/stop")
    mark = node.create_client(SetBool, "/recorder_node/mark")
    publish = CommandPublisher(session)
    scenes = Tabletop(session.contract, pads=options.pads)
    tasks = choose_tasks(options.task)

    def look(seed: int) -> Moment:
        scenes.reset(seed)
        return Moment(tool=scenes.tool_position, opening=0.0, blocks=scenes.blocks, pads=scenes.pads)

    session.wait(start.service_is_ready, 20.0, "the recorder")
    session.reset(options.seed)  # from here on the recorder, too, knows the simulator's time
    succeeded = 0
    for number, index in enumerate(range(worker, options.episodes, workers), start=1):
        task = tasks[index % len(tasks)]
        seed, moment, colours = find_scene(options.seed + index, [task], look)
        rng = np.random.default_rng(seed)
        instruction = sample_instruction(colours, rng, task=task, pads=[pad.colour for pad in moment.pads])
        order = parse_order(instruction)
        session.instruct("")
        session.instruct(instruction)
        astray = _is_astray(session, publish, order, seed, options)
        session.trigger(start)
        if not astray:
            session.reset(seed)
        success = _demonstrate(session, publish, order, rng, options)
        succeeded += success
        session.call(mark, SetBool.Request(data=success), "the recorder's mark")
        episode = Path(session.trigger(stop))
        episode.rename(options.output / f"episode_{index:05d}")
        if number % 25 == 0 or index + workers >= options.episodes:
            done = len(range(worker, options.episodes, workers))
            print(f"collect[{worker}]: {number}/{done} episodes, {succeeded} succeeded", flush=True)


def _is_astray(session: Any, publish: CommandPublisher, order: Order, seed: int, options: argparse.Namespace) -> bool:
    """Whether this episode shall begin after a miss; if so the tool is taken low beside the block, unrecorded.

    Where a policy goes down in the wrong place it needs to have seen what to do there; a demonstration that goes
    well never shows it.
    """
    from robovlm_ros.sim.measure import possible
    from robovlm_ros.sim.tasks import find_block

    rng = np.random.default_rng((seed, _ASTRAY))
    if rng.random() >= options.recoveries:
        return False
    session.reset(seed)
    middle = find_block(session.moment().blocks, order.colour).position
    angle, away = rng.uniform(0.0, 2 * math.pi), rng.uniform(*_ASTRAY_M)
    spot = np.array([*(middle[:2] + away * np.array([math.cos(angle), math.sin(angle)])), rng.uniform(*_ASTRAY_LOW_M)])
    gripper = float(rng.integers(2))
    for place in (np.append(spot[:2], _ASTRAY_HIGH_M), spot):  # (3,) over the blocks, then down
        for _ in range(_ASTRAY_STEPS):
            stamp, tool = session.seen_ns, session.moment().tool
            way = place - tool
            if np.linalg.norm(way) < 0.01:
                break
            step = way * min(1.0, _ASTRAY_STEP_M / float(np.linalg.norm(way)))
            publish(as_action(session.contract, np.append(tool + step, gripper)), stamp)
            session.wait(lambda stamp=stamp: session.seen_ns > stamp, 30.0, "the next observation")
    return order.colour in possible(order.task, session.moment())  # a neighbour may have been moved into the way


def _demonstrate(session: Any, publish: CommandPublisher, order: Order, rng: Any, options: argparse.Namespace) -> bool:
    """Let the expert answer each observation with one command until the task is done, and stays done."""
    from robovlm_ros.sim.manipulation import Expert
    from robovlm_ros.sim.measure import judge

    expert, start = Expert(rng, noise=options.noise), session.moment()
    verdict = judge(order, start, start)
    patience = PUSH_ON_STEPS if order.task.direction else SETTLE_STEPS
    done = 0
    for _ in range(options.steps):
        stamp = session.seen_ns
        publish(as_action(session.contract, expert.act(session.moment(), order)), stamp)
        session.wait(lambda stamp=stamp: session.seen_ns > stamp, 30.0, "the next observation")
        verdict = judge(order, start, session.moment())
        done += verdict.distance_m < 0.015 if order.task is REACH else verdict.success
        if done > patience:
            break
    return verdict.success


class CommandPublisher:
    """Publishes an action on the contract's command topics."""

    def __init__(self, session: Any) -> None:
        self._contract: Contract = session.contract
        self._topics = []
        for command in self._contract.commands:
            message = message_class(command.type)
            self._topics.append((command, message, session.node.create_publisher(message, command.topic, 10)))

    def __call__(self, action: NDArray[np.float64], stamp_ns: int) -> None:
        """Publish (action_dim,) absolute values, stamped."""
        first = 0
        for command, message, publisher in self._topics:
            values = action[first : first + len(command.dims)]
            publisher.publish(fill_command(message(), command, values, stamp_ns, self._contract.step_ns))
            first += len(command.dims)


if __name__ == "__main__":
    sys.exit(main())
