"""Inject faults into the running policy node, and see that each reaches its safe state in time, with its message.

``python tools/faults.py --json FILE --page docs/control.md`` runs the real node on real topics with a robot of its own,
which stands still and can be broken in any way. A fault passes when what must not be sent was sent for no longer than
the configuration allows (and MARGIN_S, for the scheduler of a busy machine), when the node said what a person needs to
hear, and, where the fault can pass, when commands went on by themselves afterwards. Exits with 1 if a row fails.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from faulty_robot import Robot
from pages import fill

from robovlm_ros.checkpoints import find_checkpoint
from robovlm_ros.cli.command import parser, print_rows, run, write_json
from robovlm_ros.cli.processes import Nodes
from robovlm_ros.cli.session import local_environment
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

MARGIN_S = 0.25
"""Beside the time that the configuration names: two periods of the camera, and the machine's own delays [s]."""
QUIET_S = 0.6
"""For this long there must be silence behind the time that a fault is given [s]."""
READY_S = 120.0
"""How long a policy may take to load [s]."""
FROZEN_S = 0.5
"""``max_frozen_s`` of the robot's camera [s]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What one fault led to."""

    fault: str
    """What was broken."""
    safe: str
    """The safe state."""
    limit_s: float
    """Time that the configuration gives [s]."""
    took_s: float
    """Time until the last command that should not have been sent [s]."""
    said: str
    """What the node said."""
    passed: bool
    """In time, with its message, and well again where it can be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A way to break the robot while the policy follows an instruction."""

    name: str
    breaks: Callable[[Robot], object]
    mends: Callable[[Robot], object] | None
    """None: it does not pass."""
    limit_s: Callable[[Contract], float]
    says: str
    """What must be said: a regular expression."""
    safe: str = "holds"


def _set(**values: Any) -> Callable[[Robot], None]:
    def act(robot: Robot) -> None:
        for name, value in values.items():
            setattr(robot, name, value)

    return act


def _state_age(contract: Contract) -> float:
    return min(source.max_age_s for source in contract.state)


def _go_on(robot: Robot) -> None:
    robot.emergency(False)
    time.sleep(0.3)
    for name in ("reset", "start"):
        robot.call(name)


