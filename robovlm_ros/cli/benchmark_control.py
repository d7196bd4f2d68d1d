"""``benchmark control``: how steady the commands of a running policy node are, and how old what they rest on."""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.checkpoints import find_checkpoint, find_contract
from robovlm_ros.cli.command import Commands, HelpFormatter, needs_matplotlib, write_json
from robovlm_ros.cli.processes import Nodes
from robovlm_ros.cli.still_robot import StillRobot
from robovlm_ros.cli.traffic import Sender
from robovlm_ros.contract import Command, Contract
from robovlm_ros.errors import UserError

SETTLE_S = 2.0
"""What comes before is not measured: the first commands, discovery [s]."""
STALL_EVERY_S = 5.0
"""Time between the beginnings of two injected stalls [s]."""
STALL_BEGINS_S = 0.15
"""How long to wait for the inference that is to stall [s]: a bit more than a step."""
LATE = 1.5
"""An interval longer than this many periods has missed at least one."""
POLICY_S = 300.0
"""How long a policy may take to load, and to send its first command [s]."""


def add_command(commands: Commands) -> None:
    """Add ``control`` to the things that `benchmark` measures."""
    control = commands.add_parser(
        "control",
        help="the policy node: camera stamp to command, steadiness of the commands, stalls, load",
        description="A robot that stands still (cameras and state, in a process of its own) and the policy node run; a "
        "node of this process, with nothing else to do, takes the time at which each command arrives. Jitter is how "
        "far the time between two commands is from the period; a gap is that time itself; a period is missed when no "
        "command came in it. Latency is from the camera's stamp to the first command that rests on that image, by "
        "the policy node's own clock. Stalls are times for which inference computes without a result.",
        formatter_class=HelpFormatter,
    )
    control.add_argument("--checkpoint", default="tabletop", help="checkpoint: a folder or a shipped name")
    control.add_argument("--contract", default="", help="contract: a file or a shipped name; none: the checkpoint's")
    control.add_argument("--rate", type=float, default=100.0, help="commands per second [Hz]")
    control.add_argument("--seconds", type=float, default=60.0, help="how long to measure [s]")
    control.add_argument(
        "--stall-ms", type=float, default=0.0, help=f"length of a stall of inference, every {STALL_EVERY_S:g} s [ms]"
    )
    control.add_argument("--load", type=int, default=0, help="processes beside that keep a core busy each")
    control.add_argument("--strategy", default="first", help="how decisions become commands")
    control.add_argument("--instruction", default="reach the red block", help="what the policy is told")
    control.add_argument("--plot", type=Path, metavar="FILE", help="draw the time between commands (.png, .svg, .pdf)")
    control.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    control.set_defaults(command=_control)


