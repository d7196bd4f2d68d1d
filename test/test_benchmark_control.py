"""``benchmark control``: its figures, and the policy node's own words that it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robovlm_ros.action import ActionChunk
from robovlm_ros.cli.benchmark import main as benchmark
from robovlm_ros.cli.benchmark_control import Arrivals, figures, latency
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.diagnostics import in_words
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.control import Controller

MS = 1_000_000
KEYS = {"latency_p50_ms", "latency_p99_ms", "jitter_p99_ms", "max_gap_ms", "missed_periods", "seconds"}


def test_gaps_jitter_and_missed_periods_are_those_of_the_stream_and_stalls_have_their_own() -> None:
    steps = np.full(200, 10 * MS)
    steps[50], steps[51] = 32 * MS, 8 * MS  # two periods without a command, and then one that is early
    steps[150] = 14 * MS  # late, but not by a period
    received = 5_000 * MS + np.concatenate([[0], np.cumsum(steps)])
    stall = (int(received[140]), int(received[160]))
    found = figures(Arrivals(received_ns=received.tolist(), stalls_ns=[stall]), 10 * MS)
    assert (found["commands"], found["missed_periods"], found["max_gap_ms"]) == (201, 2, 32.0)
    assert (found["gaps_above_30_ms"], found["seconds"]) == (1, 2.024)
    assert found["jitter_p50_ms"] == 0.0
    assert found["in_stalls"]["max_gap_ms"] == 14.0
    assert found["in_stalls"]["missed_periods"] == 0
    assert found["between_stalls"]["max_gap_ms"] == 32.0
    assert found["in_stalls"]["intervals"] + found["between_stalls"]["intervals"] == 200


def test_one_command_is_no_stream() -> None:
    with pytest.raises(UserError, match="1 commands came: that is no stream"):
        figures(Arrivals(received_ns=[1]), 10 * MS)


def test_latency_is_read_from_what_the_policy_node_says_of_its_run() -> None:
    contract = Contract.load("tabletop")
    controller = Controller(contract, max_chunk_age_ns=10**9, lockstep=False, now_ns=0)
    with pytest.raises(UserError, match="measured no latency"):
        latency(in_words(controller.figures(1)))
    controller.instruct("go")
    state = np.zeros(len(contract.state_names), np.float32)
    for i in range(4):
        chunk = ActionChunk(actions=np.zeros((1, 4)), due_ns=np.array([i * MS]), instruction="go")
        seen = Observation(stamp_ns=i * MS, images={}, state=state, instruction="go")
        controller.decided(chunk, seen, 7 * MS)
        controller.sent((i + 20) * MS)
    found = latency(in_words(controller.figures(10**9)))
    assert found["latency_p50_ms"] == found["latency_p999_ms"] == found["latency_max_ms"] == 20.0
    assert found["inference_p99_ms"] == 7.0


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--load", "-1"], "--load must be 0 or more"),
        (["--stall-ms", "4500"], "--stall-ms from 0 to below 4000"),
        (["--contract", "arm7_trajectory"], "does not fit"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    option: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(["control", *option]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.slow
def test_commands_of_the_shipped_policy_come_at_100_hz_through_stalls_of_inference(
    domain_id: int, tmp_path: Path
) -> None:
    report, plot = tmp_path / "report.json", tmp_path / "plot.png"
    options = ["--seconds", "11", "--stall-ms", "500", "--json", str(report), "--plot", str(plot)]
    subprocess.run([sys.executable, "-m", "robovlm_ros.cli.benchmark", "control", *options], check=True, timeout=300)
    result = json.loads(report.read_text())
    assert result.keys() >= KEYS
    assert result["stalls"] == 2
    assert result["commands"] + result["missed_periods"] == pytest.approx(100 * result["seconds"], rel=0.02)
    assert result["latency_max_ms"] > 500
    assert result["in_stalls"]["max_gap_ms"] < 500  # while inference stood still, commands went on
    assert plot.stat().st_size > 10_000
