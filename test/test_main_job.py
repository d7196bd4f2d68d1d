"""The main job, with the shipped checkpoint and the real nodes: a simulated robot obeys an instruction."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command: object, seconds: float = 100.0) -> subprocess.CompletedProcess[str]:
    """A command of this package, as a person would type it."""
    return subprocess.run(
        [str(BIN / str(command[0])), *map(str, command[1:])],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        check=False,
    )


def test_the_shipped_policy_reaches_the_block_that_is_named(domain_id: int, tmp_path: Path) -> None:
    done = run("evaluate", "--episodes", 6, "--seed", 77, "--lockstep", "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["episodes"], result["mode"]) == (6, "lockstep")
    assert result["success_rate"] >= 5 / 6
    assert result["wrong_target_rate"] <= 1 / 6
    assert result["no_language_success_rate"] < result["success_rate"]


def test_the_shipped_policy_of_all_tasks_does_most_of_them(domain_id: int, tmp_path: Path) -> None:
    done = run(
        *("evaluate", "--checkpoint", "tabletop_tasks", "--task", "all", "--episodes", 1, "--seed", 77),
        *("--lockstep", "--no-control", "--json", tmp_path / "result.json"),
        seconds=180.0,
    )
    assert done.returncode == 0, done.stderr
    tasks = json.loads((tmp_path / "result.json").read_text())["tasks"]
    assert list(tasks) == ["reach", "push_left", "push_right", "lift", "put"]
    assert sum(rates["success_rate"] for rates in tasks.values()) >= 3
    assert done.stdout.count("so far") == 5


def test_the_demo_says_what_it_does_writes_a_film_and_ends_with_ctrl_c(domain_id: int, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    process = subprocess.Popen(
        [BIN / "ros2", "launch", "robovlm_ros", "policy.launch.py", "demo:=true", f"film:={film}", "record:=false"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        end = time.monotonic() + 90
        for line in process.stdout:
            lines.append(line)
            if "2 of 2 reached" in line or "of 3 reached" in line or time.monotonic() > end:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    said = "".join(lines) + rest
    assert 'instruction: "' in said
    assert "reached: " in said, said
    assert str(film) in said
    assert "Traceback" not in said
    assert process.returncode == 0
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 10


def test_a_changed_instruction_turns_the_arm_and_latency_is_reported(domain_id: int, tmp_path: Path) -> None:
    done = run(
        *("evaluate", "--episodes", 1, "--no-control", "--reactions", 2, "--seed", 78),
        *("--json", tmp_path / "result.json", "--video", tmp_path / "film.gif"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["mode"] == "realtime"
    assert result["reaction_s"]["changes"] == 2
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert (tmp_path / "film.gif").stat().st_size > 10_000


def test_collected_episodes_are_ordinary_bags(domain_id: int, tmp_path: Path) -> None:
    from mcap.reader import make_reader
    from rosbags.highlevel import AnyReader

    assert run("collect", "--output", tmp_path, "--episodes", 2).returncode == 0
    episodes = sorted(tmp_path.iterdir())
    assert [episode.name for episode in episodes] == ["episode_00000", "episode_00001"]
    for episode in episodes:
        with AnyReader([episode]) as reader:
            topics = {connection.topic for connection in reader.connections}
            count = reader.message_count
        assert {"/camera/image_raw", "/joint_states", "/ee_pose", "/instruction", "/arm/target_pose"} <= topics
        with next(episode.glob("*.mcap")).open("rb") as stream:
            summary = make_reader(stream).get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == count


def test_demonstrations_can_begin_after_a_miss_and_show_how_to_recover(domain_id: int, tmp_path: Path) -> None:
    from robovlm_ros.bags.reader import list_episodes, observations, read_episode

    done = run("collect", "--output", tmp_path, "--task", "push", "--episodes", 2, "--recoveries", 1)
    assert done.returncode == 0, done.stderr
    for episode in map(read_episode, list_episodes(tmp_path)):
        height = episode.contract.state_names.index("ee.z")
        heights = [step.observation.state[height] for step in observations(episode, cameras=["static"])]
        assert heights[0] < 0.075 < max(heights)  # it begins low, and goes up to come down anew
        assert episode.outcome == "success"


def test_a_command_that_is_terminated_takes_its_nodes_along(domain_id: int, tmp_path: Path) -> None:
    process = subprocess.Popen([BIN / "collect", "--output", tmp_path / "first", "--episodes", "100"])
    end = time.monotonic() + 60
    while not (tmp_path / "first" / "episode_00000").exists() and time.monotonic() < end:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(30) == 130
    # a simulator that had stayed would not let another one into its domain
    done = run("collect", "--output", tmp_path / "second", "--episodes", 1)
    assert done.returncode == 0, done.stderr


BAD_INPUT = {
    "a missing checkpoint": (["evaluate", "--checkpoint", "nowhere"], "nowhere"),
    "an unknown contract": (["collect", "--output", "{tmp}", "--contract", "nobody"], "tabletop"),
    "a contract without a simulator": (["evaluate", "--contract", "{tmp}/robot.yaml"], "mujoco"),
    "no episodes": (
        ["finetune", "--episodes", "{tmp}", "--base", "{root}/checkpoints/tabletop_vlm", "--output", "{tmp}/new"],
        "episode",
    ),
    "an unreadable bag": (["inspect", "episodes", "{tmp}/bags"], "episode_bad"),
    "a film of unknown format": (["evaluate", "--video", "{tmp}/film.avi"], ".mp4"),
    "a bad domain": (["evaluate"], "ROS_DOMAIN_ID"),
    "a folder that holds episodes": (["collect", "--output", "{tmp}/bags"], "holds episodes already"),
    "a share that is none": (["collect", "--output", "{tmp}/new", "--recoveries", "40"], "between 0 and 1, not 40"),
    "a folder that is a file": (["collect", "--output", "{tmp}/robot.yaml"], "robot.yaml: File exists"),
    "results that cannot be written": (["evaluate", "--json", "{tmp}/robot.yaml/result.json"], "robot.yaml"),
    "an argument that is missing": (["collect"], "--output (see collect --help)"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_clear_line(
    case: str, domain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = (ROOT / "config" / "robots" / "tabletop.yaml").read_text()
    (tmp_path / "robot.yaml").write_text(contract.replace("simulator: mujoco", "simulator: none"))
    bad = tmp_path / "bags" / "episode_bad"
    bad.mkdir(parents=True)
    (bad / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 5}")
    if case == "a bad domain":
        monkeypatch.setenv("ROS_DOMAIN_ID", "seven")
    command, named = BAD_INPUT[case]
    done = run(*[part.format(tmp=tmp_path, root=ROOT) for part in command])
    assert done.returncode not in (0, 130)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert named in lines[0]


def test_a_domain_in_use_is_said_and_the_running_simulator_goes_on(domain_id: int) -> None:
    from robovlm_ros.cli.processes import Nodes
    from robovlm_ros.cli.session import Session
    from robovlm_ros.contract import Contract

    with Nodes() as nodes, Session(Contract.load("tabletop"), "tester", nodes.check) as session:
        nodes.start("sim_node", {})
        session.wait(lambda: session.time_ns > 0, 30.0, "the simulator")
        done = run("evaluate", "--episodes", 1, "--no-control")
        assert done.returncode == 1
        assert "sim_node" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        before = session.time_ns
        session.wait(lambda: session.time_ns > before, 5.0, "the running simulator")


@pytest.mark.parametrize(
    "script", ["figures.py", "what_is_learned.py", "demonstrations.py", "performance.py", "control.py"]
)
def test_figures_in_the_docs_are_those_that_were_measured(script: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