@dataclass
class Arrivals:
    """When commands came."""

    received_ns: list[int] = field(default_factory=list)
    """By a steady clock of this process [ns]."""
    stamped_ns: list[int] = field(default_factory=list)
    """Header stamps: when each was made [ns]; none where the type has no header."""
    transport_ns: list[int] = field(default_factory=list)
    """From the header stamp to here [ns]."""
    stalls_ns: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of each injected stall, by the same steady clock [ns]."""


def _control(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.session import local_environment

    for name in ("seconds", "rate"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name} must be above 0, not {getattr(options, name)}")
    if options.load < 0 or not 0 <= options.stall_ms < 1e3 * (STALL_EVERY_S - 1):
        raise UserError(
            f"--load must be 0 or more and --stall-ms from 0 to below {1e3 * (STALL_EVERY_S - 1):g}, "
            f"not {options.load} and {options.stall_ms:g}"
        )
    if options.plot:
        needs_matplotlib()
    folder = find_checkpoint(options.checkpoint)
    values = find_contract(folder, options.contract).to_dict()
    contract = Contract.from_dict({**values, "command_rate_hz": options.rate})
    command = _watched(contract)
    environment = local_environment()
    os.environ.update(environment)
    with tempfile.TemporaryDirectory(prefix="benchmark_control_") as place, Nodes(environment) as nodes:
        robot = Path(place) / "robot.yaml"
        robot.write_text(yaml.safe_dump(contract.to_dict()), encoding="utf-8")
        parameters = {"checkpoint": folder, "contract": robot, "instruction": options.instruction}
        nodes.start("policy_node", {**parameters, "strategy": options.strategy})
        with Listener(command, nodes) as listener, Sender(StillRobot(robot=str(robot)), serialised=False) as sender:
            sender.wait(POLICY_S, nodes.check)
            sender.go(POLICY_S + options.seconds)
            listener.wait_for_commands(POLICY_S)
            with busy(options.load):
                arrivals = listener.during(options.seconds, options.stall_ms / 1e3)
            sender.end()
        nodes.end()
        said = [line for line in nodes.log("policy_node") if "camera stamp to command" in line]
    result = figures(arrivals, 1e9 / options.rate) | latency(said[-1] if said else "")
    settings = ("checkpoint", "rate", "stall_ms", "load", "strategy")
    result |= {name: getattr(options, name) for name in settings} | {"cores": os.cpu_count(), "topic": command.topic}
    _say(result)
    if options.plot:
        draw(arrivals, 1e9 / options.rate, options.plot)
    write_json(options.json, result)
    return 0


def _watched(contract: Contract) -> Command:
    """The command whose stream is measured: the first that is sent in every period."""
    for command in contract.commands:
        if command.trajectory != "chunk":
            return command
    raise UserError(
        f"contract '{contract.name}' sends only trajectories of whole chunks: they come when a decision does, and have "
        "no rate to be measured"
    )


class Listener:
    """A node that takes the time at which each command comes, and has stalls injected meanwhile."""

    def __init__(self, command: Command, nodes: Nodes) -> None:
        self._command, self._nodes = command, nodes
        self._arrivals = Arrivals()

    def __enter__(self) -> Listener:
        import rclpy
        from rcl_interfaces.srv import SetParameters
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile
        from rclpy.signals import SignalHandlerOptions

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("control_listener", context=self._context)
        kind = messages.message_class(self._command.type)
        self._node.create_subscription(kind, self._command.topic, self._receive, QoSProfile(depth=100))
        self._set = self._node.create_client(SetParameters, "/policy_node/set_parameters")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def wait_for_commands(self, seconds: float) -> None:
        """Wait for the first commands; UserError if none come."""
        end_s, check_s = time.monotonic() + seconds, 0.0
        while not self._arrivals.received_ns:
            if time.monotonic() > check_s:
                self._nodes.check()
                check_s = time.monotonic() + 1.0
            if time.monotonic() > end_s:
                raise UserError(f"no command came on {self._command.topic} within {seconds:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)

    def during(self, seconds: float, stall_s: float) -> Arrivals:
        """What arrives in that time, with stalls of inference of that length; the beginning is left out."""
        self._spin(SETTLE_S)
        self._arrivals = Arrivals()
        gc.collect()
        gc.disable()  # of this process: what is measured is the other
        try:
            end_s = time.monotonic() + seconds
            while stall_s and end_s - time.monotonic() > STALL_EVERY_S:
                self._spin(STALL_EVERY_S - stall_s - STALL_BEGINS_S)
                begin_ns = time.monotonic_ns()
                self._delay_inference(stall_s)
                self._spin(STALL_BEGINS_S)
                self._delay_inference(0.0)  # for the inference after the one that has begun meanwhile
                self._spin(stall_s)
                self._arrivals.stalls_ns.append((begin_ns, time.monotonic_ns()))
            self._spin(end_s - time.monotonic())
        finally:
            gc.enable()
        self._nodes.check()
        return self._arrivals

    def _delay_inference(self, seconds: float) -> None:
        from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
        from rcl_interfaces.srv import SetParameters

        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=seconds)
        self._set.call_async(SetParameters.Request(parameters=[Parameter(name="inference_delay_s", value=value)]))

    def _spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def _receive(self, message: Any) -> None:
        arrivals = self._arrivals
        arrivals.received_ns.append(time.monotonic_ns())
        stamp_ns = messages.stamp_ns(message)
        if stamp_ns is not None:
            arrivals.stamped_ns.append(stamp_ns)
            arrivals.transport_ns.append(time.time_ns() - stamp_ns)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but keep a core busy."""
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_burn, name="load", daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _burn() -> None:
    while True:
        sum(range(100_000))