CHUNK_S = 1.0
"""``max_chunk_age_s`` of the policy node [s]."""
FAULTS = (
    Fault(
        name="camera stops", breaks=_set(sees=False), mends=_set(sees=True),
        limit_s=lambda c: c.cameras[0].max_age_s, says="newest sample of 'static' is",
    ),
    Fault(
        name="camera freezes: the same image, with new stamps", breaks=_set(frozen=True), mends=_set(frozen=False),
        limit_s=lambda c: c.cameras[0].max_frozen_s or 0.0, says="'static' shows the same image",
    ),
    Fault(
        name="state stops", breaks=_set(feels=False), mends=_set(feels=True), limit_s=_state_age,
        says="newest sample of 'joints' is",
    ),
    Fault(
        name="wrong joint names", breaks=_set(renamed=True), mends=_set(renamed=False), limit_s=_state_age,
        says="no joint 'joint_1' in the message",
    ),
    Fault(
        name="the robot's clock jumps 5 s ahead", breaks=_set(offset_ns=5 * 10**9), mends=_set(offset_ns=0),
        limit_s=lambda c: CHUNK_S, says="no decision is recent enough",
    ),
    Fault(
        name="the robot's clock jumps 5 s back", breaks=_set(offset_ns=-5 * 10**9), mends=_set(offset_ns=0),
        limit_s=_state_age, says="newest sample of 'static' is",
    ),
    Fault(
        name="inference stalls", breaks=lambda robot: robot.set("inference_delay_s", 3.0),
        mends=lambda robot: robot.set("inference_delay_s", 0.0), limit_s=lambda c: CHUNK_S,
        says="no decision is recent enough",
    ),
    Fault(
        name="emergency stop, by topic", breaks=lambda robot: robot.emergency(True), mends=_go_on,
        limit_s=lambda c: 0.0, says=r"emergency stop \(/emergency_stop\)", safe="holds until ~/reset and ~/start",
    ),
    Fault(
        name="emergency stop, by service", breaks=lambda robot: robot.call("emergency_stop"), mends=_go_on,
        limit_s=lambda c: 0.0, says="emergency stop", safe="holds until ~/reset and ~/start",
    ),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    top = parser("faults.py", __doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--checkpoint", default="tabletop", help="the policy that is disturbed (default: tabletop)")
    top.add_argument("--only", nargs="*", default=[], metavar="WORD", help="only faults whose names have such a word")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, as JSON")
    top.add_argument("--page", type=Path, metavar="FILE", help="write the table there, between its marks")
    options = top.parse_args(arguments)
    return run(lambda: _inject(options))


def _inject(options: argparse.Namespace) -> int:
    folder = find_checkpoint(options.checkpoint)
    trained = yaml.safe_load((folder / "contract.yaml").read_text(encoding="utf-8"))
    environment = local_environment()
    os.environ.update(environment)
    rows: list[Row] = []

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    def say(row: Row) -> None:
        rows.append(row)
        print(
            f"{'passed' if row.passed else 'FAILED'}: {row.fault}: {row.took_s:.2f} s of {row.limit_s:g} s: {row.said}"
        )
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="faults_") as name:
        place = Path(name)
        contract = Contract.from_dict(trained)
        cameras = tuple(dataclasses.replace(camera, max_frozen_s=FROZEN_S) for camera in contract.cameras)
        contract = dataclasses.replace(contract, cameras=cameras)
        (place / "robot.yaml").write_text(yaml.safe_dump(contract.to_dict()), encoding="utf-8")
        shared = {"contract": place / "robot.yaml", "max_chunk_age_s": CHUNK_S}
        if any(wanted(fault.name) for fault in FAULTS) or wanted("instruction") or wanted("killed"):
            with policy(contract, environment, {**shared, "checkpoint": folder}) as robot:
                for fault in FAULTS:
                    if wanted(fault.name):
                        say(suffered(robot, fault))
                for text, said, words in (
                    ("x" * 1_000_000, "instruction of 1 MB", "refused an instruction of 1000000 characters"),
                    ("reach\x1b[2J\x07 it", "instruction of control characters", "control character"),
                ):
                    if wanted(said):
                        say(refused(robot, text, said, words))
                if wanted("policy killed"):
                    say(killed(robot))
        for spoil, function in ((_nan, unfit), (_hostile, hostile)):
            title = TITLES[function]
            if wanted(title):
                spoil(folder, place / "spoilt")
                with policy(contract, environment, {**shared, "checkpoint": place / "spoilt"}, obeyed=False) as robot:
                    say(function(robot, title))
        if wanted("simulator killed"):
            say(_simulator_killed(folder, environment))
        if wanted("launch"):
            say(_launched(environment))
    print()
    print_rows([["fault", "safe state", "within [s]", "took [s]", ""], *(_cells(row) for row in rows)], left=(0, 1))
    values = [dataclasses.asdict(row) for row in rows]
    write_json(options.json, {"checkpoint": options.checkpoint, "margin_s": MARGIN_S, "rows": values})
    if options.page:
        fill(options.page, {"faults": _table(rows)}, check=False)
    return 0 if rows and all(row.passed for row in rows) else 1


def _cells(row: Row) -> list[str]:
    return [row.fault, row.safe, f"{row.limit_s:g}", f"{row.took_s:.2f}", "passed" if row.passed else "FAILED"]


@contextlib.contextmanager
def policy(
    contract: Contract, environment: dict[str, str], parameters: dict[str, object], *, obeyed: bool = True
) -> Iterator[Robot]:
    """A policy node that follows an instruction, and its robot."""
    with Nodes(environment) as nodes:
        nodes.start("policy_node", parameters)
        robot = Robot(contract, nodes)
        try:
            robot.instruct("reach the red block")
            robot.wait(lambda: nodes.check() or bool(robot.said), "the policy's start", READY_S)
            if obeyed:
                robot.obeyed(READY_S)
            yield robot
        finally:
            robot.close()


def suffered(robot: Robot, fault: Fault) -> Row:
    """Break something, see that the robot holds in time and is told why, mend it, and see that it goes on."""
    robot.obeyed()
    limit_s = fault.limit_s(robot.contract)
    begin_s = time.monotonic()
    fault.breaks(robot)
    time.sleep(limit_s + MARGIN_S + QUIET_S)
    took_s, quiet_s = _last(robot, begin_s)
    said = _heard(robot, fault.says, begin_s)
    mended = True
    if fault.mends is not None:
        fault.mends(robot)
        with contextlib.suppress(UserError):
            robot.obeyed(8.0)
        mended = time.monotonic() - robot.commands[-1][0] < 0.2
    good = took_s <= limit_s + MARGIN_S and quiet_s >= QUIET_S / 2 and bool(said) and mended
    safe = fault.safe + ("" if fault.mends is None or fault.mends is _go_on else ", then goes on")
    return Row(fault=fault.name, safe=safe, limit_s=limit_s, took_s=took_s, said=said, passed=good)


def refused(robot: Robot, text: str, name: str, words: str) -> Row:
    """An instruction that nobody means is refused; the one before it holds."""
    robot.obeyed()
    begin_s = time.monotonic()
    robot.instruct(text)
    with contextlib.suppress(UserError):
        robot.wait(lambda: any(words in line for line in robot.nodes.log("policy_node")), "the refusal")
    took_s = time.monotonic() - begin_s
    found = [line for line in robot.nodes.log("policy_node") if words in line]
    with contextlib.suppress(UserError):
        robot.obeyed(3.0)
    heard = _heard(robot, "following 'reach the red block'", begin_s, wait_s=2.0)
    said = found[-1].partition("]: ")[2] if found else ""
    good = bool(found) and bool(heard) and took_s <= 1.0 + MARGIN_S
    safe = "refused; the one before it holds"
    return Row(fault=name, safe=safe, limit_s=1.0, took_s=took_s, said=said, passed=good)


def killed(robot: Robot) -> Row:
    """The policy's process ends at once: nobody commands the robot."""
    robot.obeyed()
    begin_s = time.monotonic()
    robot.nodes.kill("policy_node")
    time.sleep(MARGIN_S + QUIET_S)
    took_s, quiet_s = _last(robot, begin_s)
    said = ""
    try:
        robot.nodes.check()
    except UserError as error:
        said = str(error).partition(":")[0]
    good = took_s <= MARGIN_S and quiet_s >= QUIET_S / 2 and bool(said)
    return Row(fault="policy killed", safe="nothing is sent", limit_s=0.0, took_s=took_s, said=said, passed=good)


def unfit(robot: Robot, name: str) -> Row:
    """Weights that are not numbers: never a command."""
    said = _heard(robot, "no finite number", 0.0, wait_s=10.0)
    took_s = 0.0 if not robot.commands else float("inf")
    passed = bool(said) and not robot.commands
    return Row(fault=name, safe="nothing is ever sent", limit_s=0.0, took_s=took_s, said=said, passed=passed)


def hostile(robot: Robot, name: str) -> Row:
    """A policy that wants to go where it must not, faster than it may."""
    robot.obeyed(20.0)
    time.sleep(1.0)
    command = robot.contract.commands[0]
    sent = np.array([values for _, values in robot.commands])  # (n, dims)
    limits = np.array([dim.limits for dim in command.dims])  # (dims, 2)
    fastest = np.array([dim.max_velocity or np.inf for dim in command.dims])  # (dims,)
    reach = 2.0 / robot.contract.command_rate_hz * fastest  # a late command may make good for one period
    inside = bool(((sent >= limits[:, 0]) & (sent <= limits[:, 1])).all())
    slow = bool((np.abs(np.diff(sent, axis=0)) <= reach + 1e-9).all())
    moved = bool((sent[-1] == limits[:, 0]).any() or (sent[-1] == limits[:, 1]).any())
    said = _heard(robot, r"interventions: .*(limit|velocity) \d+", 0.0)
    passed = inside and slow and moved and bool(said)
    safe = "limited in position and velocity"
    return Row(fault=name, safe=safe, limit_s=0.0, took_s=0.0, said=said, passed=passed)


TITLES: dict[Callable[..., Row], str] = {
    unfit: "weights that are not numbers",
    hostile: "a hostile policy wants to be far outside of the limits at once",
}


def _simulator_killed(folder: Path, environment: dict[str, str]) -> Row:
    """The simulated robot dies: no camera and no state."""
    contract = Contract.load("tabletop")
    with Nodes(environment) as nodes:
        nodes.start("sim_node", {"contract": "tabletop"})
        nodes.start("policy_node", {"checkpoint": folder})
        robot = Robot(contract, nodes)
        robot.sees = robot.feels = False
        try:
            robot.instruct("reach the red block")
            robot.obeyed(READY_S)
            begin_s = time.monotonic()
            nodes.kill("sim_node")
            limit_s = contract.cameras[0].max_age_s
            time.sleep(limit_s + MARGIN_S + QUIET_S)
            took_s, quiet_s = _last(robot, begin_s)
            said = _heard(robot, "newest sample of 'static' is", begin_s)
        finally:
            robot.close()
    good = took_s <= limit_s + MARGIN_S and quiet_s >= QUIET_S / 2 and bool(said)
    return Row(fault="simulator killed", safe="holds", limit_s=limit_s, took_s=took_s, said=said, passed=good)


def _launched(environment: dict[str, str]) -> Row:
    """Of a launch, the policy is killed: all of it ends, with a line."""
    root = Path(__file__).resolve().parent.parent
    ros2 = Path(sys.executable).with_name("ros2")
    command = [str(ros2) if ros2.exists() else "ros2", "launch", str(root / "launch" / "policy.launch.py")]
    with subprocess.Popen(
        [*command, "record:=false", "instruction:=reach the red block"],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(READY_S, process.kill)
        watchdog.start()
        pid, begin_s, said = 0, 0.0, ""
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"\[policy_node-\d+\]: process started with pid \[(\d+)\]", line)
            pid = int(found[1]) if found else pid
            if "following 'reach the red block'" in line and pid:
                begin_s = time.monotonic()
                os.kill(pid, 9)
            if "process has died" in line and "policy_node" in line:
                said = line.partition("]: ")[2].partition(", cmd")[0].strip()
        watchdog.cancel()
    took_s = time.monotonic() - begin_s if begin_s else float("inf")
    limit_s = 10.0  # what launch gives its processes to end
    name, safe = "policy killed, in policy.launch.py", "the launch ends"
    return Row(fault=name, safe=safe, limit_s=limit_s, took_s=took_s, said=said, passed=bool(said) and took_s < limit_s)


def _last(robot: Robot, begin_s: float) -> tuple[float, float]:
    """(time from the fault to the last command since, time since that one) [s]."""
    last_s = robot.commands[-1][0] if robot.commands else 0.0
    return max(last_s - begin_s, 0.0), time.monotonic() - last_s


def _heard(robot: Robot, words: str, since_s: float, wait_s: float = 2.0) -> str:
    """What the node has said that has these words; empty: nothing."""
    end_s = time.monotonic() + wait_s
    while True:
        found = [text for at, text in robot.said if at >= since_s and re.search(words, text)]
        if found or time.monotonic() > end_s:
            whole = found[0] if found else ""
            return whole if "interventions" in words else whole.partition("; interventions:")[0]
        time.sleep(0.05)


def _spoil(folder: Path, spoilt: Path, change: Callable[[Any], None]) -> None:
    from robovlm_ros.vlm.checkpoint import load_policy, save_policy

    model, processor = load_policy(folder, "cpu")
    change(model)
    save_policy(spoilt, model, processor)


def _nan(folder: Path, spoilt: Path) -> None:
    def change(model: Any) -> None:
        model.action_token.data[0, 0] = float("nan")

    _spoil(folder, spoilt, change)


def _hostile(folder: Path, spoilt: Path) -> None:
    def change(model: Any) -> None:
        scale = model.config.action_statistics["scale"]
        model.config.action_statistics["scale"] = [1000.0 * value for value in scale]

    _spoil(folder, spoilt, change)


def _table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| fault | safe state | within | took | what the node says | |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = "passed" if row.passed else "**failed**"
        said = row.said.replace("|", "\\|")
        lines.append(f"| {row.fault} | {row.safe} | {row.limit_s:g} s | {row.took_s:.2f} s | {said} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