def figures(arrivals: Arrivals, period_ns: float) -> dict[str, Any]:
    """How steady a stream of commands was; jitter, gaps and missed periods from when they arrived."""
    received = np.array(arrivals.received_ns, np.int64)  # (n,)
    if len(received) < 2:
        raise UserError(f"{len(received)} commands came: that is no stream")
    gaps = np.diff(received)  # (n - 1,) [ns]
    stalled = np.zeros(len(gaps), np.bool_)
    for begin_ns, end_ns in arrivals.stalls_ns:
        stalled |= (received[1:] >= begin_ns) & (received[:-1] <= end_ns)
    result: dict[str, Any] = {
        "seconds": round(float(received[-1] - received[0]) / 1e9, 3),
        "commands": len(received),
        "jitter_p50_ms": _percentile(np.abs(gaps - period_ns), 50),
        "jitter_p99_ms": _percentile(np.abs(gaps - period_ns), 99),
        "jitter_p999_ms": _percentile(np.abs(gaps - period_ns), 99.9),
        "max_gap_ms": _percentile(gaps, 100),
        "gaps_above_30_ms": int((gaps > 30e6).sum()),
        "missed_periods": int(_missed(gaps, period_ns)),
        "stalls": len(arrivals.stalls_ns),
    }
    if arrivals.stalls_ns:
        for name, chosen in (("in_stalls", gaps[stalled]), ("between_stalls", gaps[~stalled])):
            result[name] = {
                "intervals": len(chosen),
                "jitter_p99_ms": _percentile(np.abs(chosen - period_ns), 99),
                "max_gap_ms": _percentile(chosen, 100),
                "missed_periods": int(_missed(chosen, period_ns)),
            }
    if arrivals.stamped_ns:
        made = np.diff(np.array(arrivals.stamped_ns, np.int64))
        result["sent_jitter_p99_ms"] = _percentile(np.abs(made - period_ns), 99)
        result["sent_max_gap_ms"] = _percentile(made, 100)
        result["transport_p50_ms"] = _percentile(np.array(arrivals.transport_ns), 50)
        result["transport_p99_ms"] = _percentile(np.array(arrivals.transport_ns), 99)
    return result


def _missed(gaps: NDArray[np.int64], period_ns: float) -> int:
    """Periods in which nothing came."""
    return int(np.where(gaps > LATE * period_ns, np.round(gaps / period_ns) - 1, 0).sum())


def _percentile(values: NDArray[Any], rank: float) -> float:
    return round(float(np.percentile(values, rank)) / 1e6, 3) if len(values) else float("nan")


def latency(line: str) -> dict[str, float]:
    """Camera stamp to command [ms], from the policy's own line of statistics; UserError where it measured none."""
    number = "([0-9.]+) ms"
    found = re.search(
        rf"camera stamp to command p50 {number}, p99 {number}, p99.9 {number}, worst {number}; "
        rf"inference p50 {number}, p99 {number}",
        line,
    )
    if found is None:
        raise UserError("the policy node measured no latency: it made no decision")
    names = ("latency_p50_ms", "latency_p99_ms", "latency_p999_ms", "latency_max_ms")
    return dict(zip((*names, "inference_p50_ms", "inference_p99_ms"), map(float, found.groups()), strict=True))


def _say(result: dict[str, Any]) -> None:
    print(
        f"{result['commands']} commands in {result['seconds']:.1f} s at {result['rate']:g} Hz on {result['topic']}, "
        f"{result['stalls']} stalls of {result['stall_ms']:g} ms, load {result['load']}, {result['cores']} cores"
    )
    print(
        f"camera stamp to command: p50 {result['latency_p50_ms']:.1f} ms, p99 {result['latency_p99_ms']:.1f} ms, "
        f"p99.9 {result['latency_p999_ms']:.1f} ms"
    )
    print(
        f"jitter: p50 {result['jitter_p50_ms']:.2f} ms, p99 {result['jitter_p99_ms']:.2f} ms, p99.9 "
        f"{result['jitter_p999_ms']:.2f} ms; longest gap {result['max_gap_ms']:.1f} ms; missed periods "
        f"{result['missed_periods']}"
    )
    for name in ("in_stalls", "between_stalls"):
        if name in result:
            part = result[name]
            print(
                f"{name.replace('_', ' ')}: jitter p99 {part['jitter_p99_ms']:.2f} ms, longest gap "
                f"{part['max_gap_ms']:.1f} ms, missed periods {part['missed_periods']}"
            )


def draw(arrivals: Arrivals, period_ns: float, path: Path) -> None:
    """The time between commands over the run, with the stalls shaded, and how it is spread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    received = np.array(arrivals.received_ns, np.int64)
    gaps_ms = np.diff(received) / 1e6
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    over, spread = figure.subplots(2, 1)
    for begin_ns, end_ns in arrivals.stalls_ns:
        over.axvspan((begin_ns - received[0]) / 1e9, (end_ns - received[0]) / 1e9, color="tab:orange", alpha=0.3, lw=0)
    over.plot((received[1:] - received[0]) / 1e9, gaps_ms, ".", markersize=2)
    over.set(xlabel="time [s]", ylabel="time between commands [ms]", ylim=(0, max(3 * period_ns / 1e6, gaps_ms.max())))
    spread.hist(gaps_ms, bins=200, log=True)
    spread.axvline(period_ns / 1e6, color="black", lw=0.8)
    spread.set(xlabel="time between commands [ms]", ylabel="commands")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
